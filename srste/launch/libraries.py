"""Imports of the libraries: half a million objects that Python's garbage collector is to leave alone."""

import gc
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def importing() -> Iterator[None]:
    """Pause the garbage collector within the block, and, if modules were imported, let it pass over all
    objects there are at its end. Those of the libraries live as long as the process: to look at them
    again and again takes a tenth to a quarter of their imports, and a third of a second at the end."""
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
