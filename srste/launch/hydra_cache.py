"""A configuration loader that composes a choice of files once for a launch and all its jobs.

Hydra composes in two steps. It reads and merges the files of the chosen options, which takes more than a
hundred milliseconds; then it sets single values in the result, which takes one or two. The jobs of a
sweep differ in many values and in few choices; and what was composed to check a launch, Hydra composes
again to run it, twice.
"""

import pickle
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any

from hydra._internal import hydra as _hydra
from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from srste.launch.overrides import line_of

_EACH_JOB_S = "hydra.sweep.subdir"
"""Hydra's one setting that differs from job to job."""

_NAME_THERE = "ConfigLoaderImpl"
"""What Hydra's module calls the class of the loader that it makes."""

_DERIVED = ("hydra.job.env_copy", "hydra.runtime")
"""What Hydra sets after the overrides, and what it sets from them."""


class CachingLoader(ConfigLoaderImpl):
    """Hydra's loader with a cache of composed choices; files that change meanwhile are not read
    again. Its results equal Hydra's in every node."""

    def __init__(self, config_search_path: ConfigSearchPath) -> None:
        super().__init__(config_search_path)
        self._files = cache(self._compose_files)
        self._shared = cache(self._compose_shared)
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
            if all(_is_simple(override, run_mode) for override in parsed):
                return self._compose(config_name, parsed)
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

    def _compose(self, config_name: str | None, parsed: list[Override]) -> DictConfig:
        fixed = [o for o in parsed if not o.is_sweep_override()]  # the others Hydra only lists
        files = tuple(map(line_of, self.choices_in(fixed, config_name)))
        values = [o for o in fixed if line_of(o) not in files]
        # Hydra's settings, but for the job's folder, are the same in all jobs of a sweep.
        shared = [o for o in values if o.is_hydra_override() and o.key_or_group != _EACH_JOB_S]
        config = _unpickled(self._shared(config_name, files, tuple(map(line_of, shared))))
        self._apply_overrides_to_config([o for o in values if o not in shared], config)

        # `hydra.overrides` ends with the choices of files; Hydra lists all overrides in the order given.
        overrides = config.hydra.overrides
        for lines, of_hydra in ((overrides.task, False), (overrides.hydra, True)):
            for line in files:
                if self._parse(line).is_hydra_override() is of_hydra:
                    lines.pop()
            lines.extend([line_of(o) for o in parsed if o.is_hydra_override() is of_hydra])
        config.hydra.job.override_dirname = get_overrides_dirname(
            [override for override in parsed if not override.is_hydra_override()],
            **config.hydra.job.config.override_dirname,
        )
        return config

    def _compose_files(self, config_name: str | None, files: tuple[str, ...]) -> bytes:
        """Return the configuration that these choices of files compose, pickled. What a run can be
        composed of gives the same for a multirun, which may leave choices open."""
        return pickle.dumps(super().load_configuration(config_name, list(files), RunMode.RUN))

    def _compose_shared(
        self, config_name: str | None, files: tuple[str, ...], values: tuple[str, ...]
    ) -> bytes:
        """Return the configuration of these choices with these values set in it, pickled."""
        config = _unpickled(self._files(config_name, files))
        self._apply_overrides_to_config([self._parse(line) for line in values], config)
        return pickle.dumps(config)

    def _is_group(self, config_name: str | None, search: tuple[str, ...], key: str) -> bool:
        """Return whether the key is a group. search: the overrides of `hydra.searchpath`."""
        return self._caching_repository(config_name, search)[1].group_exists(key)


def _unpickled(config: bytes) -> DictConfig:
    """Return a copy of a configuration that this process pickled: copy.deepcopy takes six times as
    long."""
    loaded: DictConfig = pickle.loads(config)  # noqa: S301
    return loaded


@contextmanager
def composing_with(loader: CachingLoader) -> Iterator[None]:
    """Have what `hydra.main` composes within the block composed by this loader, if it searches the same
    places."""

    def make(config_search_path: ConfigSearchPath) -> ConfigLoaderImpl:
        theirs, ours = config_search_path.get_path(), loader.config_search_path.get_path()
        same = [*map(str, theirs)] == [*map(str, ours)]
        return loader if same else ConfigLoaderImpl(config_search_path)

    setattr(_hydra, _NAME_THERE, make)
    try:
        yield
    finally:
        setattr(_hydra, _NAME_THERE, ConfigLoaderImpl)


def _is_simple(override: Override, run_mode: RunMode) -> bool:
    """Return whether an override may be applied in any order with others. Not a sweep that Hydra
    refuses; nor one with a package, which Hydra may refuse; nor a mapping, which may replace what other
    overrides set; nor what other settings are derived from."""
    if override.is_sweep_override():
        return run_mode == RunMode.MULTIRUN and not override.is_hydra_override()
    simple = override.package is None
    derived = override.key_or_group.startswith(_DERIVED)
    return simple and not derived and not isinstance(override.value(), dict)
