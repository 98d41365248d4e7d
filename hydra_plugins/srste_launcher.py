"""Hydra's launchers of srste; every Hydra program imports this module, so imports are deferred."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class _PackingLauncher(Launcher):
    """Runs jobs in other processes, many jobs in each; see :mod:`srste.launch.cluster`."""

    def __init__(self, **options: Any) -> None:
        """Ignore the options, which are read from the checked configuration."""

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        self.hydra_context = hydra_context
        self.task_function = task_function
        self.config = config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        from srste.launch.cluster.fan_out import fan_out

        fan_out(self.hydra_context, self.task_function, self.config, job_overrides, initial_job_idx)
        return []  # its records tell whether a job succeeded


class SlurmLauncher(_PackingLauncher):
    """Runs jobs in arrays of Slurm jobs."""


class LocalLauncher(_PackingLauncher):
    """Runs jobs in processes of this machine."""
