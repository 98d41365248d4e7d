"""Expansion of a sweep into its jobs, once, before any of them runs.

Hydra's sweeper would expand the sweep again, and `shuffle` gives another order each time.
"""

import itertools
import math
from collections.abc import Mapping, Sequence

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.types import Override, ValueType
from omegaconf import DictConfig

from srste.errors import UserError, in_one_line
from srste.launch.overrides import line_of, parse
from srste.launch.range_syntax import MOST_VALUES, expand
from srste.launch.validation import integer, nullable

MOST_JOBS = 1_000_000
"""More jobs in one sweep are taken for a mistake."""

CHECKED_SWEEPER = "hydra_plugins.srste_sweeper.CheckedSweeper"
_BASIC_SWEEPER = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"

_checked: list[dict[int, list[str]]] = []


def hand_over(jobs: Mapping[int, Sequence[str]]) -> None:
    """Store the overrides of each job that is to run, by its number, in order, for the sweeper, which
    Hydra makes in this process."""
    _checked[:] = [{number: list(line) for number, line in jobs.items()}]


def handed_over() -> dict[int, list[str]]:
    """Return the overrides of each job that is to run, by its number. Raises: RuntimeError if no jobs
    were checked."""
    if not _checked:
        raise RuntimeError(
            "the jobs of a sweep are checked before they run: use srste.launch.launch.launch"
        )
    return dict(_checked[0])


def parameters(master: DictConfig) -> list[str]:
    """Return the sweep that a configuration holds (`hydra.sweeper.params`), as overrides."""
    params = master.hydra.sweeper.get("params") or {}
    return [expand(f"{key}={value}") for key, value in params.items()]


def job_lines(master: DictConfig, overrides: Sequence[str], loader: ConfigLoader) -> list[list[str]]:
    """Return each job's overrides, as Hydra's own sweeper expands them.

    master: the sweep's configuration; overrides: of the command, without those of `hydra`.
    Raises: UserError for a sweep with no values or too many, and for another sweeper.
    """
    sweeper = master.hydra.sweeper
    if sweeper.get("_target_") not in (CHECKED_SWEEPER, _BASIC_SWEEPER):
        raise UserError(f"hydra/sweeper={sweeper.get('_target_')}: must be basic, which runs all jobs")
    size = sweeper.get("max_batch_size")
    if complaint := nullable(integer(1))(size):
        raise UserError(f"hydra.sweeper.max_batch_size={size}: {complaint}")
    # As in Hydra's sweeper, the command comes last: of two overrides of a key the later one wins.
    parsed = parse([*parameters(master), *overrides], loader)
    effective = {override.get_key_element(): override for override in parsed}
    n_jobs = math.prod(map(_number_of_values, effective.values()))
    if n_jobs > MOST_JOBS:
        raise UserError(f"the sweep asks for {n_jobs:,} jobs, more than {MOST_JOBS:,}")
    (lines,) = BasicSweeper.split_arguments(parsed, max_batch_size=None)
    return lines


def _number_of_values(override: Override) -> int:
    line = line_of(override)
    if not override.is_sweep_override():
        return 1
    if override.value_type == ValueType.INTERVAL_SWEEP:
        raise UserError(f"{line}: an interval has no single values; name them, as by range or choice")
    try:
        values = list(itertools.islice(override.sweep_string_iterator(), MOST_VALUES + 1))
    # HydraException, ValueError, AssertionError: Hydra's grammar does not refuse all bad values.
    except Exception as error:
        raise UserError(f"{line}: {in_one_line(error)}") from error
    if len(values) > MOST_VALUES:
        raise UserError(f"{line}: gives more than {MOST_VALUES:,} values")
    if not values:
        is_glob = override.value_type == ValueType.GLOB_CHOICE_SWEEP
        raise UserError(f"{line}: {_no_choice(override) if is_glob else 'gives no values'}")
    return len(values)


def _no_choice(override: Override) -> str:
    """Return why a glob selects nothing."""
    loader = override.config_loader
    options = loader.get_group_options(override.key_or_group) if loader else []
    if not options:
        return f"glob selects choices of a group, and {override.key_or_group} is none"
    return f"selects none of {', '.join(sorted(options))}"
