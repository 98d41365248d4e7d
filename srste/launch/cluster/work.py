"""Runs the jobs of a task one after the other; each leaves a status file."""

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
_RETRIES = "5"  # about a minute, in which a server may start again


@dataclass(frozen=True)
class ProcessId:
    """A process of this machine. started: when; a later process may have the same pid."""

    pid: int
    started: str

    @classmethod
    def current(cls) -> ProcessId:
        """Return this process."""
        return cls(os.getpid(), start_time(os.getpid()) or "")

    def is_running(self) -> bool:
        """Return whether it still runs; a zombie does not."""
        return start_time(self.pid) == self.started


def start_time(pid: int) -> str | None:
    """Return when a process started; None if it does not run. Where /proc exists, the time is
    counted from the machine's start: the time of day may be set while a worker runs."""
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

    jobs: (number, pickled configuration) each. statuses: the folder of the status files, which are
    for progress and error messages; success is judged by the records. launching_process: the task
    ends with it; None where the cluster ends tasks.
    """

    jobs: list[tuple[int, bytes]]
    hydra_context: HydraContext
    task_function: TaskFunction
    singletons: Any
    statuses: Path
    launching_process: ProcessId | None

    def __call__(self) -> None:
        """Run the jobs; the failure of one does not end the others."""
        os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = _RETRIES
        self._stopping = False
        if self.launching_process is not None:
            threading.Thread(target=_end_with, args=(self.launching_process,), daemon=True).start()
        Singleton.set_state(self.singletons)
        setup_globals()
        for number, config in self.jobs:
            try:
                error = self._error_of(
                    run_job(
                        hydra_context=self.hydra_context,
                        task_function=self.task_function,
                        config=pickle.loads(config),  # noqa: S301 - submitit unpickled this object
                        job_dir_key="hydra.sweep.dir",
                        job_subdir_key="hydra.sweep.subdir",
                    )
                )
            except OSError as os_error:  # Hydra could not make the job's folder, as on a full disk
                error = f"{type(os_error).__name__}: {first_line(os_error)}"
            with suppress(OSError):
                self.statuses.mkdir(parents=True, exist_ok=True)
                status = json.dumps({"error": error})
                write_atomically(self.statuses / f"{number}.json", status.encode())
            if error == OUT_OF_TIME:
                raise UncompletedJobError(error)

    def checkpoint(self) -> DelayedSubmission:
        """Return what submitit puts back into the queue when the task is preempted or its time is
        up: the same jobs, of which studies with a record do not run again."""
        self._stopping = True
        return DelayedSubmission(self)

    def _error_of(self, result: JobReturn) -> str | None:
        # submitit raises its exception in a signal handler, within the job, which may have wrapped it
        # or taken it for an error of its own.
        if self._stopping:
            return OUT_OF_TIME
        if result.status == JobStatus.FAILED:
            error: BaseException = result._return_value
            return f"{type(error).__name__}: {first_line(error)}"
        return None


def read_statuses(folder: Path, read: set[int]) -> dict[int, str | None]:
    """Return the errors (or None) of ended jobs by number, but not of those in ``read``."""
    errors: dict[int, str | None] = {}
    for path in folder.glob("[0-9]*.json"):
        if path.stem.isdecimal() and (number := int(path.stem)) not in read:
            errors[number] = json.loads(path.read_bytes())["error"]
    return errors


def _end_with(launching_process: ProcessId) -> None:
    """End this process when the launching one has ended, or submitit's own that started it."""
    parent = os.getppid()
    while launching_process.is_running() and os.getppid() == parent:
        time.sleep(0.25)
    os._exit(1)
