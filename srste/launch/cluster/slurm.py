"""Tasks as arrays of Slurm jobs. submitit submits and requeues them; their end is seen by ``squeue``.

submitit's own watching is not used: it hangs where a cluster keeps no accounting, and takes the state
NODE_FAIL, in which a job that is requeued rests for some seconds, for its end.
"""

from __future__ import annotations

import io
import logging
import os
import time
from collections.abc import Sequence
from contextlib import redirect_stderr
from hashlib import sha256
from pathlib import Path

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError, JobPaths

from srste.errors import UserError, first_line
from srste.launch.cluster.options import MOST_TASKS_AT_ONCE, SlurmOptions, asked
from srste.launch.cluster.work import Launcher, Work
from srste.launch.signals import deferred, ignored

log = logging.getLogger(__name__)

_SECONDS_TO_GO = 60
"""How long cancelled jobs of an earlier launch are waited for."""

_SECONDS_FOR_ACCOUNTING = 5.0
"""How long the accounting may take to know of a job's end."""


def name_of(root: Path) -> str:
    """The name of all Slurm jobs of the launch in that folder, by which they are found again."""
    return f"srste-{sha256(str(root.resolve()).encode()).hexdigest()[:16]}"


class Slurm:
    """One array after the other, each no longer than the cluster takes."""

    seconds_between_looks = 1.0
    launcher: Launcher | None = None  # the cluster looks after its jobs

    def __init__(self, options: SlurmOptions, folder: Path, name: str) -> None:
        self.name = name
        self.folder = folder
        self._longest = min(MOST_TASKS_AT_ONCE, _longest_array())
        self._attempted = False
        self._silent = False
        self._executor = submitit.SlurmExecutor(folder, max_num_timeout=options.requeues)
        signal_before = min(90, options.time * 60 // 4)  # seconds
        self._executor.update_parameters(
            job_name=name,
            time=options.time,
            mem=options.memory,
            cpus_per_task=options.cpus,
            array_parallelism=options.array_parallelism,
            signal_delay_s=signal_before,
            setup=options.setup or None,
            additional_parameters={"requeue": True} | options.more,
            **({"partition": options.partition} if options.partition else {}),
            **({"account": options.account} if options.account else {}),
            **({"gpus_per_node": options.gpus} if options.gpus else {}),
        )

    def room(self, running: int) -> int:
        """How many more tasks may be submitted now: the next array when the last one is through."""
        return 0 if running else self._longest

    def submit(self, works: Sequence[Work]) -> list[str]:
        """Submits them as one array. Returns their ids. Raises: UserError with what sbatch says."""
        self._attempted = True
        try:
            # A signal waits until it is known what was submitted; what sbatch says is said once, below.
            with deferred(), redirect_stderr(io.StringIO()), self._executor.batch():
                jobs = [self._executor.submit(work) for work in works]
        except (FailedJobError, FailedSubmissionError) as error:
            words = [line for line in str(error).splitlines() if "error:" in line]
            said = words[-1].partition("error:")[2].strip() if words else first_line(error)
            raise UserError(f"hydra/launcher=slurm: sbatch says: {said}") from error
        return [str(job.job_id) for job in jobs]

    def alive(self) -> set[str] | None:
        """The ids of the tasks that are queued or running; None while the cluster does not answer."""
        try:
            tasks = _queued(self.name)
        except UserError as error:
            if not self._silent:
                log.warning("%s; waiting until the cluster answers again", error)
            self._silent = True
            return None
        self._silent = False
        return tasks

    def why(self, tasks: Sequence[str]) -> dict[str, str]:
        """Why tasks ended without doing their work, as the accounting tells it; that may be late."""
        states: dict[str, str] = {}
        deadline = time.monotonic() + _SECONDS_FOR_ACCOUNTING
        while len(states) < len(tasks) and time.monotonic() < deadline:
            try:
                states = _ended_states(tasks)
            except UserError:  # no accounting here
                break
            time.sleep(0.5)
        found = {}
        for task in tasks:
            state = f": {states[task]}" if task in states else " ended without its records"
            log_file = JobPaths(self.folder, task, 0).stderr
            found[task] = f"Slurm job {task}{state} (log: {log_file})"
        return found

    def cancel(self) -> None:
        """Cancels all tasks, also of an array that sbatch took without a word."""
        if not self._attempted:
            return
        with ignored():
            for _ in range(3):
                _cancel(self.name)
                time.sleep(1)
                if not self._still_pending():
                    return
            log.warning("Slurm still has tasks of this command; see: squeue --name=%s", self.name)

    def _still_pending(self) -> bool:
        try:
            return bool(_queued(self.name, "PENDING", "RUNNING"))
        except UserError:
            return True


def cancel_left_over(root: Path) -> int:
    """Cancels the Slurm jobs that an earlier launching process left in that folder when it was killed,
    and waits until they are gone. Returns: how many tasks that was."""
    name = name_of(root)
    left = _queued(name)
    if left:
        _cancel(name)
        deadline = time.monotonic() + _SECONDS_TO_GO
        while _queued(name) and time.monotonic() < deadline:
            time.sleep(0.5)
    return len(left)


def _queued(name: str, *states: str) -> set[str]:
    """The tasks of that name in the queue, in one of those states or in any."""
    # By number: the name that the environment gives may be another one, or none.
    answer = asked(
        "squeue", "--noheader", "--array", "--all", f"--user={os.getuid()}", f"--name={name}",
        "--format=%i", *([f"--states={','.join(states)}"] if states else []),
    )  # fmt: skip
    return set(answer.split())


def _cancel(name: str) -> None:
    try:
        asked("scancel", f"--user={os.getuid()}", f"--name={name}")
    except UserError as error:
        log.warning("%s; cancel by hand: scancel --name=%s", error, name)


def _ended_states(tasks: Sequence[str]) -> dict[str, str]:
    """The states of those tasks that the accounting takes for ended."""
    ids = ",".join(sorted({task.partition("_")[0] for task in tasks}))
    answer = asked("sacct", "-X", "--noheader", "--parsable2", "--format=JobID,State", f"--jobs={ids}")
    pairs = (line.partition("|") for line in answer.splitlines())
    going_on = ("", "RUNNING", "PENDING", "COMPLETING", "REQUEUED")
    return {task: state for task, _, state in pairs if task in tasks and state not in going_on}


def _longest_array() -> int:
    """The cluster's limit on the length of an array."""
    for line in asked("scontrol", "show", "config").splitlines():
        name, _, value = line.partition("=")
        if name.strip() == "MaxArraySize" and value.strip().isdecimal():
            return max(1, int(value))
    return MOST_TASKS_AT_ONCE
