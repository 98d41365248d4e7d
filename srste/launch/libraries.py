"""Importing the libraries: a million objects, which Python's garbage collector is kept away from."""

import gc
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def importing() -> Iterator[None]:
    """Pause the garbage collector within the block, and, if modules were imported, let it pass over all
    objects there are at its end. The libraries make a million that live as long as the process: to look
    at them again and again takes a fifth of their imports, and half a second as the process ends."""
    enabled = gc.isenabled()
    gc.disable()
    before = len(sys.modules)
    try:
        with warnings.catch_warnings():
            # tqdm warns in a notebook without widgets, which are not used.
            warnings.filterwarnings("ignore", "IProgress not found")
            yield
    finally:
        if len(sys.modules) > before:
            gc.freeze()
        if enabled:
            gc.enable()


def ending() -> None:
    """Let Python end the process without looking for garbage."""
    gc.freeze()
