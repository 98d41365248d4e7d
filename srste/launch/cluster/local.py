"""Tasks as processes of this machine, by submitit's local executor."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil
import submitit
import torch

from srste.launch.cluster.options import LocalOptions
from srste.launch.cluster.work import Launcher, Work
from srste.launch.signals import ignored

_FOR_EVER = 60 * 24 * 365  # minutes: no time limit


class Local:
    """Starts a process whenever one has ended, so that no more than ``workers`` run at once."""

    seconds_between_looks = 0.2

    def __init__(self, options: LocalOptions, folder: Path) -> None:
        self.options = options
        self.launcher: Launcher | None = Launcher.here()
        self._jobs: dict[str, submitit.Job[None]] = {}
        self._executor = submitit.LocalExecutor(folder)
        # submitit hides all GPUs but those that were asked for.
        self._executor.update_parameters(timeout_min=_FOR_EVER, gpus_per_node=torch.cuda.device_count())

    def room(self, running: int) -> int:
        """How many more tasks may start now."""
        return self.options.at_once - running

    def submit(self, works: Sequence[Work]) -> list[str]:
        """Starts them. Returns their ids."""
        with ignored(signal.SIGINT):  # the terminal's Ctrl-C is not for them
            started = {str(job.job_id): job for job in map(self._executor.submit, works)}
        self._jobs |= started
        return list(started)

    def alive(self) -> set[str]:
        """The ids of the tasks that have not ended."""
        return {task for task, job in self._jobs.items() if not job.done()}

    def why(self, tasks: Sequence[str]) -> dict[str, str]:
        """Why tasks ended without doing their work."""
        logs = {task: self._jobs[task].paths.stderr for task in tasks}
        return {task: f"its process ended, as if killed (log: {path})" for task, path in logs.items()}

    def cancel(self) -> None:
        """Ends all tasks at once; their records are whole or not there."""
        deadline = time.monotonic() + 10
        with ignored():
            while (alive := self.alive()) and time.monotonic() < deadline:
                for controller in alive:
                    with suppress(psutil.NoSuchProcess):
                        for worker in psutil.Process(int(controller)).children():
                            worker.kill()
                time.sleep(0.05)
