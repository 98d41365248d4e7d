"""How the loops of the loss curve are compiled, and where compiled code is kept."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, cast

import llvmlite.binding as llvm
import numba

Kernel = TypeVar("Kernel", bound=Callable[..., object])


def _digest() -> str:
    """Of the kind of CPU and of all kernels' sources. Numba renews a kernel when its own file changes,
    but not when another one does that it calls; and the nodes of a cluster share a folder, where of two
    that compile at the same time one could file its code under the other's name."""
    digest = hashlib.sha256(llvm.get_host_cpu_name().encode())
    digest.update(llvm.get_host_cpu_features().flatten().encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:8]


_DIGEST = _digest()


def compiled(signature: str, variant: str = "") -> Callable[[Kernel], Kernel]:
    """Compiles a function, or takes what an earlier process has left in the cache.

    variant: tells kernels of one source apart. Numba's cache numbers what lies under one name, and two
        processes that compile at the same time may give two of them the same number.

    It runs beside other threads. Division is IEEE's and there is no fast-math: the same inputs give the
    same bits.
    """

    def compile_it(function: Kernel) -> Kernel:
        function.__qualname__ += f"{variant}-{_DIGEST}"
        try:
            kernel = numba.njit(signature, error_model="numpy", nogil=True, cache=True)(function)
        except Exception:  # Nowhere to write, a full disk, a damaged file: for this process alone, then.
            kernel = numba.njit(signature, error_model="numpy", nogil=True)(function)
        return cast(Kernel, kernel)

    return compile_it


def part(function: Kernel) -> Kernel:
    """A part of kernels, compiled into each one that calls it."""
    return cast(Kernel, numba.njit(error_model="numpy", forceinline=True)(function))
