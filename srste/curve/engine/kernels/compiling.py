"""How the loops of the loss curve are compiled, and where compiled code is kept."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast, get_args, get_origin, get_type_hints

import llvmlite.binding as llvm
import numba
import numpy as np
from numba import types

from srste.curve.engine import layout

Kernel = TypeVar("Kernel", bound=Callable[..., object])


def _digest() -> str:
    """Of the kind of CPU and of all kernels' sources. Numba renews a kernel when its own file changes,
    but not when another one does that it calls; and the nodes of a cluster share a folder, where of two
    that compile at the same time one could file its code under the other's name."""
    digest = hashlib.sha256(llvm.get_host_cpu_name().encode())
    digest.update(llvm.get_host_cpu_features().flatten().encode())
    for source in (Path(layout.__file__), *sorted(Path(__file__).parent.glob("*.py"))):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:8]


_DIGEST = _digest()
_SCALARS = {
    float: types.float64,
    int: types.int64,
    bool: types.boolean,
    np.uint64: types.uint64,
    type(None): types.void,
}


def numba_type(hint: Any) -> Any:
    """The Numba type of an annotation: a scalar, an array or a tuple of `srste.curve.engine.layout`."""
    if get_origin(hint) is Annotated:
        return hint.__metadata__[0]
    if get_origin(hint) is tuple:
        anonymous_tuple: Any = types.Tuple
        return anonymous_tuple([numba_type(element) for element in get_args(hint)])
    if hasattr(hint, "_fields"):
        hints = get_type_hints(hint, include_extras=True)
        named_tuple: Any = types.NamedTuple
        return named_tuple([numba_type(hints[name]) for name in hint._fields], hint)
    return _SCALARS[hint]


def compiled(function: Kernel) -> Kernel:
    """Compiles a function for the types in its annotations, or takes what an earlier process has left in
    the cache.

    It runs beside other threads. Division is IEEE's and there is no fast-math: the same inputs give the
    same bits.
    """
    hints = get_type_hints(function, include_extras=True)
    returns = numba_type(hints.pop("return"))
    signature = returns(*map(numba_type, hints.values()))
    function.__qualname__ += f"-{_DIGEST}"
    try:
        kernel = numba.njit(signature, error_model="numpy", nogil=True, cache=True)(function)
    except Exception:  # Nowhere to write, a full disk, a damaged file: for this process alone, then.
        kernel = numba.njit(signature, error_model="numpy", nogil=True)(function)
    return cast(Kernel, kernel)


def inlined(function: Kernel) -> Kernel:
    """Mark a part of kernels, compiled into each one that calls it."""
    return cast(Kernel, numba.njit(error_model="numpy", forceinline=True)(function))


@inlined
def grown(rows: layout.Matrix, count: int, least: int) -> layout.Matrix:
    """Return a matrix with room for twice ``least`` rows, the first ``count`` of them copied."""
    larger = np.empty((max(1024, 2 * least), rows.shape[1]))
    larger[:count] = rows[:count]
    return larger
