"""Consoles: what is printed is printed as it is."""

from __future__ import annotations

import sys
from typing import IO

from rich.console import Console

AS_WIDE_AS_IT_IS = 10_000
"""The width of a table that goes into a file."""


def console(file: IO[str] | None = None, narrow: int = AS_WIDE_AS_IT_IS) -> Console:
    """A console on standard output or another stream.

    Names, paths and messages come from outside: brackets in them are no markup, numbers in them are not
    coloured, and in a notebook they are the same plain text as in a shell.

    Args: narrow: the width where the stream is no terminal; a terminal has its own.
    """
    stream = sys.stdout if file is None else file
    screen = stream.isatty()
    # Jupyter sets FORCE_COLOR, on which rich would take any stream for a screen and draw bars on it.
    return Console(
        file=stream, force_terminal=screen, width=None if screen else narrow, markup=False, emoji=False,
        highlight=False, force_jupyter=False,
    )  # fmt: skip
