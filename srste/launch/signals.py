"""Context managers for the signals that end a launch: turn them into exceptions, defer, ignore."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import FrameType
from typing import Any

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Terminated(KeyboardInterrupt):
    """A signal that ends the program. number: of the signal."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def exit_code(interrupt: KeyboardInterrupt) -> int:
    """Return 128 plus the signal's number, as shells do."""
    return 128 + (interrupt.number if isinstance(interrupt, Terminated) else signal.SIGINT)


def exit_code_of(task: Callable[[], Any]) -> int:
    """Run Hydra's function to its end, or to its interruption. Returns the exit code."""
    try:
        task()
    except KeyboardInterrupt as interrupt:
        return exit_code(interrupt)
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
    return 0


@contextmanager
def _handler(handler: Any, numbers: tuple[int, ...]) -> Iterator[None]:
    """Handle these signals by ``handler`` within the block, but for those that are ignored already
    (nohup)."""
    before = {number: signal.getsignal(number) for number in numbers}
    for number, previous in before.items():
        if previous != signal.SIG_IGN:
            signal.signal(number, handler)
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


def raise_terminated() -> AbstractContextManager[None]:
    """Let SIGTERM and SIGHUP end the program by an exception within the block, as Ctrl-C does."""

    def end(number: int, frame: FrameType | None) -> None:
        raise Terminated(number)

    return _handler(end, (signal.SIGTERM, signal.SIGHUP))


@contextmanager
def deferred() -> Iterator[None]:
    """Deliver signals that would end the program at the end of the block."""
    received: list[int] = []
    try:
        with _handler(lambda number, frame: received.append(number), ENDING):
            yield
    finally:
        if received:
            os.kill(os.getpid(), received[0])


def ignored(*numbers: int) -> AbstractContextManager[None]:
    """Ignore these signals (by default all that would end the program) within the block, also in
    the processes started there."""
    return _handler(signal.SIG_IGN, numbers or ENDING)
