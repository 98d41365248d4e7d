"""Loads the kernels that every network needs, before they are asked for."""

import subprocess
import sys
from collections.abc import Callable

from srste.curve.engine.kernels.compiling import on_first_compilation
from srste.subprocesses import environment_with_package


def load_kernels(tell: Callable[[], None]) -> None:
    """Load them from the cache. Where they are not in it they are compiled, which takes seconds: half of
    them by a second process, which leaves them in the cache.

    Args: tell: is called before anything is compiled.
    """
    others: list[subprocess.Popen[bytes]] = []

    def compile_others() -> None:
        tell()
        others.append(
            subprocess.Popen(
                [sys.executable, "-c", "import srste.curve.engine.kernels.piecewise"],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                env=environment_with_package(),
            )
        )  # fmt: skip

    try:
        with on_first_compilation(compile_others):
            from srste.curve.engine.kernels import adding, rounding  # noqa: F401
            from srste.curve.engine.kernels.follow import follow_kernel

            follow_kernel(is_chain=True)
        for other in others:
            other.wait()  # what it could not leave in the cache is compiled here
    except BaseException:
        for other in others:
            other.kill()
        raise
    from srste.curve.engine.kernels import piecewise  # noqa: F401
