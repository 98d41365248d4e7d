"""Hydra's sweeper of srste. Hydra imports this module in every program: the rest is imported late."""

from __future__ import annotations

from collections.abc import Sequence

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class CheckedSweeper(BasicSweeper):
    """Hydra's basic sweeper, for jobs that were all composed and checked before; it and its launcher
    compose what the jobs have in common once."""

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        from srste.composing import RememberingLoader

        loader = RememberingLoader(hydra_context.config_loader.get_search_path())
        super().setup(
            hydra_context=HydraContext(loader, hydra_context.callbacks),
            task_function=task_function,
            config=config,
        )

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """They are: see :mod:`srste.preflight`."""
