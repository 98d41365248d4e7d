"""A sweep's jobs packed into tasks, the tasks handed to a scheduler, and their end waited for."""

from __future__ import annotations

import itertools
import logging
import os
import pickle
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
from srste.errors import UserError, first_line
from srste.launch.cluster.options import LocalOptions, Options, options_of
from srste.launch.cluster.work import Launcher, Work, read_reports
from srste.launch.hydra_job import track_finished
from srste.launch.job_runner import read_note
from srste.launch.progress import reporter
from srste.store import records
from srste.store.manifest import Contents, read_contents

log = logging.getLogger(__name__)

_ATTEMPTS, _SECONDS_BETWEEN_ATTEMPTS = 6, 10.0
"""At submitting more tasks when some were taken before, as while a controller restarts."""

_SECONDS_FOR_REPORTS = 5.0
"""How long after a task has ended its last reports may need to be seen, over a network's file system."""


class Scheduler(Protocol):
    """Where tasks run. launcher: the process that tasks are not to outlive, if they are to watch it.
    ``submit`` raises UserError for what it does not take."""

    seconds_between_looks: float
    launcher: Launcher | None

    def room(self, running: int) -> int: ...

    def submit(self, works: Sequence[Work]) -> list[str]: ...

    def alive(self) -> set[str] | None: ...

    def why(self, tasks: Sequence[str]) -> dict[str, str]: ...

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
    contents = read_contents(root)
    options = options_of(config.hydra.launcher)
    assert contents is not None and options is not None
    _importable()
    reports = root / ".reports" / uuid.uuid4().hex[:8]
    there = set(records.find_studies(root, contents.studies))
    numbers = _unfinished(root, contents, there, range(first, first + len(job_overrides)))
    if not numbers:
        return
    scheduler = _scheduler(options, root)
    works = [
        Work(
            [(n, _composed(hydra_context, config, job_overrides[n - first], n)) for n in some],
            hydra_context, task_function, Singleton.get_state(), reports, scheduler.launcher,
        )
        for some in _packs(numbers, options.packed(len(numbers)))
    ]  # fmt: skip
    log.info("%s: %d jobs in %d tasks", options.name, len(numbers), len(works))
    try:
        _Waiting(scheduler, root, reports, contents, there).run(works)
    except UserError as error:
        scheduler.cancel()
        reporter().refused = error
        raise SystemExit(2) from error
    except BaseException:
        scheduler.cancel()
        raise


class _Waiting:
    """Hands over tasks as there is room, and follows them by their reports and their scheduler."""

    def __init__(
        self, scheduler: Scheduler, root: Path, reports: Path, contents: Contents, there: set[str]
    ) -> None:
        self.scheduler = scheduler
        self.root = root
        self.tracked = set(there)
        self.reports = reports
        self.contents = contents
        self.reported: set[int] = set()
        self.taken = False

    def run(self, works: list[Work]) -> None:
        """Until all have ended. Raises: UserError when the scheduler takes none of them."""
        waiting, running = list(works), dict[str, Work]()
        while waiting or running:
            if (room := self.scheduler.room(len(running))) > 0 and waiting:
                batch, waiting = waiting[:room], waiting[room:]
                running |= self._submit(batch)
            reporter().note(f"{len(running)} tasks, {len(waiting)} to come")
            time.sleep(self.scheduler.seconds_between_looks)
            self._read_reports()
            alive = self.scheduler.alive()
            if alive is not None:
                self._ended({t: running.pop(t) for t in list(running) if t not in alive})

    def _submit(self, batch: list[Work]) -> dict[str, Work]:
        """The tasks by their ids. Once some were taken, others that are not, although it was tried some
        times, are failed jobs and not the end."""
        why = ""
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                ids = self.scheduler.submit(batch)
            except UserError as error:
                if not self.taken:
                    raise
                why = first_line(error)
                log.warning("%s", why)
                if attempt < _ATTEMPTS:
                    time.sleep(_SECONDS_BETWEEN_ATTEMPTS)
            except OSError as error:  # a full disk, say
                why = first_line(error)
                log.warning("%s", why)
                break
            else:
                self.taken = True
                return dict(zip(ids, batch, strict=True))
        for number in (number for work in batch for number, _ in work.jobs):
            reporter().job_failed(self.contents.jobs[number].folder, why)
        return {}

    def _read_reports(self) -> None:
        for number, error in read_reports(self.reports, self.reported).items():
            self.reported.add(number)
            job = self.contents.jobs[number]
            if error is not None:
                reporter().job_failed(job.folder, error)
                continue
            for key in job.keys:
                reporter().study_done(key, reused=False)
            track_finished(self.root, job, self.tracked)

    def _ended(self, tasks: dict[str, Work]) -> None:
        """A job of an ended task that has not reported was lost with it."""
        deadline = time.monotonic() + _SECONDS_FOR_REPORTS
        while (lost := self._unreported(tasks)) and time.monotonic() < deadline:
            time.sleep(0.2)
            self._read_reports()
        for task, why in (self.scheduler.why(list(lost)) if lost else {}).items():
            log.warning("%d jobs were lost with their task: %s", len(lost[task]), why)
            for number in lost[task]:
                reporter().job_failed(self.contents.jobs[number].folder, why)

    def _unreported(self, tasks: dict[str, Work]) -> dict[str, list[int]]:
        """The jobs of those tasks that have not reported, by task."""
        missing = {t: [n for n, _ in w.jobs if n not in self.reported] for t, w in tasks.items()}
        return {task: numbers for task, numbers in missing.items() if numbers}


def _scheduler(options: Options, root: Path) -> Scheduler:
    folder = root / ".submitit"
    try:
        if isinstance(options, LocalOptions):
            from srste.launch.cluster.local import Local

            return Local(options, folder)
        from srste.launch.cluster.slurm import Slurm, name_of

        return Slurm(options, folder, name_of(root))
    except (UserError, OSError) as error:
        reporter().refused = UserError(first_line(error))
        raise SystemExit(2) from error


def _unfinished(root: Path, contents: Contents, there: set[str], numbers: Sequence[int]) -> list[int]:
    """The jobs of which a study lacks its record, or a pretraining its note; the records that are there
    (their keys) count as reused."""
    noted = {key for key in contents.pretrainings if read_note(root, key) is not None}
    found = []
    for number in numbers:
        job = contents.jobs[number]
        for key in there.intersection(job.keys):
            reporter().study_done(key, reused=True)
        if not there.issuperset(job.keys) or (job.pretraining and job.pretraining not in noted):
            found.append(number)
            if job.pretraining:
                noted.add(job.pretraining)  # the first such job makes it
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
) -> bytes:
    """The job's whole configuration, pickled, which is a tenth of the size: all of a sweep are kept
    until they are submitted."""
    composed = hydra_context.config_loader.load_sweep_config(config, list(overrides))
    with read_write(composed), open_dict(composed):
        composed.hydra.job.id = str(number)
        composed.hydra.job.num = number
    return pickle.dumps(composed)


def _importable() -> None:
    """Lets workers find the package that this process runs, installed or not."""
    home = str(Path(srste.__file__).parent.parent)
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if home not in paths:
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [home, *paths]))
