"""Composes the overrides of a command line, or says in one line which of them does not compose."""

from __future__ import annotations

from collections.abc import Sequence
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
from srste.launch.hydra_cache import RememberingLoader
from srste.launch.overrides import key_of_line, line_of, parse

_DEFAULT_NAME = "config"


class Composer:
    """Hydra's way from overrides to a configuration, for one command line.

    config_dir: the folder of the configurations, unless the command names another one.
    """

    def __init__(self, command: CommandLine, config_dir: Path) -> None:
        version.setbase("1.3")
        setup_globals()
        # As Hydra names it, which shows in `hydra.job.name`.
        JobRuntime.instance().set("name", job_name())
        self.config_dir = command.options.config_path or str(config_dir)
        self.config_name: str = command.options.config_name or _DEFAULT_NAME
        self.loader = RememberingLoader(_search_path(self.config_dir, command.options.config_dir))

    def compose(self, overrides: Sequence[str], mode: RunMode = RunMode.RUN) -> DictConfig:
        """The configuration. Raises: UserError that names the override which does not compose, and
        what was probably meant."""
        try:
            return self._load(overrides, mode)
        # Beside Hydra's and OmegaConf's: KeyError of an environment variable, YAML's own, assertions.
        except Exception as error:
            raise UserError(self._complaint(error, overrides, mode)) from error

    def compose_loosely(self, overrides: Sequence[str], mode: RunMode) -> tuple[list[str], DictConfig]:
        """As :meth:`compose`, for what jobs have in common: a key that only their choices bring is
        added rather than refused. Returns: the overrides for that, and the configuration."""
        lines = list(overrides)
        try:
            return lines, self.compose(lines, mode)
        except UserError:
            loosened = self._loosened(lines, mode)
            if loosened == lines:
                raise
        return loosened, self.compose(loosened, mode)

    def is_group(self, key: str) -> bool:
        """Whether choices are made by that key, parted by slashes."""
        return self.loader.is_group(self.config_name, (), key)

    def _load(self, overrides: Sequence[str], mode: RunMode) -> DictConfig:
        return self.loader.load_configuration(self.config_name, list(overrides), mode, from_shell=False)

    def _parted(self, overrides: Sequence[str]) -> tuple[list[Override], list[Override]]:
        """Those that decide which files are read, and those that set values in what these make."""
        parsed = parse(overrides, self.loader)
        search = tuple(line_of(o) for o in parsed if o.key_or_group == "hydra.searchpath")
        choices: list[Override] = []
        values: list[Override] = []
        for override in parsed:
            is_choice = override.key_or_group == "hydra.searchpath" or self.loader.is_choice(
                self.config_name, override, search
            )
            (choices if is_choice else values).append(override)
        return choices, values

    def _loosened(self, overrides: list[str], mode: RunMode) -> list[str]:
        choices, values = self._parted(overrides)
        try:
            config = self._load([line_of(choice) for choice in choices], mode)
        except Exception:
            return overrides
        there = set(_keys(config, "hydra."))
        plain = [o for o in values if o.type == OverrideType.CHANGE and not o.is_sweep_override()]
        lacking = {
            line_of(o) for o in plain if not o.is_hydra_override() and o.key_or_group not in there
        }
        return [f"++{line}" if line in lacking else line for line in overrides]

    def _complaint(self, error: Exception, overrides: Sequence[str], mode: RunMode) -> str:
        """Hydra composes the choices first and then sets the values, one by one; so it is tried here."""
        choices, values = self._parted(overrides)
        try:
            config = self._load([line_of(choice) for choice in choices], mode)
        except Exception as of_choices:
            return self._of_choice(of_choices, choices, mode)
        for override in values:
            if override.is_sweep_override():
                continue  # set in each job only
            try:
                self.loader._apply_overrides_to_config([override], config)
            except Exception as of_value:
                return self._of_value(of_value, override, config)
        if isinstance(error, KeyError):
            return f"hydra.job.env_copy: the environment has no variable {error}"
        return in_one_line(error)

    def _of_choice(self, error: Exception, choices: list[Override], mode: RunMode) -> str:
        if isinstance(error, MissingConfigException):
            return self._no_such_choice(error, choices)
        if isinstance(error, yaml.YAMLError):
            return f"not YAML: {in_one_line(error)}"
        lines = [line_of(choice) for choice in choices]

        def changes(line: str) -> bool:
            """Whether it is another matter without that choice."""
            return self._error_of([one for one in lines if one != line], mode) != str(error)

        suspects = [line for line in lines if changes(line)]
        suspects.sort(key=lambda line: f"'{key_of_line(line)}" not in str(error))
        return f"{suspects[0]}: {in_one_line(error)}" if suspects else in_one_line(error)

    def _error_of(self, overrides: list[str], mode: RunMode) -> str:
        try:
            self._load(overrides, mode)
        except Exception as error:
            return str(error)
        return ""

    def _no_such_choice(self, error: MissingConfigException, choices: list[Override]) -> str:
        missing = error.missing_cfg_file or ""
        if missing == self.config_name:
            return f"--config-name={missing}: no such file in {Path(self.config_dir).name}"
        group, _, choice = missing.rpartition("/")
        options = sorted(error.options or [])

        def names_it(override: Override) -> bool:
            value = override.value()
            named = value if isinstance(value, list) else [value]
            return override.key_or_group == group and choice in map(str, named)

        typed = next((line_of(o) for o in choices if names_it(o)), f"{group}={choice}")
        return f"{typed}: {nearest_of(choice, options)}must be one of {', '.join(options)}"

    def _of_value(self, error: Exception, override: Override, config: DictConfig) -> str:
        """What is wrong with an override that sets a value; config: made of those before it."""
        line = line_of(override)
        key = override.key_or_group.replace("/", ".")
        there = _keys(config, key)
        if override.is_add() and key in there:
            return f"{line}: {key} is there already; write {line.removeprefix('+')}"
        if key in there or override.is_add() or override.is_force_add() or override.package:
            cause = error.__cause__ if isinstance(error, ConfigCompositionException) else None
            return f"{line}: {in_one_line(cause or error)}"
        group = key.partition(".")[0]
        chosen = OmegaConf.select(config, "hydra.runtime.choices").get(group)
        explicit = f"{group}={chosen}" in config.hydra.overrides.task and chosen and group != key
        given = f" with {group}={chosen}" if explicit else ""
        return f"{line}: no such key{given}; {nearest_key(key, there, self._as_typed)}"

    def _as_typed(self, key: str) -> str:
        """A key, with slashes where it is a group of choices."""
        group = key.replace(".", "/")
        return group if "/" in group and self.is_group(group) else key


def _search_path(config_dir: str, more: str | None) -> ConfigSearchPath:
    """Where Hydra looks for configurations; more: the folder of `--config-dir`."""
    path = create_config_search_path(config_dir)
    if more is not None:
        folder, schema = f"file://{Path(more).resolve()}", SearchPathQuery(provider="schema")
        path.prepend(provider="command-line", path=folder, anchor=schema)
    return path


def _keys(config: DictConfig, near: str) -> list[str]:
    """Every dotted key of a configuration, parents before children; Hydra's only if near one."""
    keys: list[str] = []

    def walk(node: Any, prefix: str) -> None:
        for key, value in node.items():
            if prefix == "" and key == "hydra" and not near.startswith("hydra."):
                continue
            keys.append(f"{prefix}{key}")
            if isinstance(value, dict):
                walk(value, f"{prefix}{key}.")

    walk(OmegaConf.to_container(config, resolve=False), "")
    return keys
