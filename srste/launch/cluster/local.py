"""Runs tasks as processes of this machine, by submitit's local executor."""

import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil
import submitit
import torch

from srste.launch.cluster.options import LocalOptions
from srste.launch.cluster.work import ProcessId, Work
from srste.launch.signals import ignored

_NO_TIME_LIMIT = 60 * 24 * 365  # minutes


class Local:
    """Starts a process whenever one has ended, so that at most ``workers`` run at once."""

    poll_seconds = 0.2

    def __init__(self, options: LocalOptions, root: Path) -> None:
        self.options = options
        self.launching_process = ProcessId.current()
        self._jobs: dict[str, submitit.Job[None]] = {}
        self._executor = submitit.LocalExecutor(root / ".submitit")
        # submitit hides all GPUs but those that were requested.
        self._executor.update_parameters(
            timeout_min=_NO_TIME_LIMIT, gpus_per_node=torch.cuda.device_count()
        )

    def free_slots(self, running: int) -> int:
        """Return how many more tasks may start now."""
        return self.options.concurrency - running

    def submit(self, works: Sequence[Work]) -> list[str]:
        """Start the tasks and return their ids."""
        with ignored(signal.SIGINT):  # the terminal's Ctrl-C must not reach them
            started = {str(job.job_id): job for job in map(self._executor.submit, works)}
        self._jobs |= started
        return list(started)

    def alive(self) -> set[str]:
        """Return the ids of the tasks that have not ended."""
        return {task for task, job in self._jobs.items() if not job.done()}

    def failure_reasons(self, tasks: Sequence[str]) -> dict[str, str]:
        """Return why tasks ended early."""
        logs = {task: self._jobs[task].paths.stderr for task in tasks}
        return {task: f"its process ended, as if killed (log: {path})" for task, path in logs.items()}

    def cancel(self) -> None:
        """Kill all tasks; records are written atomically, so none is left incomplete."""
        deadline = time.monotonic() + 10
        with ignored():
            while (alive := self.alive()) and time.monotonic() < deadline:
                for controller in alive:
                    with suppress(psutil.NoSuchProcess):
                        for worker in psutil.Process(int(controller)).children():
                            worker.kill()
                time.sleep(0.05)
