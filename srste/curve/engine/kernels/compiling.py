"""How the loops of the loss curve are compiled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, TypeVar, cast, get_args, get_origin, get_type_hints

import numba
import numpy as np
from numba import types
from numba.core import event

from srste.curve.engine import layout
from srste.curve.engine.kernels.cache_folder import digest, in_user_cache

Kernel = TypeVar("Kernel", bound=Callable[..., object])


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
    function.__qualname__ += f"-{digest()}"
    try:
        with in_user_cache():
            kernel = numba.njit(signature, error_model="numpy", nogil=True, cache=True)(function)
    except Exception:  # Nowhere to write, a full disk, a damaged file: for this process alone, then.
        kernel = numba.njit(signature, error_model="numpy", nogil=True)(function)
    return cast(Kernel, kernel)


@contextmanager
def on_first_compilation(call: Callable[[], None]) -> Iterator[None]:
    """Call a function before Numba compiles for the first time within the block, rather than loads."""

    class First(event.Listener):
        def __init__(self) -> None:
            self.called = False

        def on_start(self, _: event.Event) -> None:
            if not self.called:
                self.called = True
                call()

        def on_end(self, _: event.Event) -> None:
            pass

    with event.install_listener("numba:compile", First()):
        yield


def inlined(function: Kernel) -> Kernel:
    """Mark a part of kernels, compiled into each one that calls it."""
    return cast(Kernel, numba.njit(error_model="numpy", forceinline=True)(function))


@inlined
def grown(rows: layout.Matrix, count: int, least: int) -> layout.Matrix:
    """Return a matrix with room for twice ``least`` rows, the first ``count`` of them copied."""
    larger = np.empty((max(1024, 2 * least), rows.shape[1]))
    for row in range(count):  # by hand: a slice takes four seconds to compile
        for column in range(rows.shape[1]):
            larger[row, column] = rows[row, column]
    return larger
