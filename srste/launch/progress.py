"""Progress of a launch: studies done, of how many, time left. A bar on a terminal, lines elsewhere."""

from __future__ import annotations

import io
import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

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


class Reporter:
    """Counts studies by their keys. total: how many there will be; None if that is not known.

    failures: why jobs failed, by their folder. refused: what a scheduler would not take.
    """

    def __init__(self, total: int | None, screen: Console) -> None:
        self.total = total
        self.done: set[str] = set()
        self.reused = 0
        self.failures: dict[str, str] = {}
        self.refused: UserError | None = None
        self._started = self._last_line = time.monotonic()
        self._bar: Progress | None = None
        self._studies: TaskID | None = None
        if screen.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("elapsed"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=screen,
            )
            self._studies = self._bar.add_task("studies", total=total)

    def study_done(self, key: str, reused: bool) -> None:
        """That study has its record; one that several jobs share counts once."""
        if key in self.done:
            return
        self.done.add(key)
        self.reused += reused
        if self._bar is not None and self._studies is not None:
            self._bar.advance(self._studies)
            return
        self._line()

    def job_failed(self, folder: str, why: str) -> None:
        """The job of that folder did not get through."""
        self.failures[folder] = why

    def note(self, words: str) -> None:
        """What the launch is waiting for, beside the bar."""
        if self._bar is not None and self._studies is not None:
            self._bar.update(self._studies, description=f"studies ({words})")

    def _line(self) -> None:
        now = time.monotonic()
        if now - self._last_line < SECONDS_BETWEEN_LINES or self.total is None:
            return
        self._last_line = now
        done = len(self.done)
        rate = (done - self.reused) / (now - self._started)
        left = f", {(self.total - done) / rate:.0f} s left" if rate else ""
        log.info("%d of %d studies done%s", done, self.total, left)

    def pretraining(self, steps: int) -> Callable[[int], None]:
        """Announces a pretraining of that many steps; returns what to call after each."""
        bar = self._bar
        if bar is None:
            log.info("Pretraining: %d steps", steps)
            return _steps_in_lines(steps)
        task = bar.add_task("pretraining", total=steps)

        def advance(count: int) -> None:
            bar.advance(task, count)
            if bar.tasks[bar.task_ids.index(task)].finished:
                bar.remove_task(task)

        return advance

    @contextmanager
    def evaluating(self, total: int) -> Iterator[Callable[[int], None]]:
        """While that many learning rates are evaluated: yields what is called after some of them.

        Shown in the launching process alone, and only once it has taken two seconds.
        """
        bar, task, done = self._bar, None, 0
        started = last = time.monotonic()

        def advance(count: int) -> None:
            nonlocal task, done, last
            done += count
            now = time.monotonic()
            if self is not _active or now - started < SECONDS_BEFORE_SHOWN:
                return
            if bar is not None:
                task = bar.add_task("learning rates", total=total) if task is None else task
                bar.update(task, completed=done)
            elif now - last >= SECONDS_BETWEEN_LINES:
                last = now
                left = (total - done) * (now - started) / done
                log.info("%d of %d learning rates evaluated, %.0f s left", done, total, left)

        try:
            yield advance
        finally:
            if bar is not None and task is not None:
                bar.remove_task(task)


def _steps_in_lines(steps: int) -> Callable[[int], None]:
    done, last = 0, time.monotonic()

    def advance(count: int) -> None:
        nonlocal done, last
        done += count
        if time.monotonic() - last >= SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            log.info("Pretraining: %d of %d steps done", done, steps)

    return advance


_active: Reporter | None = None


def reporter() -> Reporter:
    """The launch's reporter; outside a launch (a job in a process of its own) one that only counts."""
    return _active or Reporter(None, console(io.StringIO()))


def is_launching() -> bool:
    """Whether this is the process that launched the jobs."""
    return _active is not None


@contextmanager
def reporting(total: int | None) -> Iterator[Reporter]:
    """While it lasts, :func:`reporter` is this one and its bar is shown."""
    global _active
    _active = Reporter(total, console(sys.stderr))
    bar = _active._bar
    if bar is not None:
        bar.start()
    try:
        yield _active
    finally:
        if bar is not None:
            bar.stop()
        _active = None


@contextmanager
def counting(what: str, total: int) -> Iterator[Callable[[], None]]:
    """A bar for work after the jobs, on a terminal; yields what is called after each step."""
    screen = console(sys.stderr)
    with Progress(
        TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(),
        TimeRemainingColumn(), console=screen, transient=True, disable=not screen.is_terminal,
    ) as bar:  # fmt: skip
        task = bar.add_task(what, total=total)
        yield lambda: bar.advance(task)
