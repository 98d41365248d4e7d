"""The line format of the 2021 note's raw logs, so that the two can be laid side by side."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from srste.files import write_atomically
from srste.records import Record

_LABELS = {"ste": "STE", "sr_ste": "stochastic STE"}


def note_line(record: Record) -> str | None:
    """One study as one line; None if it has no winner."""
    if record.best is None:
        return None
    samples = "" if record.samples is None else f"samples is {record.samples} and "
    return (
        f"[{_LABELS.get(record.estimator, record.estimator)}]Original loss is {record.pre_loss}, "
        f"and when {samples}lr is {record.best.lr}, the best STE-loss is {record.best.post_loss}."
    )


def write_note_log(records: Iterable[Record], path: Path) -> None:
    """Writes the log: by batch, in it the deterministic estimators first, then by sample count."""
    ordered = sorted(
        records, key=lambda r: (r.batch, r.samples is not None, r.estimator, r.samples or 0)
    )
    lines = [line for record in ordered if (line := note_line(record))]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, "".join(f"{line}\n" for line in lines).encode())
