"""Composes the overrides of a command line, or names the one that does not compose."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra import version
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import ConfigSearchPath, SearchPathQuery
from hydra.core.override_parser.types import Override, OverrideType
from hydra.core.utils import JobRuntime, setup_globals
from hydra.errors import ConfigCompositionException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from srste.errors import UserError, in_one_line
from srste.launch.command_line import CommandLine, job_name
from srste.launch.hints import nearest_key, nearest_of
from srste.launch.hydra_cache import CachingLoader
from srste.launch.overrides import key_of_line, line_of, parse

_DEFAULT_NAME = "config"


class Composer:
    """Composes configurations for one command line, as Hydra does.

    config_dir: the folder of the configurations, unless the command names another one.
    """

    def __init__(self, command: CommandLine, config_dir: Path) -> None:
        version.setbase("1.3")
        setup_globals()
        # Shown in `hydra.job.name`.
        JobRuntime.instance().set("name", job_name())
        self.config_dir = command.options.config_path or str(config_dir)
        self.config_name: str = command.options.config_name or _DEFAULT_NAME
        self.loader = CachingLoader(_search_path(self.config_dir, command.options.config_dir))

    def compose(self, overrides: Sequence[str], mode: RunMode = RunMode.RUN) -> DictConfig:
        """Return the configuration. Raises: UserError that names the override which does not
        compose, with a suggestion."""
        try:
            return self._load(overrides, mode)
        # Not only Hydra's and OmegaConf's: KeyError of an environment variable, YAML's, assertions.
        except Exception as error:
            raise UserError(self._complaint(error, overrides, mode)) from error

    def compose_loosely(self, overrides: Sequence[str], mode: RunMode) -> tuple[list[str], DictConfig]:
        """Compose what the jobs of a sweep share: a key that only exists in their choices is added
        rather than refused. Returns: the overrides that do so, and the configuration."""
        lines = list(overrides)
        try:
            return lines, self.compose(lines, mode)
        except UserError:
            loosened = self._loosened(lines, mode)
            if loosened == lines:
                raise
        return loosened, self.compose(loosened, mode)

    def as_typed(self, key: str) -> str:
        """Return a key as it is typed, with slashes where it is a group of choices."""
        group = key.replace(".", "/")
        return group if "/" in group and self.loader.is_group(self.config_name, (), group) else key

    def _load(self, overrides: Sequence[str], mode: RunMode) -> DictConfig:
        return self.loader.load_configuration(self.config_name, list(overrides), mode, from_shell=False)

    def _split(self, overrides: Sequence[str]) -> tuple[list[str], list[Override]]:
        """Return the overrides that select files, and those that set values in the result."""
        parsed = parse(overrides, self.loader)
        choices = [line_of(o) for o in self.loader.choices_in(parsed, self.config_name)]
        return choices, [o for o in parsed if line_of(o) not in choices]

    def _loosened(self, overrides: list[str], mode: RunMode) -> list[str]:
        choices, values = self._split(overrides)
        try:
            existing = set(_keys(self._load(choices, mode), "hydra."))
        except Exception:
            return overrides
        missing = {
            line_of(o)
            for o in values
            if o.type == OverrideType.CHANGE
            and not o.is_sweep_override()
            and not o.is_hydra_override()
            and o.key_or_group not in existing
        }
        return [f"++{line}" if line in missing else line for line in overrides]

    def _complaint(self, error: Exception, overrides: Sequence[str], mode: RunMode) -> str:
        """Name the override at fault: compose the choices first, then set the values one by one."""
        choices, values = self._split(overrides)
        try:
            config = self._load(choices, mode)
        except Exception as choice_error:
            return self._choice_complaint(choice_error, choices, mode)
        for override in values:
            if override.is_sweep_override():
                continue  # set in each job only
            try:
                self.loader._apply_overrides_to_config([override], config)
            except Exception as value_error:
                return self._value_complaint(value_error, override, config)
        if isinstance(error, KeyError):
            return f"hydra.job.env_copy: the environment has no variable {error}"
        return in_one_line(error)

    def _choice_complaint(self, error: Exception, choices: list[str], mode: RunMode) -> str:
        if isinstance(error, MissingConfigException):
            return self._missing_choice_complaint(error, choices)
        if isinstance(error, yaml.YAMLError):
            return f"not YAML: {in_one_line(error)}"

        def is_suspect(line: str) -> bool:
            try:
                self._load([other for other in choices if other != line], mode)
            except Exception as without:
                return str(without) != str(error)
            return True

        suspects = [line for line in choices if is_suspect(line)]
        suspects.sort(key=lambda line: f"'{key_of_line(line)}" not in str(error))
        return f"{suspects[0]}: {in_one_line(error)}" if suspects else in_one_line(error)

    def _missing_choice_complaint(self, error: MissingConfigException, choices: list[str]) -> str:
        missing = error.missing_cfg_file or ""
        if missing == self.config_name:
            return f"--config-name={missing}: no such file in {Path(self.config_dir).name}"
        group, _, choice = missing.rpartition("/")
        options = sorted(error.options or [])

        def names_it(override: Override) -> bool:
            value = override.value()
            chosen = value if isinstance(value, list) else [value]
            return override.key_or_group == group and choice in map(str, chosen)

        parsed = parse(choices, self.loader)
        typed = next((line_of(o) for o in parsed if names_it(o)), f"{group}={choice}")
        return f"{typed}: {nearest_of(choice, options)}must be one of {', '.join(options)}"

    def _value_complaint(self, error: Exception, override: Override, config: DictConfig) -> str:
        """Return what is wrong with an override that sets a value in this configuration."""
        line = line_of(override)
        key = override.key_or_group.replace("/", ".")
        keys = _keys(config, key)
        if override.is_add() and key in keys:
            return f"{line}: {key} is there already; write {line.removeprefix('+')}"
        if key in keys or override.is_add() or override.is_force_add() or override.package:
            cause = error.__cause__ if isinstance(error, ConfigCompositionException) else None
            return f"{line}: {in_one_line(cause or error)}"
        group = key.partition(".")[0]
        chosen = OmegaConf.select(config, "hydra.runtime.choices").get(group)
        explicit = f"{group}={chosen}" in config.hydra.overrides.task and chosen and group != key
        given = f" with {group}={chosen}" if explicit else ""
        return f"{line}: no such key{given}; {nearest_key(key, keys, self.as_typed)}"


def _search_path(config_dir: str, more: str | None) -> ConfigSearchPath:
    """Return where Hydra searches for configurations; more: the folder of `--config-dir`."""
    path = create_config_search_path(config_dir)
    if more is not None:
        folder, schema = f"file://{Path(more).resolve()}", SearchPathQuery(provider="schema")
        path.prepend(provider="command-line", path=folder, anchor=schema)
    return path


def _keys(config: DictConfig, near: str) -> list[str]:
    """Return all dotted keys, parents before children; those of `hydra` only if ``near`` is one."""
    keys = _keys_below(OmegaConf.to_container(config, resolve=False))
    return [key for key in keys if near.startswith("hydra.") or key.partition(".")[0] != "hydra"]


def _keys_below(node: Any) -> Iterator[str]:
    for key, value in node.items():
        yield str(key)
        if isinstance(value, dict):
            yield from (f"{key}.{below}" for below in _keys_below(value))
