"""Where compiled kernels are kept: in the user's cache folder, for all copies of srste on a machine.

Numba's own place is beside the source, so that every checkout and environment would compile anew, for
seconds. What the code depends on is in the name of the folder: the kernels' sources, the versions of the
compiler, and the CPU.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding as llvm
import numba
import numpy as np
from numba.core.caching import _CacheLocator

from srste.curve.engine import layout
from srste.user_cache import user_cache


@cache
def digest() -> str:
    """Return a hash of the kind of CPU, the compiler's versions and all kernels' sources.

    Numba renews a kernel when its own file changes, but not when another one does that it calls; and the
    nodes of a cluster share a folder, where of two that compile at the same time one could file its code
    under the other's name.
    """
    of = hashlib.sha256(llvm.get_host_cpu_name().encode())
    of.update(f"{numba.__version__} {llvmlite.__version__} {np.__version__}".encode())
    of.update(llvm.get_host_cpu_features().flatten().encode())
    for source in (Path(layout.__file__), *sorted(Path(__file__).parent.glob("*.py"))):
        of.update(source.read_bytes())
    return of.hexdigest()[:8]


class KernelLocator(_CacheLocator):
    """Numba's locator of the folder of a kernel's compiled code."""

    def __init__(self, function: Callable[..., object]) -> None:
        self._line = function.__code__.co_firstlineno

    @classmethod
    def from_function(cls, py_func: Callable[..., object], py_file: str) -> KernelLocator | None:
        """Return the locator; None where nothing can be kept there, for Numba to look elsewhere."""
        locator = cls(py_func)
        try:
            locator.ensure_cache_path()  # type: ignore[no-untyped-call]
        except (OSError, RuntimeError):
            return None
        return locator

    def get_cache_path(self) -> str:
        return str(user_cache() / f"kernels-{digest()}")

    def get_source_stamp(self) -> str:
        return digest()

    def get_disambiguator(self) -> str:
        return str(self._line)


@contextmanager
def in_user_cache() -> Iterator[None]:
    """Let functions that are compiled within the block be kept in the user's cache folder, unless
    NUMBA_CACHE_DIR names another one, or this Numba is older than such a choice."""
    config: Any = numba.config
    if config.CACHE_DIR or getattr(config, "CACHE_LOCATOR_CLASSES", None) != "":
        yield
        return
    ours = f"{KernelLocator.__module__}.{KernelLocator.__qualname__}"
    config.CACHE_LOCATOR_CLASSES = f"{ours},InTreeCacheLocator,UserWideCacheLocator"
    try:
        yield
    finally:
        config.CACHE_LOCATOR_CLASSES = ""
