"""Reads the claims on logs from a YAML file."""

import fnmatch
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from srste.errors import UserError, first_line
from srste.launch.validation import integer
from srste.note2021.statistics import STATISTICS

OF_THE_NOTE = Path(__file__).parent / "note_2021.yaml"
"""The claims of the note of June 2021."""


@dataclass(frozen=True)
class LearningRates:
    """The grid that is claimed to have been searched, ``start`` and ``stop`` included."""

    start: float
    stop: float
    step: float


@dataclass(frozen=True)
class Claims:
    """The claims on the logs whose name matches ``log``.

    batches: their number; None: not claimed. counts: numbers of batches, by the keys of
    :data:`srste.note2021.statistics.STATISTICS`. rerun: arguments of ``train.py -m``, one for each
    launch of our own run.
    """

    log: str = "*"
    batches: int | None = None
    counts: dict[str, int] = field(default_factory=dict)
    learning_rates: LearningRates | None = None
    rerun: tuple[str, ...] = ()


def claims_of(log: Path, claims: Sequence[Claims]) -> Claims:
    """Return the first claims that match this log; empty claims if none do."""
    return next((c for c in claims if fnmatch.fnmatch(log.name, c.log)), Claims())


def read_claims(path: Path) -> list[Claims]:
    """Read a YAML file, a list of entries (or one entry) like those of :data:`OF_THE_NOTE`.

    Raises: UserError that names the file, the entry, the key and what is allowed.
    """
    try:
        plain = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"--claims={path}: must be a YAML file ({first_line(error)})") from error
    entries = plain if isinstance(plain, list) else [plain]
    return [_entry(entry, f"{path}: entry {number}") for number, entry in enumerate(entries, 1)]


def _entry(plain: Any, where: str) -> Claims:
    keys = ("log", "batches", "counts", "learning_rates", "rerun")
    given = _mapping(plain, where, keys)
    rerun = given.get("rerun", [])
    if not isinstance(rerun, list) or not all(isinstance(line, str) for line in rerun):
        raise UserError(f"{where}: rerun={rerun}: must be a list of arguments of train.py -m")
    batches = given.get("batches")
    if batches is not None:
        _count(batches, f"{where}: batches")
    counts = _mapping(given.get("counts", {}), f"{where}: counts", tuple(STATISTICS))
    for key, count in counts.items():
        _count(count, f"{where}: counts.{key}", batches)
    grid = given.get("learning_rates")
    return Claims(
        log=str(given.get("log", "*")),
        batches=batches,
        counts=counts,
        learning_rates=_grid(grid, f"{where}: learning_rates") if grid is not None else None,
        rerun=tuple(rerun),
    )


def _grid(plain: Any, where: str) -> LearningRates:
    ends = ("from", "to", "step")
    given = _mapping(plain, where, ends)
    numbers = []
    for key in ends:
        try:
            # YAML reads a number without a point, such as 1e-5, as a text.
            number = float(str(given.get(key)))
        except ValueError:
            number = math.nan
        if not 0 < number < math.inf:
            raise UserError(f"{where}.{key}={given.get(key)}: must be a number > 0")
        numbers.append(number)
    return LearningRates(*numbers)


def _mapping(plain: Any, where: str, allowed: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(plain, dict):
        raise UserError(f"{where}: must hold keys and values, the keys of {', '.join(allowed)}")
    for key in plain:
        if key not in allowed:
            raise UserError(f"{where}: {key}: no such key; known are {', '.join(allowed)}")
    return plain


def _count(value: Any, where: str, most: int | None = None) -> None:
    if integer(0)(value) or (most is not None and value > most):
        at_most = "" if most is None else f", at most {most}"
        raise UserError(f"{where}={value}: must be a whole number >= 0{at_most}")
