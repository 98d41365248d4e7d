"""A sweep's jobs packed into tasks, the tasks handed to a scheduler, and their end waited for."""

from __future__ import annotations

import itertools
import logging
import os
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from hydra.core.singleton import Singleton
from hydra.core.utils import configure_log
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict, read_write

import srste
from srste import records
from srste.cluster.options import LocalOptions, Options, options_of
from srste.cluster.work import Launcher, Work, read_reports
from srste.errors import UserError
from srste.manifest import Contents, read_contents, read_launch
from srste.progress import reporter

log = logging.getLogger(__name__)

_SECONDS_FOR_REPORTS = 5.0
"""How long after a task has ended its last reports may need to be seen, over a network's file system."""


class Scheduler(Protocol):
    """Where tasks run. launcher: the process that tasks are not to outlive, if they are to watch it."""

    seconds_between_looks: float
    launcher: Launcher | None

    def room(self, running: int) -> int: ...

    def submit(self, works: Sequence[Work]) -> list[str]: ...

    def alive(self) -> set[str] | None: ...

    def why(self, task: str) -> str: ...

    def cancel(self) -> None: ...


def fan_out(
    hydra_context: HydraContext,
    task_function: TaskFunction,
    config: DictConfig,
    job_overrides: Sequence[Sequence[str]],
    first: int,
) -> None:
    """Runs the jobs that lack a record, and returns when all have ended, one way or another.

    Raises: SystemExit(2) when the scheduler refuses the tasks, having told the reporter why.
    """
    configure_log(config.hydra.hydra_logging, config.hydra.verbose)
    root = Path(str(config.hydra.sweep.dir))
    launch, contents = read_launch(root), read_contents(root)
    options = options_of(config.hydra.launcher)
    assert launch is not None and contents is not None and options is not None
    _importable()
    reports = root / ".reports" / uuid.uuid4().hex[:8]
    numbers = _unfinished(root, contents, range(first, first + len(job_overrides)))
    if not numbers:
        return
    scheduler = _scheduler(options, root, launch.id)
    works = [
        Work(
            [(n, _composed(hydra_context, config, job_overrides[n - first], n, contents)) for n in some],
            hydra_context, task_function, Singleton.get_state(), reports, scheduler.launcher,
        )
        for some in _packs(numbers, options.packed(len(numbers)))
    ]  # fmt: skip
    log.info("%s: %d jobs in %d tasks", options.name, len(numbers), len(works))
    try:
        _Waiting(scheduler, reports, contents).run(works)
    except UserError as error:
        scheduler.cancel()
        reporter().refused = error
        raise SystemExit(2) from error
    except BaseException:
        scheduler.cancel()
        raise


class _Waiting:
    """Hands over tasks as there is room, and follows them by their reports and their scheduler."""

    def __init__(self, scheduler: Scheduler, reports: Path, contents: Contents) -> None:
        self.scheduler = scheduler
        self.reports = reports
        self.contents = contents
        self.reported: set[int] = set()

    def run(self, works: list[Work]) -> None:
        waiting, running = list(works), dict[str, Work]()
        while waiting or running:
            if (room := self.scheduler.room(len(running))) > 0 and waiting:
                batch, waiting = waiting[:room], waiting[room:]
                running |= zip(self.scheduler.submit(batch), batch, strict=True)
            reporter().note(f"{len(running)} tasks queued or running, {len(waiting)} to come")
            time.sleep(self.scheduler.seconds_between_looks)
            self._read_reports()
            alive = self.scheduler.alive()
            ended = [task for task in running if alive is not None and task not in alive]
            for task in ended:
                self._ended(task, running.pop(task))

    def _read_reports(self) -> None:
        for number, error in read_reports(self.reports, self.reported).items():
            self.reported.add(number)
            job = self.contents.jobs[number]
            if error is not None:
                reporter().job_failed(job.folder, error)
                continue
            for key in job.keys:
                reporter().study_done(key, reused=False)

    def _ended(self, task: str, work: Work) -> None:
        """A job of an ended task that has not reported was lost with it."""
        deadline = time.monotonic() + _SECONDS_FOR_REPORTS
        while missing := [n for n, _ in work.jobs if n not in self.reported]:
            if time.monotonic() > deadline:
                break
            time.sleep(0.2)
            self._read_reports()
        if missing:
            why = self.scheduler.why(task)
            log.warning("%d jobs were lost with their task: %s", len(missing), why)
            for number in missing:
                reporter().job_failed(self.contents.jobs[number].folder, why)


def _scheduler(options: Options, root: Path, launch_id: str) -> Scheduler:
    folder = root / ".submitit"
    if isinstance(options, LocalOptions):
        from srste.cluster.local import Local

        return Local(options, folder)
    from srste.cluster.slurm import Slurm, name_of

    try:
        return Slurm(options, folder, name_of(launch_id))
    except UserError as error:
        reporter().refused = error
        raise SystemExit(2) from error


def _unfinished(root: Path, contents: Contents, numbers: Sequence[int]) -> list[int]:
    """The jobs of which a study lacks its record; those that are there count as reused."""
    there = {record.key for _, record in records.find(root)}
    found = []
    for number in numbers:
        keys = contents.jobs[number].keys
        for key in there.intersection(keys):
            reporter().study_done(key, reused=True)
        if not there.issuperset(keys):
            found.append(number)
    return found


def _packs(numbers: list[int], size: int) -> Iterator[list[int]]:
    iterator = iter(numbers)
    while pack := list(itertools.islice(iterator, size)):
        yield pack


def _composed(
    hydra_context: HydraContext,
    config: DictConfig,
    overrides: Sequence[str],
    number: int,
    contents: Contents,
) -> DictConfig:
    """The job's whole configuration, its folder settled here, where the sweep is known."""
    composed = hydra_context.config_loader.load_sweep_config(config, list(overrides))
    with read_write(composed), open_dict(composed):
        composed.hydra.job.id = str(number)
        composed.hydra.job.num = number
        composed.hydra.sweep.subdir = contents.jobs[number].folder
    return composed


def _importable() -> None:
    """Lets workers find the package that this process runs, installed or not."""
    home = str(Path(srste.__file__).parent.parent)
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if home not in paths:
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [home, *paths]))
