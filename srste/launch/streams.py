"""Standard streams that may end before the program does: a closed pipe, a full disk, none at all.

What is computed is on disk and has its files, its report and its runs whether or not anyone still reads
what is printed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import TextIOBase
from typing import TextIO, cast


def open_missing() -> None:
    """Opens what was closed when the program was started (``>&-``) on nothing, before a file that it
    opens gets that number and what is printed goes into it."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115, PTH123 - as long as the process


class Lasting(TextIOBase):
    """A text stream that goes on into nothing when the one below it has ended, and says what does not
    fit its encoding in escapes.

    ended: why it has ended; None as long as it has not.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.ended: str | None = None

    def write(self, text: str) -> int:
        if self.ended is None:
            try:
                self._write(text)
            except (OSError, ValueError) as error:  # ValueError: a stream that was closed
                self._end(error)
        return len(text)

    def _write(self, text: str) -> None:
        try:
            self.stream.write(text)
        except UnicodeEncodeError:
            encoding = self.stream.encoding or "ascii"
            self.stream.write(text.encode(encoding, "backslashreplace").decode(encoding))

    def flush(self) -> None:
        if self.ended is None:
            try:
                self.stream.flush()
            except (OSError, ValueError) as error:
                self._end(error)

    def _end(self, error: OSError | ValueError) -> None:
        self.ended = (error.strerror if isinstance(error, OSError) else None) or str(error)
        # What is still in its buffer goes nowhere, at the end of the program too.
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.stream.fileno())
            os.close(nowhere)

    def isatty(self) -> bool:
        with suppress(ValueError):
            return self.stream.isatty()
        return False

    def fileno(self) -> int:
        return self.stream.fileno()

    def writable(self) -> bool:
        return True

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self.stream.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        return "backslashreplace"


@contextmanager
def lasting(program: str) -> Iterator[None]:
    """While it lasts, standard output and standard error may end without an exception. The end of the
    first is told on the second, in the program's name."""
    before = sys.stdout, sys.stderr
    out, err = Lasting(sys.stdout), Lasting(sys.stderr)
    sys.stdout, sys.stderr = cast(TextIO, out), cast(TextIO, err)
    try:
        yield
    finally:
        out.flush()
        if out.ended is not None:
            lost = "what came after is not shown, and is done all the same"
            print(f"{program}: standard output ended early ({out.ended}): {lost}", file=err)
        err.flush()
        sys.stdout, sys.stderr = before
