"""Standard streams that may close before the program ends: a closed pipe, a full disk, none at all.

The files, the report and the runs of a launch are made whether or not its output is still read.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from io import TextIOBase
from typing import TextIO


def open_missing() -> None:
    """Open on the null device those standard streams that are closed (``>&-``): the next file to be
    opened would get such a stream's number, and what is printed would go into it."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115, PTH123 - as long as the process


class TolerantStream(TextIOBase):
    """A text stream that discards its output once the stream below it fails, and writes what does
    not fit that stream's encoding in escapes.

    failure: why it discards its output; None as long as it does not.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.failure: str | None = None

    def write(self, text: str) -> int:
        self._attempt(self._write, text)
        return len(text)

    def flush(self) -> None:
        self._attempt(self.stream.flush)

    def _write(self, text: str) -> None:
        try:
            self.stream.write(text)
        except UnicodeEncodeError:
            encoding = self.stream.encoding or "ascii"
            self.stream.write(text.encode(encoding, "backslashreplace").decode(encoding))

    def _attempt(self, action: Callable[..., None], *args: str) -> None:
        if self.failure is not None:
            return
        try:
            action(*args)
        except (OSError, ValueError) as error:  # ValueError: a stream that was closed
            self.failure = (error.strerror if isinstance(error, OSError) else None) or str(error)
            # Python flushes the stream's buffer at exit: that must not fail either.
            with suppress(OSError, ValueError):
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, self.stream.fileno())
                os.close(null)

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
def tolerant_streams(program: str) -> Iterator[None]:
    """Let standard output and standard error fail without an exception within the block; at its end
    a failure of the first is reported on the second, in the program's name."""
    out, err = TolerantStream(sys.stdout), TolerantStream(sys.stderr)
    with redirect_stdout(out), redirect_stderr(err):
        try:
            yield
        finally:
            out.flush()
            if out.failure is not None:
                lost = "what came after is not shown, and is done all the same"
                print(f"{program}: standard output ended early ({out.failure}): {lost}", file=err)
            err.flush()


def print_error(program: str, message: str) -> None:
    """Print a message in the program's name on standard error."""
    print(f"{program}: {message}", file=sys.stderr)
