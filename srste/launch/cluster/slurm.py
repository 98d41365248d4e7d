"""Runs tasks as arrays of Slurm jobs: submitit submits and requeues them, squeue tells their end.

submitit's own monitoring is not used: it hangs where a cluster keeps no accounting, and it takes
the state NODE_FAIL, in which a requeued job stays for some seconds, for the end of the job.
"""

import io
import logging
import os
import time
from collections.abc import Sequence
from contextlib import redirect_stderr, suppress
from hashlib import sha256
from pathlib import Path

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError, JobPaths

from srste.errors import UserError, first_line
from srste.launch.cluster.options import MOST_TASKS_AT_ONCE, SlurmOptions, output_of
from srste.launch.cluster.work import Work
from srste.launch.signals import deferred, ignored

log = logging.getLogger(__name__)

_CANCEL_SECONDS = 60
"""How long to wait for the end of cancelled jobs of an earlier launch."""

_ACCOUNTING_SECONDS = 5.0
"""How long to wait until the accounting has a job's end."""


def name_of(root: Path) -> str:
    """Return the name of all Slurm jobs of the launch in that folder."""
    return f"srste-{sha256(str(root.resolve()).encode()).hexdigest()[:16]}"


class Slurm:
    """Submits one array after the other, each no longer than the cluster allows. The methods are
    those of :class:`srste.launch.cluster.local.Local`."""

    poll_seconds = 1.0
    launching_process = None  # the cluster ends the tasks

    def __init__(self, options: SlurmOptions, root: Path) -> None:
        self.name = name_of(root)
        self.folder = root / ".submitit"
        self._longest = min(MOST_TASKS_AT_ONCE, _longest_array())
        self._attempted = False
        self._silent = False
        self._executor = submitit.SlurmExecutor(self.folder, max_num_timeout=options.requeues)
        signal_before = min(90, options.time * 60 // 4)  # seconds
        self._executor.update_parameters(
            job_name=self.name,
            time=options.time,
            mem=options.memory,
            cpus_per_task=options.cpus,
            array_parallelism=options.array_parallelism,
            signal_delay_s=signal_before,
            setup=options.setup or None,
            additional_parameters={"requeue": True} | options.sbatch_options,
            partition=options.partition,
            account=options.account,
            gpus_per_node=options.gpus or None,
        )

    def free_slots(self, running: int) -> int:
        """Return how many tasks may be submitted now: an array when the last one has ended."""
        return 0 if running else self._longest

    def submit(self, works: Sequence[Work]) -> list[str]:
        """Submit the tasks as one array. Returns their ids. Raises: UserError of sbatch."""
        self._attempted = True
        try:
            # Signals wait until the ids are known; sbatch's message is in the exception, too.
            with deferred(), redirect_stderr(io.StringIO()), self._executor.batch():
                jobs = [self._executor.submit(work) for work in works]
        except (FailedJobError, FailedSubmissionError) as error:
            lines = [line for line in str(error).splitlines() if "error:" in line]
            said = lines[-1].partition("error:")[2].strip() if lines else first_line(error)
            raise UserError(f"hydra/launcher=slurm: sbatch says: {said}") from error
        return [str(job.job_id) for job in jobs]

    def alive(self) -> set[str] | None:
        """Return the ids of the tasks that are queued or running; None while squeue fails."""
        try:
            tasks = _queued(self.name)
        except UserError as error:
            if not self._silent:
                log.warning("%s; waiting until the cluster answers again", error)
            self._silent = True
            return None
        self._silent = False
        return tasks

    def failure_reasons(self, tasks: Sequence[str]) -> dict[str, str]:
        """Return why tasks ended early, with their state where the accounting has it in time."""
        states: dict[str, str] = {}
        deadline = time.monotonic() + _ACCOUNTING_SECONDS
        while len(states) < len(tasks) and time.monotonic() < deadline:
            try:
                states = _ended_states(tasks)
            except UserError:  # a cluster without accounting
                break
            time.sleep(0.5)
        reasons = {}
        for task in tasks:
            state = f": {states[task]}" if task in states else " ended without its records"
            log_file = JobPaths(self.folder, task, 0).stderr
            reasons[task] = f"Slurm job {task}{state} (log: {log_file})"
        return reasons

    def cancel(self) -> None:
        """Cancel all tasks, also of an array whose submission was interrupted."""
        if not self._attempted:
            return
        with ignored():
            for _ in range(3):
                _cancel(self.name)
                time.sleep(1)
                with suppress(UserError):
                    if not _queued(self.name, "PENDING", "RUNNING"):
                        return
            log.warning("Slurm still has tasks of this command; see: squeue --name=%s", self.name)


def cancel_left_over(root: Path) -> int:
    """Cancel the Slurm jobs of an earlier launch in that folder whose process was killed, and wait
    for their end. Returns: how many tasks there were."""
    name = name_of(root)
    left = _queued(name)
    if left:
        _cancel(name)
        deadline = time.monotonic() + _CANCEL_SECONDS
        while _queued(name) and time.monotonic() < deadline:
            time.sleep(0.5)
    return len(left)


def _queued(name: str, *states: str) -> set[str]:
    """Return the ids of the queued tasks of that name, in one of those states or in any."""
    # The user by number: the environment may give another name, or none.
    ids = output_of(
        "squeue", "--noheader", "--array", "--all", f"--user={os.getuid()}", f"--name={name}",
        "--format=%i", *([f"--states={','.join(states)}"] if states else []),
    )  # fmt: skip
    return set(ids.split())


def _cancel(name: str) -> None:
    try:
        output_of("scancel", f"--user={os.getuid()}", f"--name={name}")
    except UserError as error:
        log.warning("%s; cancel by hand: scancel --name=%s", error, name)


def _ended_states(tasks: Sequence[str]) -> dict[str, str]:
    """Return the states of those tasks that have ended according to the accounting."""
    ids = ",".join(sorted({task.partition("_")[0] for task in tasks}))
    rows = output_of("sacct", "-X", "--noheader", "--parsable2", "--format=JobID,State", f"--jobs={ids}")
    pairs = (line.partition("|") for line in rows.splitlines())
    going_on = ("", "RUNNING", "PENDING", "COMPLETING", "REQUEUED")
    return {task: state for task, _, state in pairs if task in tasks and state not in going_on}


def _longest_array() -> int:
    """Return the cluster's limit on the length of an array."""
    for line in output_of("scontrol", "show", "config").splitlines():
        name, _, value = line.partition("=")
        if name.strip() == "MaxArraySize" and value.strip().isdecimal():
            return max(1, int(value))
    return MOST_TASKS_AT_ONCE
