"""What a launch says while it works: on a terminal bars and lines that go with the work, elsewhere lines
in the log, so often that nobody takes it for hanging."""

import io
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.status import Status

from srste.errors import UserError
from srste.report.console import console

log = logging.getLogger(__name__)

COMPILING = "Compiling the loss-curve kernels, once on this machine"

SECONDS_BETWEEN_LINES = 2.5
SECONDS_BEFORE_SHOWN = 2.0

_STUDIES = TaskID(0)  # the bar's first task


@contextmanager
def _repeating(line: Callable[[], None]) -> Iterator[None]:
    """Call ``line`` every `SECONDS_BETWEEN_LINES` within the block, from a thread."""
    ended = threading.Event()

    def repeat() -> None:
        while not ended.wait(SECONDS_BETWEEN_LINES):
            line()

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


class Activity(Protocol):
    """What is said to be done: ``announce`` says something else, ``update`` how far it is."""

    def announce(self, words: str) -> None: ...

    def update(self, words: str) -> None: ...


class _OnTerminal:
    def __init__(self, status: Status) -> None:
        self.announce = self.update = status.update


class _InLog:
    def __init__(self, screen: Console, words: str) -> None:
        self._screen, self._started = screen, time.monotonic()
        self.announce(words)

    def announce(self, words: str) -> None:
        self._words = words
        self._screen.print(words, soft_wrap=True)

    def update(self, words: str) -> None:
        self._words = words

    def repeat(self) -> None:
        passed = time.monotonic() - self._started
        self._screen.print(f"{self._words} ({passed:.0f} s)", soft_wrap=True)


@contextmanager
def doing(what: str) -> Iterator[Activity]:
    """Say on standard error what is being done within the block: a line that disappears on a terminal;
    elsewhere one that is repeated as long as it takes."""
    screen = console(sys.stderr)
    if screen.is_terminal:
        with screen.status(what) as status:
            yield _OnTerminal(status)
        return
    activity = _InLog(screen, what)
    with _repeating(activity.repeat):
        yield activity


@contextmanager
def doing_for_long(what: str, seconds: float = 0.6) -> Iterator[None]:
    """As :func:`doing`, from so many seconds on: what is done sooner is not worth a line."""
    with ExitStack() as shown:
        timer = threading.Timer(seconds, lambda: shown.enter_context(doing(what)))
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()


class Reporter:
    """Counts finished studies by key. total: how many there will be; None if that is not known.

    failures: reasons why jobs failed, by folder. refused: the error if no task was accepted.
    """

    def __init__(self, total: int | None, screen: Console) -> None:
        self.total = total
        self.done: set[str] = set()
        self.reused = 0
        self.failures: dict[str, str] = {}
        self.refused: UserError | None = None
        self._doing: dict[str, str] = {}  # how far it is, by what is done within a study
        self._first: float | None = None  # when the first study was done that was not reused
        self._bar = _bar(screen, TextColumn("elapsed"), TimeElapsedColumn(), TextColumn("left"))
        self._bar.add_task("studies", total=total)

    def study_done(self, key: str, reused: bool) -> None:
        """Count a study that has its record; a study that several jobs share counts once."""
        if key in self.done:
            return
        self.done.add(key)
        self._doing.clear()
        self.reused += reused
        if self._first is None and not reused:
            self._first = time.monotonic()
        self._bar.advance(_STUDIES)

    def log_line(self) -> None:
        """Log how far the studies are, and what else is being done."""
        done, words = len(self.done), ""
        # The first study is left out: compiling, pretraining and drawing examples belong to it.
        timed = done - self.reused - 1
        if self.total is not None and self._first is not None and timed > 0:
            rate = timed / (time.monotonic() - self._first)
            words = f", {(self.total - done) / rate:.0f} s left"
        log.info("%d of %s studies done%s", done, self.total, "; ".join([words, *self._doing.values()]))

    def say(self, words: str) -> None:
        """Print or log something that is not progress."""
        if self._bar.disable:
            log.info("%s", words)
        else:
            self._bar.console.print(words)

    def show_tasks(self, running: int, waiting: int) -> None:
        """Show the number of tasks of a scheduler beside the bar."""
        self._bar.update(_STUDIES, description=f"studies ({running} tasks, {waiting} to come)")

    def pretraining(self, steps: int) -> Callable[[int], None]:
        """Announce a pretraining; returns a callback for the steps done since its last call."""
        if self._bar.disable:
            log.info("Pretraining: %d steps", steps)
        return self._counted("pretraining", steps, 0.0)[0]

    @contextmanager
    def evaluating(self, total: int) -> Iterator[Callable[[int], None]]:
        """Yield a callback for the learning rates evaluated since its last call; total: of all.

        Shown in the launching process only, and after two seconds.
        """
        advance, end = self._counted("learning rates", total, SECONDS_BEFORE_SHOWN)
        try:
            yield advance
        finally:
            end()

    def _counted(
        self, what: str, total: int, delay: float
    ) -> tuple[Callable[[int], None], Callable[[], None]]:
        """Return a callback for steps done since its last call, and one for their end. delay: seconds
        before they are shown."""
        started, done, task = time.monotonic(), 0, None

        def advance(count: int) -> None:
            nonlocal done, task
            done += count
            if self is not _active or time.monotonic() - started < delay:
                return
            task = self._bar.add_task(what, total=total) if task is None else task
            self._bar.update(task, completed=done, visible=done < total)
            left = (total - done) * (time.monotonic() - started) / done
            self._doing[what] = f"{what}: {done} of {total}, {left:.0f} s left"

        def end() -> None:
            self._doing.pop(what, None)
            if task is not None:
                self._bar.remove_task(task)

        return advance, end


def _bar(screen: Console, *more: TextColumn | TimeElapsedColumn, transient: bool = False) -> Progress:
    """Return a bar that is shown if the screen is a terminal."""
    return Progress(
        TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), *more,
        TimeRemainingColumn(), console=screen, transient=transient, disable=not screen.is_terminal,
    )  # fmt: skip


_active: Reporter | None = None


def reporter() -> Reporter:
    """Return the launch's reporter; in other processes a new one that only counts."""
    return _active or Reporter(None, console(io.StringIO()))


def is_launching() -> bool:
    """Return whether this process launched the jobs."""
    return _active is not None


@contextmanager
def reporting(total: int | None) -> Iterator[Reporter]:
    """Make :func:`reporter` return one reporter within the block, and show its bar."""
    global _active
    _active = Reporter(total, console(sys.stderr))
    bar = _active._bar
    try:
        if bar.disable and total is not None:
            print(f"Running {total} studies", file=sys.stderr)
        # rich 13 ends a disabled bar with an empty line
        with _repeating(_active.log_line) if bar.disable else bar:
            yield _active
    finally:
        _active = None


@contextmanager
def counting(what: str, total: int) -> Iterator[Callable[[], None]]:
    """Show a bar on a terminal for work after the jobs; yields a callback for each step done."""
    with _bar(console(sys.stderr), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda: bar.advance(task)
