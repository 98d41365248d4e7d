"""Progress of a launch: a bar on a terminal, lines in the log elsewhere."""

import io
import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

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

from srste.errors import UserError
from srste.report.console import console

log = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 5.0
SECONDS_BEFORE_SHOWN = 2.0

_STUDIES = TaskID(0)  # the bar's first task


class _Timer:
    """Says when the next line of progress is due."""

    def __init__(self) -> None:
        self._started = self._last = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    def is_due(self) -> bool:
        """Return whether the last line is old enough, and start to wait for the next if so."""
        now = time.monotonic()
        if now - self._last < SECONDS_BETWEEN_LINES:
            return False
        self._last = now
        return True


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
        self._timer = _Timer()
        self._bar = _bar(screen, TextColumn("elapsed"), TimeElapsedColumn(), TextColumn("left"))
        self._bar.add_task("studies", total=total)

    def study_done(self, key: str, reused: bool) -> None:
        """Count a study that has its record; a study that several jobs share counts once."""
        if key in self.done:
            return
        self.done.add(key)
        self.reused += reused
        self._bar.advance(_STUDIES)
        if self._bar.disable and self.total is not None and self._timer.is_due():
            done = len(self.done)
            rate = (done - self.reused) / self._timer.elapsed
            left = f", {(self.total - done) / rate:.0f} s left" if rate else ""
            log.info("%d of %d studies done%s", done, self.total, left)

    def show_tasks(self, running: int, waiting: int) -> None:
        """Show the number of tasks of a scheduler beside the bar."""
        self._bar.update(_STUDIES, description=f"studies ({running} tasks, {waiting} to come)")

    def pretraining(self, steps: int) -> Callable[[int], None]:
        """Announce a pretraining; returns a callback for the steps done since its last call."""
        bar, timer, done = self._bar, _Timer(), 0
        task = bar.add_task("pretraining", total=steps)
        if bar.disable:
            log.info("Pretraining: %d steps", steps)

        def advance(count: int) -> None:
            nonlocal done
            done += count
            bar.update(task, completed=done, visible=done < steps)
            if bar.disable and timer.is_due():
                log.info("Pretraining: %d of %d steps done", done, steps)

        return advance

    @contextmanager
    def evaluating(self, total: int) -> Iterator[Callable[[int], None]]:
        """Yield a callback for the learning rates evaluated since its last call; total: of all.

        Shown in the launching process only, and after two seconds.
        """
        bar, timer, task, done = self._bar, _Timer(), None, 0

        def advance(count: int) -> None:
            nonlocal task, done
            done += count
            if self is not _active or timer.elapsed < SECONDS_BEFORE_SHOWN:
                return
            task = bar.add_task("learning rates", total=total) if task is None else task
            bar.update(task, completed=done)
            if bar.disable and timer.is_due():
                left = (total - done) * timer.elapsed / done
                log.info("%d of %d learning rates evaluated, %.0f s left", done, total, left)

        try:
            yield advance
        finally:
            if task is not None:
                bar.remove_task(task)


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
        with nullcontext() if bar.disable else bar:  # rich 13 ends a disabled bar with an empty line
            yield _active
    finally:
        _active = None


@contextmanager
def counting(what: str, total: int) -> Iterator[Callable[[], None]]:
    """Show a bar on a terminal for work after the jobs; yields a callback for each step done."""
    with _bar(console(sys.stderr), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda: bar.advance(task)
