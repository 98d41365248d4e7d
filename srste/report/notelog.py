"""The line format of the 2021 note's raw logs, so that the two can be laid side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from srste.files import write_atomically
from srste.records import Record

_LABELS = {"ste": "STE", "sr_ste": "stochastic STE"}


def note_line(record: Record, variant: str = "") -> str | None:
    """One study as one line; None if it has no winner. variant: tells estimators of a name apart."""
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
    """Writes the log: by batch, in it the deterministic estimators first, then by sample count.

    variants: what tells estimators of one name apart, by the key of the study.
    """
    variants = variants or {}
    ordered = sorted(
        records, key=lambda r: (r.batch, r.samples is not None, r.estimator, r.samples or 0)
    )
    lines = [line for record in ordered if (line := note_line(record, variants.get(record.key, "")))]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, "".join(f"{line}\n" for line in lines).encode())
