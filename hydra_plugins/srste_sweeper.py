"""Hydra's sweeper of srste; every Hydra program imports this module, so imports are deferred."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.types import Override
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class _Numbered:
    """A launcher of some of the jobs of a sweep, which gives each its number among all of them."""

    def __init__(self, launcher: Any, numbers: list[int]) -> None:
        self._launcher, self._numbers = launcher, numbers

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[Any]:
        numbers = self._numbers[initial_job_idx : initial_job_idx + len(job_overrides)]
        returned: list[Any] = []
        begin = 0
        for end in range(1, len(numbers) + 1):
            if end == len(numbers) or numbers[end] != numbers[end - 1] + 1:
                run = job_overrides[begin:end]
                returned += self._launcher.launch(run, initial_job_idx=numbers[begin])
                begin = end
        return returned


class CheckedSweeper(BasicSweeper):
    """Hydra's basic sweeper for jobs that were expanded and checked before (see
    :mod:`srste.launch.preflight`); it and its launcher compose what the jobs share once."""

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        from srste.launch.hydra_cache import CachingLoader

        loader = hydra_context.config_loader
        if not isinstance(loader, CachingLoader):
            loader = CachingLoader(loader.get_search_path())
        super().setup(
            hydra_context=HydraContext(loader, hydra_context.callbacks),
            task_function=task_function,
            config=config,
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Run the jobs that were checked; the arguments and parameters are not expanded again."""
        from srste.launch.sweep import handed_over

        self.params = {}
        self.launcher = _Numbered(self.launcher, list(handed_over()))  # type: ignore[assignment]
        return super().sweep([])

    @staticmethod
    def split_arguments(overrides: list[Override], max_batch_size: int | None) -> list[list[list[str]]]:
        """Return the jobs that were checked, in batches."""
        from srste.launch.sweep import handed_over

        jobs = list(handed_over().values())  # none, where all are done
        return list(BasicSweeper.split_overrides_to_chunks(jobs, max_batch_size)) if jobs else []

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Do nothing: the jobs are checked."""
