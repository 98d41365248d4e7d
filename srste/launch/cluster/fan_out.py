"""Packs a sweep's jobs into tasks, submits the tasks to a scheduler, and waits for their end."""

import logging
import os
import pickle
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hydra.core.singleton import Singleton
from hydra.core.utils import configure_log
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict, read_write

from srste.errors import UserError, first_line
from srste.launch.cluster.local import Local
from srste.launch.cluster.options import LocalOptions, Options, options_of
from srste.launch.cluster.slurm import Slurm
from srste.launch.cluster.work import Work, read_statuses
from srste.launch.hydra_job import track_finished
from srste.launch.progress import reporter
from srste.launch.unfinished import unfinished
from srste.store import records
from srste.store.manifest import Contents, read_contents
from srste.subprocesses import environment_with_package

log = logging.getLogger(__name__)

_ATTEMPTS, _SECONDS_BETWEEN_ATTEMPTS = 6, 10.0
"""To submit more tasks after the first ones, while a controller restarts."""

_STATUS_SECONDS = 5.0
"""How long after a task's end its last status files may take to appear on a network file system."""


def fan_out(
    hydra_context: HydraContext,
    task_function: TaskFunction,
    config: DictConfig,
    job_overrides: Sequence[Sequence[str]],
    first: int,
) -> None:
    """Run the jobs that lack a record, and return when all have ended, successfully or not.

    Args: first: the number of the first job.
    Raises: SystemExit(2) when the scheduler refuses the tasks; the reporter has the reason then.
    """
    configure_log(config.hydra.hydra_logging, config.hydra.verbose)
    root = Path(str(config.hydra.sweep.dir))
    contents = read_contents(root)
    options = options_of(config.hydra.launcher)
    assert contents is not None and options is not None
    os.environ.update(environment_with_package())  # for the workers
    stored = set(records.find_studies(root, contents.studies))
    numbers = unfinished(root, contents, stored, range(first, first + len(job_overrides)))
    if not numbers:
        return
    statuses = root / ".reports" / uuid.uuid4().hex[:8]
    try:
        scheduler = _scheduler(options, root)
        size = options.task_size(len(numbers))
        packs = [numbers[start : start + size] for start in range(0, len(numbers), size)]
        works = [
            Work(
                [(n, _composed(hydra_context, config, job_overrides[n - first], n)) for n in pack],
                hydra_context, task_function, Singleton.get_state(), statuses,
                scheduler.launching_process,
            )
            for pack in packs
        ]  # fmt: skip
        log.info("%s: %d jobs in %d tasks", options.name, len(numbers), len(works))
        try:
            _TaskQueue(scheduler, root, statuses, contents, stored).run(works)
        except BaseException:
            scheduler.cancel()
            raise
    except UserError as error:
        reporter().refused = error
        raise SystemExit(2) from error


@dataclass
class _TaskQueue:
    """Submits tasks as there are free slots, and follows them by status files and scheduler.

    logged: keys of the studies whose runs are in MLflow. ended: numbers of jobs. accepted: whether
    the scheduler has taken any task.
    """

    scheduler: Local | Slurm
    root: Path
    statuses: Path
    contents: Contents
    logged: set[str]
    ended: set[int] = field(default_factory=set)
    accepted: bool = False

    def run(self, works: list[Work]) -> None:
        """Run the tasks until all have ended. Raises: UserError when the scheduler takes none."""
        waiting, running = list(works), dict[str, Work]()
        while waiting or running:
            if (slots := self.scheduler.free_slots(len(running))) > 0 and waiting:
                batch, waiting = waiting[:slots], waiting[slots:]
                running |= self._submit(batch)
            reporter().show_tasks(len(running), len(waiting))
            time.sleep(self.scheduler.poll_seconds)
            self._read_statuses()
            alive = self.scheduler.alive()
            if alive is not None:
                self._report_lost({t: running.pop(t) for t in list(running) if t not in alive})

    def _submit(self, batch: list[Work]) -> dict[str, Work]:
        """Return the tasks by their ids. Once the scheduler has taken tasks, later ones that it
        refuses are tried again, and then count as failed jobs."""
        why = ""
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                ids = self.scheduler.submit(batch)
            except (UserError, OSError) as error:
                if isinstance(error, UserError) and not self.accepted:
                    raise
                why = first_line(error)
                log.warning("%s", why)
                if isinstance(error, OSError) or attempt == _ATTEMPTS:  # OSError: such as a full disk
                    break
                time.sleep(_SECONDS_BETWEEN_ATTEMPTS)
            else:
                self.accepted = True
                return dict(zip(ids, batch, strict=True))
        for work in batch:
            self._fail([number for number, _ in work.jobs], why)
        return {}

    def _read_statuses(self) -> None:
        for number, error in read_statuses(self.statuses, self.ended).items():
            self.ended.add(number)
            job = self.contents.jobs[number]
            if error is not None:
                reporter().failures[job.folder] = error
                continue
            for key in job.studies:
                reporter().study_done(key, reused=False)
            track_finished(self.root, job, self.logged)

    def _report_lost(self, tasks: dict[str, Work]) -> None:
        """Report those jobs of ended tasks that left no status file."""
        deadline = time.monotonic() + _STATUS_SECONDS
        while (lost := self._without_status(tasks)) and time.monotonic() < deadline:
            time.sleep(0.2)
            self._read_statuses()
        for task, why in (self.scheduler.failure_reasons(list(lost)) if lost else {}).items():
            log.warning("%d jobs were lost with their task: %s", len(lost[task]), why)
            self._fail(lost[task], why)

    def _without_status(self, tasks: dict[str, Work]) -> dict[str, list[int]]:
        missing = {t: [n for n, _ in w.jobs if n not in self.ended] for t, w in tasks.items()}
        return {task: numbers for task, numbers in missing.items() if numbers}

    def _fail(self, numbers: Sequence[int], why: str) -> None:
        for number in numbers:
            reporter().failures[self.contents.jobs[number].folder] = why


def _scheduler(options: Options, root: Path) -> Local | Slurm:
    """Return the scheduler of these options. Raises: UserError if it cannot be used."""
    try:
        return Local(options, root) if isinstance(options, LocalOptions) else Slurm(options, root)
    except OSError as error:
        raise UserError(first_line(error)) from error


def _composed(
    hydra_context: HydraContext,
    config: DictConfig,
    overrides: Sequence[str],
    number: int,
) -> bytes:
    """Return the job's configuration, pickled: those of all jobs are in memory until they are
    submitted, and pickled they take a tenth of it."""
    composed = hydra_context.config_loader.load_sweep_config(config, list(overrides))
    with read_write(composed), open_dict(composed):
        composed.hydra.job.id = str(number)
        composed.hydra.job.num = number
    return pickle.dumps(composed)
