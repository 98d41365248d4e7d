"""The threads on which a curve is computed, and those of NumPy's products beneath them."""

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import cache
from itertools import pairwise
from typing import TypeVar

import torch
from threadpoolctl import LibController, ThreadpoolController

Result = TypeVar("Result")


def threads() -> int:
    """As many as PyTorch is set to use."""
    return torch.get_num_threads()


@cache
def _executor(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="loss-curve")


# A process that is forked has no threads but one, and would wait for the others for ever.
os.register_at_fork(after_in_child=_executor.cache_clear)


def in_threads(work: Callable[[int], Result], parts: int) -> list[Result]:
    """[work(0), ..., work(parts - 1)], the first one computed on this thread, each other on one more."""
    if parts == 1:
        return [work(0)]
    others = [_executor(parts - 1).submit(work, part) for part in range(1, parts)]
    try:
        first = work(0)
    finally:
        wait(others)  # they write into memory of the caller's
    return [first, *(other.result() for other in others)]


def shares(parts: int, count: int) -> list[range]:
    """The numbers 0, ..., count - 1 in runs of neighbours, one for each part."""
    bounds = [count * part // parts for part in range(parts + 1)]
    return [range(*pair) for pair in pairwise(bounds)]


@cache
def _blas() -> list[LibController]:
    controllers: list[LibController] = ThreadpoolController().select(user_api="blas").lib_controllers
    return controllers


_limiting = threading.Lock()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Have NumPy's products run on one thread each: blocks run in parallel already, and the threads of a
    small product wait for each other, on busy cores for long."""
    if not _limiting.acquire(blocking=False):
        yield  # a curve of another thread has set it, and sets it back
        return
    # By hand, as the library's own context manager takes longer than some of the products.
    before = [(library, library.num_threads) for library in _blas()]
    before = [(library, count) for library, count in before if count != 1]
    try:
        for library, _ in before:
            library.set_num_threads(1)
        yield
    finally:
        for library, count in before:
            library.set_num_threads(count)
        _limiting.release()
