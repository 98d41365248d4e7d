"""Composing the many jobs of a sweep at the price of a few: what the choices make is composed once.

Hydra composes in two steps. It reads and merges the files that the choices of groups ask for, which
takes tens of milliseconds; then it sets single values in the result, which takes one or two. The jobs of
a sweep differ in many values and in few choices.
"""

from __future__ import annotations

import pickle
import re
from contextlib import suppress
from functools import cache
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra._internal.config_repository import CachingConfigRepository
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from srste.launch.overrides import line_of

_OF_HYDRA = re.compile(r"hydra([./]|$)")


class RememberingLoader(ConfigLoaderImpl):
    """Hydra's own loader of configurations, which keeps what it composed of choices as long as it lives:
    files that change meanwhile are not read again. Its results are Hydra's in every node."""

    def __init__(self, config_search_path: ConfigSearchPath) -> None:
        super().__init__(config_search_path)
        self._chosen: dict[tuple[Any, ...], bytes] = {}
        self._parsed = cache(OverridesParser.create().parse_override)
        self._repository = cache(self._read_repository)
        self.is_group = cache(self._look_for_group)

    def __reduce__(self) -> tuple[Any, ...]:
        # Another process is sent Hydra's own: what is remembered here would weigh down every task.
        own = {"config_search_path": self.config_search_path, "repository": self.repository}
        return object.__new__, (ConfigLoaderImpl,), own

    def load_configuration(
        self,
        config_name: str | None,
        overrides: list[str],
        run_mode: RunMode,
        from_shell: bool = True,
        validate_sweep_overrides: bool = True,
    ) -> DictConfig:
        """See :class:`hydra.core.config_loader.ConfigLoader`."""
        # What cannot be taken apart is left to Hydra, and so is what fails, to fail in Hydra's words.
        with suppress(HydraException, OmegaConfBaseException, ValueError):
            parsed = [self._parsed(line) for line in overrides]
            if all(map(_is_simple, parsed)):
                return self._composed(config_name, parsed, run_mode)
        return super().load_configuration(
            config_name, overrides, run_mode, from_shell, validate_sweep_overrides
        )

    def _composed(
        self, config_name: str | None, parsed: list[Override], run_mode: RunMode
    ) -> DictConfig:
        paths = tuple(line_of(o) for o in parsed if o.key_or_group == "hydra.searchpath")

        def is_value(override: Override) -> bool:
            # Hydra's own count as choices, but for the job's folder: they are the same in all jobs of a
            # sweep.
            key = override.key_or_group
            of_hydra = _OF_HYDRA.match(key) and key != "hydra.sweep.subdir"
            return not of_hydra and not self.is_group(config_name, paths, key)

        values = [o for o in parsed if is_value(o)]
        choices = [o for o in parsed if not is_value(o)]
        config = self._of_choices(config_name, choices, run_mode)
        self._apply_overrides_to_config(values, config)

        # Hydra has noted the choices alone; it notes all, as they came.
        noted = config.hydra.overrides
        for lines, of_hydra in ((noted.task, False), (noted.hydra, True)):
            for choice in choices:
                if choice.is_hydra_override() is of_hydra:
                    lines.pop()
            lines.extend([line_of(o) for o in parsed if o.is_hydra_override() is of_hydra])
        config.hydra.job.override_dirname = get_overrides_dirname(
            [override for override in parsed if not override.is_hydra_override()],
            **config.hydra.job.config.override_dirname,
        )
        return config

    def is_choice(self, config_name: str | None, override: Override, search: tuple[str, ...]) -> bool:
        """Whether an override chooses one of a group, rather than setting a value. search: the
        overrides of `hydra.searchpath`."""
        is_group = self.is_group(config_name, search, override.key_or_group)
        return is_group and not isinstance(override.value(), dict)

    def _of_choices(
        self, config_name: str | None, choices: list[Override], run_mode: RunMode
    ) -> DictConfig:
        """A new copy of what these make."""
        lines = [line_of(choice) for choice in choices]
        key = (config_name, run_mode, *lines)
        if key not in self._chosen:
            composed = super().load_configuration(config_name, lines, run_mode)
            self._chosen[key] = pickle.dumps(composed)
        # Of this process's own making; copy.deepcopy takes six times as long.
        config: DictConfig = pickle.loads(self._chosen[key])  # noqa: S301
        return config

    def _look_for_group(self, config_name: str | None, paths: tuple[str, ...], key: str) -> bool:
        return self._repository(config_name, paths).group_exists(key)

    def _read_repository(
        self, config_name: str | None, paths: tuple[str, ...]
    ) -> CachingConfigRepository:
        return self._parse_overrides_and_create_caching_repo(config_name, list(paths))[1]


def _is_simple(override: Override) -> bool:
    """Whether it is a choice or a value, in any order with others. A sweep is neither; a package is for
    choices, which Hydra may refuse; a whole mapping may replace what other overrides set."""
    simple = not override.is_sweep_override() and override.package is None
    return simple and not isinstance(override.value(), dict)
