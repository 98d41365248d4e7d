"""The line format of the 2021 note's raw logs: writing and reading, to compare with the note."""

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from srste.errors import UserError
from srste.store.files import write_atomically
from srste.store.records import Record

_LABELS = {"ste": "STE", "sr_ste": "stochastic STE"}
NOTE_LOG = "note.log"
"""The name of a job's log."""


def note_line(record: Record, variant: str = "") -> str | None:
    """Return a study's line, None if all trials failed. variant: tells estimators of a name
    apart."""
    if record.best is None:
        return None
    samples = "" if record.samples is None else f"samples is {record.samples} and "
    label = " ".join(filter(None, [_LABELS.get(record.estimator, record.estimator), variant]))
    return (
        f"[{label}]Original loss is {record.pre_loss}, "
        f"and when {samples}lr is {record.best.lr}, the best STE-loss is {record.best.post_loss}."
    )


def write_note_log(
    records: Iterable[Record], path: Path, variants: Mapping[str, str] | None = None
) -> None:
    """Write the log: by batch, deterministic estimators first, then by sample count.

    variants: what tells estimators of one name apart, by the key of the study.
    """
    order = sorted(records, key=lambda r: (r.batch, r.samples is not None, r.estimator, r.samples or 0))
    lines = [note_line(record, (variants or {}).get(record.key, "")) for record in order]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, "".join(f"{line}\n" for line in lines if line).encode())


class LogLine(NamedTuple):
    """One study of a log. number: of its line, from 1. batch: from 1, by the order of the lines: a
    batch begins where an estimator without samples follows one with samples, or is repeated."""

    number: int
    batch: int
    label: str
    samples: int | None
    pre_loss: float
    lr: float
    post_loss: float


_FORM = "[STE]Original loss is X, and when lr is X, the best STE-loss is X."
_LINE = re.compile(
    r"\[(?P<label>.+?)\]Original loss is (?P<pre>\S+), and when "
    r"(?:samples is (?P<samples>\d+) and )?lr is (?P<lr>\S+), the best STE-loss is (?P<post>\S+)\."
)


def read_note_log(path: Path) -> list[LogLine]:
    """Return the studies of a log in the note's line format; empty lines are skipped.

    Raises: UserError that names the file and the line, for another format, an impossible number or
        a repeated study; and for a file that cannot be read or is empty.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text in UTF-8"
        raise UserError(f"{path}: must be a log in the note's line format ({reason})") from error
    lines: list[LogLine] = []
    batch, seen, sampled = 1, set[tuple[str, int | None]](), False
    for number, raw in enumerate(text.splitlines(), 1):
        if not raw.strip():
            continue
        label, samples, pre, lr, post = _parsed(raw.strip(), f"{path}:{number}")
        if samples is None and (sampled or (label, None) in seen):
            batch, seen, sampled = batch + 1, set(), False
        if (label, samples) in seen:
            raise UserError(
                f"{path}:{number}: batch {batch} has [{label}] with samples {samples} already"
            )
        seen.add((label, samples))
        sampled |= samples is not None
        lines.append(LogLine(number, batch, label, samples, pre, lr, post))
    if not lines:
        raise UserError(f"{path}: must hold at least one line of the form {_FORM}")
    return lines


def _parsed(line: str, where: str) -> tuple[str, int | None, float, float, float]:
    """Return (label, samples, loss before, learning rate, loss after) of a line."""
    match = _LINE.fullmatch(line)
    if match is None:
        raise UserError(f"{where}: {line[:60]!r} must be of the form {_FORM}")
    samples = int(match["samples"]) if match["samples"] else None
    if samples == 0:
        raise UserError(f"{where}: samples is 0: must be at least 1")
    numbers = []
    for name, group in (("Original loss", "pre"), ("lr", "lr"), ("the best STE-loss", "post")):
        try:
            value = float(match[group])
        except ValueError:
            value = math.nan
        if not 0 <= value < math.inf:
            raise UserError(f"{where}: {name} is {match[group]}: must be a number >= 0")
        numbers.append(value)
    return match["label"], samples, numbers[0], numbers[1], numbers[2]
