"""Loss curves as data for the page's interactive figure."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from srste.report.chapters import Chapter
from srste.report.palette import column_looks, shade
from srste.store import records
from srste.store.records import Record

MOST_CURVES = 240
"""The page carries the curves of the first studies only: each is some five kilobytes."""


def curves_json(chapters: Sequence[Chapter], folders: Mapping[str, Path]) -> str:
    """Return the curves of the first :data:`MOST_CURVES` studies as JSON that may stand in a page.

    An object: ``curves``, a list with ``setting``, ``seed``, ``batch``, ``series``, ``samples``,
    ``colour``, ``dash``, ``pre_loss``, ``lr`` and ``loss`` (lists), ``exact`` (learning rate and loss
    of the minimum, null without an exact curve) and ``descent`` (ranges of learning rates that lower
    the loss, the first, shortest and longest); ``left_out``, how many studies are not among them.

    Args: folders: of the records, by key.
    """
    every = list(_studies(chapters))
    shown = [_curve(of, record, folders[record.key]) for of, record in every[:MOST_CURVES]
             if record.key in folders]  # fmt: skip
    text = json.dumps({"curves": shown, "left_out": len(every) - len(shown)}, separators=(",", ":"))
    return text.replace("<", "\\u003c")  # so that nothing in it ends the script


def _studies(chapters: Sequence[Chapter]) -> Iterator[tuple[dict[str, Any], Record]]:
    for chapter in chapters:
        looks = column_looks(chapter.setting.columns)
        for seed, condition in sorted(chapter.setting.networks.items()):
            for (batch, column), record in condition.cells.items():
                look = looks[column.series]
                yield (
                    {
                        "setting": chapter.setting.label,
                        "seed": seed,
                        "batch": batch,
                        "series": column.series,
                        "samples": column.samples,
                        "colour": shade(look.colour, column.samples, chapter.samples),
                        "dash": "dash" if look.line in ("--", "-.") else "solid",
                    },
                    record,
                )


def _curve(of: dict[str, Any], record: Record, folder: Path) -> dict[str, Any]:
    lr, loss = records.read_trials(folder).outline()
    exact = record.certificate
    spans = [span for span in (exact.first, exact.smallest, exact.largest) if span] if exact else []
    return of | {
        "pre_loss": record.pre_loss,
        "lr": [float(f"{x:.6g}") for x in lr],
        "loss": [float(f"{x:.6g}") for x in loss],
        "exact": [exact.lr, exact.loss] if exact else None,
        "descent": sorted({(span.lo, span.hi) for span in spans}),
    }
