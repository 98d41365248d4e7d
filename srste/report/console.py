"""Consoles that print text verbatim."""

import sys
from typing import IO

from rich.console import Console

UNLIMITED = 10_000
"""The width for tables in files."""


def console(file: IO[str] | None = None, narrow: int = UNLIMITED) -> Console:
    """Return a console on standard output or another stream.

    Names, paths and messages come from outside: brackets are no markup, numbers are not coloured,
    and a notebook gets the same plain text as a shell.

    Args: narrow: the width where the stream is no terminal.
    """
    stream = sys.stdout if file is None else file
    screen = stream.isatty()
    # Jupyter sets FORCE_COLOR, by which rich takes any stream for a terminal and draws bars on it.
    return Console(
        file=stream, force_terminal=screen, width=None if screen else narrow, markup=False, emoji=False,
        highlight=False, force_jupyter=False,
    )  # fmt: skip
