"""Tasks as arrays of Slurm jobs. submitit submits and requeues them; their end is seen by ``squeue``.

submitit's own watching is not used: it hangs where a cluster keeps no accounting, and takes the state
NODE_FAIL, in which a job that is requeued rests for some seconds, for its end.
"""

from __future__ import annotations

import getpass
import io
import logging
import time
from collections.abc import Sequence
from contextlib import redirect_stderr
from pathlib import Path

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError, JobPaths

from srste.cluster.options import MOST_TASKS_AT_ONCE, SlurmOptions, asked
from srste.cluster.work import Launcher, Work
from srste.errors import UserError, first_line

log = logging.getLogger(__name__)

_SECONDS_TO_GO = 60
"""How long cancelled jobs of an earlier launch are waited for."""


def name_of(launch_id: str) -> str:
    """The name of all Slurm jobs of a launch, by which they are found again."""
    return f"srste-{launch_id[:16]}"


class Slurm:
    """One array after the other, each no longer than the cluster takes."""

    seconds_between_looks = 1.0
    launcher: Launcher | None = None  # the cluster looks after its jobs

    def __init__(self, options: SlurmOptions, folder: Path, name: str) -> None:
        self.name = name
        self.folder = folder
        self._longest = min(MOST_TASKS_AT_ONCE, _longest_array())
        self._submitted: list[str] = []
        self._silent_since: float | None = None
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
        try:
            # What sbatch says of a mistake is said once, below.
            with redirect_stderr(io.StringIO()), self._executor.batch():
                jobs = [self._executor.submit(work) for work in works]
        except (FailedJobError, FailedSubmissionError) as error:
            words = [line for line in str(error).splitlines() if "error:" in line]
            said = words[-1].partition("error:")[2].strip() if words else first_line(error)
            raise UserError(f"hydra/launcher=slurm: sbatch says: {said}") from error
        ids = [str(job.job_id) for job in jobs]
        self._submitted += dict.fromkeys(task.partition("_")[0] for task in ids)
        return ids

    def alive(self) -> set[str] | None:
        """The ids of the tasks that are queued or running; None while the cluster does not answer."""
        try:
            states = _queued(self.name)
        except UserError as error:
            if self._silent_since is None:
                self._silent_since = time.monotonic()
                log.warning("%s; waiting until the cluster answers again", error)
            return None
        self._silent_since = None
        return set(states)

    def why(self, task: str) -> str:
        """Why a task ended without doing its work, as the accounting tells it; that may be late."""
        where = f"log: {JobPaths(self.folder, task, 0).stderr}"
        for _ in range(10):
            try:
                command = ["sacct", "-X", "--noheader", "--parsable2", "--format=State", "-j", task]
                states = asked(*command).split("\n")
            except UserError:  # no accounting here
                break
            if states[0] and states[0] not in ("RUNNING", "PENDING", "COMPLETING"):
                return f"Slurm job {task}: {states[0]} ({where})"
            time.sleep(0.5)
        return f"Slurm job {task} ended without its records ({where})"

    def cancel(self) -> None:
        """Cancels all tasks."""
        if self._submitted:
            _cancel(self._submitted)


def cancel_left_over(launch_id: str) -> int:
    """Cancels the Slurm jobs that an earlier launching process of the same launch left when it was
    killed, and waits until they are gone. Returns: how many tasks that was."""
    left = _queued(name_of(launch_id))
    if left:
        _cancel(sorted({task.partition("_")[0] for task in left}))
        deadline = time.monotonic() + _SECONDS_TO_GO
        while _queued(name_of(launch_id)) and time.monotonic() < deadline:
            time.sleep(0.5)
    return len(left)


def _queued(name: str) -> dict[str, str]:
    """The tasks of that name that are queued or running, with their states."""
    answer = asked(
        "squeue", "--noheader", "--array", f"--user={getpass.getuser()}", f"--name={name}",
        "--format=%i|%T",
    )  # fmt: skip
    lines = (line.strip().partition("|") for line in answer.splitlines() if line.strip())
    return {task: state for task, _, state in lines}


def _cancel(ids: Sequence[str]) -> None:
    try:
        asked("scancel", *ids)
    except UserError as error:
        log.warning("%s; cancel by hand: scancel %s", error, " ".join(ids))


def _longest_array() -> int:
    """The cluster's limit on the length of an array."""
    for line in asked("scontrol", "show", "config").splitlines():
        name, _, value = line.partition("=")
        if name.strip() == "MaxArraySize" and value.strip().isdecimal():
            return max(1, int(value))
    return MOST_TASKS_AT_ONCE
