"""What a task runs: some jobs of a sweep, one after the other, each leaving a report."""

from __future__ import annotations

import json
import os
import pickle
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.types import HydraContext, TaskFunction
from submitit.core.utils import DelayedSubmission, UncompletedJobError

from srste.errors import first_line
from srste.store.files import write_atomically

OUT_OF_TIME = "ran out of time (hydra.launcher.time)"
_RETRIES = "5"  # about a minute: a server that is started again is waited for


@dataclass(frozen=True)
class Launcher:
    """The launching process, as its workers on the same machine know it. born: when it started, which
    tells it from a later process of that number."""

    pid: int
    born: str

    @classmethod
    def here(cls) -> Launcher:
        """This process."""
        return cls(os.getpid(), _born(os.getpid()) or "")

    def lives(self) -> bool:
        """Whether it still runs; a zombie does not."""
        return _born(self.pid) == self.born


def _born(pid: int) -> str | None:
    """When a process started; None if it does not run. Counted from the machine's start where the
    system tells that: the time of day may be set while a worker looks."""
    if Path("/proc/self/stat").exists():
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return None
        return None if fields[0] in "ZX" else fields[19]
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else str(process.create_time())
    except psutil.NoSuchProcess:
        return None


@dataclass
class Work:
    """Some jobs of a sweep; submitit pickles it, and calls it in the task.

    jobs: (number, pickled configuration) each. reports: the folder where each job says that it is
    through; that is for progress and for reasons, while success is judged by the records. launcher: the
    process that the task is not to outlive; None where the cluster looks after it.
    """

    jobs: list[tuple[int, bytes]]
    hydra_context: HydraContext
    task_function: TaskFunction
    singletons: Any
    reports: Path
    launcher: Launcher | None

    def __call__(self) -> None:
        """Runs the jobs. One that fails is reported, and the others go on."""
        os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = _RETRIES
        self._stopping = False
        if self.launcher is not None:
            threading.Thread(target=_end_with, args=(self.launcher,), daemon=True).start()
        Singleton.set_state(self.singletons)
        setup_globals()
        for number, config in self.jobs:
            try:
                error = self._error_of(self._run(config))
            except OSError as problem:  # Hydra could not make the job's folder, say: a full disk
                error = f"{type(problem).__name__}: {first_line(problem)}"
            with suppress(OSError):
                write_report(self.reports, number, error)
            if error == OUT_OF_TIME:
                raise UncompletedJobError(error)

    def checkpoint(self) -> DelayedSubmission:
        """What submitit puts back into the queue when the task is preempted or its time is up: the
        same work, of which what has a record is not done again."""
        self._stopping = True
        return DelayedSubmission(self)

    def _run(self, config: bytes) -> JobReturn:
        return run_job(
            hydra_context=self.hydra_context,
            task_function=self.task_function,
            config=pickle.loads(config),  # noqa: S301 - as all of this object was
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
        )

    def _error_of(self, result: JobReturn) -> str | None:
        # submitit raises it out of a signal handler, within the job: the job may have wrapped it, or
        # taken it for an error of its own.
        if self._stopping:
            return OUT_OF_TIME
        if result.status == JobStatus.FAILED:
            error: BaseException = result._return_value
            return f"{type(error).__name__}: {first_line(error)}"
        return None


def write_report(reports: Path, number: int, error: str | None) -> None:
    """Says that job ``number`` is through."""
    reports.mkdir(parents=True, exist_ok=True)
    write_atomically(reports / f"{number}.json", json.dumps({"error": error}).encode())


def read_reports(reports: Path, known: set[int]) -> dict[int, str | None]:
    """The reports of jobs that are not ``known`` yet: by number, the error or None."""
    found: dict[int, str | None] = {}
    for path in reports.glob("[0-9]*.json"):
        if path.stem.isdecimal() and (number := int(path.stem)) not in known:
            error = json.loads(path.read_bytes())["error"]
            found[number] = None if error is None else str(error)
    return found


def _end_with(launcher: Launcher) -> None:
    """Ends this process when the launching one is gone, or submitit's own that started it."""
    parent = os.getppid()
    while launcher.lives() and os.getppid() == parent:
        time.sleep(0.25)
    os._exit(1)
