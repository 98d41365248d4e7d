"""Hydra's sweeper of srste. Hydra imports this module in every program: the rest is imported late."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.types import Override
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class CheckedSweeper(BasicSweeper):
    """Hydra's basic sweeper, for jobs that were all expanded, composed and checked before: it runs
    those, and it and its launcher compose what the jobs have in common once."""

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        from srste.launch.hydra_cache import RememberingLoader

        loader = RememberingLoader(hydra_context.config_loader.get_search_path())
        super().setup(
            hydra_context=HydraContext(loader, hydra_context.callbacks),
            task_function=task_function,
            config=config,
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Runs the jobs that were checked; what they were made of is not read again."""
        self.params = {}
        return super().sweep([])

    @staticmethod
    def split_arguments(overrides: list[Override], max_batch_size: int | None) -> list[list[list[str]]]:
        """The jobs that were checked, in batches."""
        from srste.launch.sweep import handed_over

        return list(BasicSweeper.split_overrides_to_chunks(handed_over(), max_batch_size))

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """They are: see :mod:`srste.launch.preflight`."""
