"""A configuration loader that composes a choice of files once for all jobs of a sweep.

Hydra composes in two steps. It reads and merges the files of the chosen options, which takes tens
of milliseconds; then it sets single values in the result, which takes one or two. The jobs of a
sweep differ in many values and in few choices.
"""

import pickle
import re
from contextlib import suppress
from functools import cache
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from srste.launch.overrides import line_of

_OF_HYDRA = re.compile(r"(?!hydra\.sweep\.subdir$)hydra([./]|$)")


class CachingLoader(ConfigLoaderImpl):
    """Hydra's loader with a cache of composed choices; files that change meanwhile are not read
    again. Its results equal Hydra's in every node."""

    def __init__(self, config_search_path: ConfigSearchPath) -> None:
        super().__init__(config_search_path)
        self._composed = cache(self._compose_choices)
        self._parse = cache(OverridesParser.create().parse_override)
        self._caching_repository = cache(self._parse_overrides_and_create_caching_repo)
        self.is_group = cache(self._is_group)

    def __reduce__(self) -> tuple[Any, ...]:
        # Pickled as Hydra's loader: the cache would enlarge every task.
        state = {"config_search_path": self.config_search_path, "repository": self.repository}
        return object.__new__, (ConfigLoaderImpl,), state

    def load_configuration(
        self,
        config_name: str | None,
        overrides: list[str],
        run_mode: RunMode,
        from_shell: bool = True,
        validate_sweep_overrides: bool = True,
    ) -> DictConfig:
        """See :class:`hydra.core.config_loader.ConfigLoader`."""
        # Hydra composes what is not simple, and repeats what fails, so that the error is its own.
        with suppress(HydraException, OmegaConfBaseException, ValueError):
            parsed = [self._parse(line) for line in overrides]
            if all(map(_is_simple, parsed)):
                return self._compose(config_name, parsed, run_mode)
        return super().load_configuration(
            config_name, overrides, run_mode, from_shell, validate_sweep_overrides
        )

    def choices_in(self, parsed: list[Override], config_name: str | None) -> list[Override]:
        """Return those overrides that select files; the others set values in the result."""
        search = tuple(line_of(o) for o in parsed if o.key_or_group == "hydra.searchpath")

        def is_choice(override: Override) -> bool:
            is_group = self.is_group(config_name, search, override.key_or_group)
            return is_group and not isinstance(override.value(), dict)

        return [o for o in parsed if line_of(o) in search or is_choice(o)]

    def _compose(self, config_name: str | None, parsed: list[Override], run_mode: RunMode) -> DictConfig:
        # Hydra's settings, but for the job's folder, are the same in all jobs of a sweep: they are
        # cached with the choices.
        of_files = self.choices_in(parsed, config_name)
        choices = [o for o in parsed if o in of_files or _OF_HYDRA.match(o.key_or_group)]
        values = [o for o in parsed if o not in choices]
        # Pickled by this process; copy.deepcopy takes six times as long.
        pickled = self._composed(config_name, run_mode, *map(line_of, choices))
        config: DictConfig = pickle.loads(pickled)  # noqa: S301
        self._apply_overrides_to_config(values, config)

        # `hydra.overrides` ends with the choices; Hydra lists all overrides in the order given.
        overrides = config.hydra.overrides
        for lines, of_hydra in ((overrides.task, False), (overrides.hydra, True)):
            for choice in choices:
                if choice.is_hydra_override() is of_hydra:
                    lines.pop()
            lines.extend([line_of(o) for o in parsed if o.is_hydra_override() is of_hydra])
        config.hydra.job.override_dirname = get_overrides_dirname(
            [override for override in parsed if not override.is_hydra_override()],
            **config.hydra.job.config.override_dirname,
        )
        return config

    def _compose_choices(self, config_name: str | None, run_mode: RunMode, *choices: str) -> bytes:
        """Return the configuration that these choices compose, pickled."""
        return pickle.dumps(super().load_configuration(config_name, list(choices), run_mode))

    def _is_group(self, config_name: str | None, search: tuple[str, ...], key: str) -> bool:
        """Return whether the key is a group. search: the overrides of `hydra.searchpath`."""
        return self._caching_repository(config_name, search)[1].group_exists(key)


def _is_simple(override: Override) -> bool:
    """Return whether an override may be applied in any order with others. Not a sweep; nor one with
    a package, which Hydra may refuse; nor a mapping, which may replace what other overrides set."""
    simple = not override.is_sweep_override() and override.package is None
    return simple and not isinstance(override.value(), dict)
