"""Loads the kernels that every network needs, before they are asked for."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import srste
from srste.curve.engine.kernels.compiling import told


def load_kernels(tell: Callable[[], None]) -> None:
    """Load them from the cache. Where they are not in it they are compiled, which takes seconds: half of
    them by a second process, which leaves them in the cache.

    Args: tell: is called before anything is compiled.
    """
    others: list[subprocess.Popen[bytes]] = []

    def compile_others() -> None:
        tell()
        package = str(Path(srste.__file__).parent.parent)
        path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
        others.append(
            subprocess.Popen(
                [sys.executable, "-c", "import srste.curve.engine.kernels.piecewise"],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                env=os.environ | {"PYTHONPATH": path},
            )
        )  # fmt: skip

    try:
        with told(compile_others):
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
