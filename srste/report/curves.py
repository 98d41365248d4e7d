"""Loss curves as data for the page's interactive figure."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from srste.report.chapters import Chapter
from srste.report.palette import column_looks, shade
from srste.sampling import Trials
from srste.store import records
from srste.store.records import Record

MOST_CURVES = 240
"""The page carries the curves of the first studies only: each is some five kilobytes."""

POINTS = 300
"""Of a curve; of more trials the lowest and the highest of as many groups are drawn."""


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
    lr, loss = thinned(records.read_trials(folder))
    exact = record.certificate
    spans = [span for span in (exact.first, exact.smallest, exact.largest) if span] if exact else []
    return of | {
        "pre_loss": record.pre_loss,
        "lr": [float(f"{x:.6g}") for x in lr],
        "loss": [float(f"{x:.6g}") for x in loss],
        "exact": [exact.lr, exact.loss] if exact else None,
        "descent": sorted({(span.lo, span.hi) for span in spans}),
    }


def thinned(trials: Trials) -> tuple[np.ndarray, np.ndarray]:
    """Return learning rates, ascending, and losses of at most :data:`POINTS` trials, the lowest and
    the highest of each of as many groups as half of that; failed ones are left out."""
    usable = np.flatnonzero(~trials.failed)
    usable = usable[np.argsort(trials.lr[usable], kind="stable")]
    if usable.size > POINTS:
        groups = np.array_split(usable, POINTS // 2)
        ends = [
            group[pick(trials.post_loss[group])] for group in groups for pick in (np.argmin, np.argmax)
        ]
        usable = np.unique(ends)
        usable = usable[np.argsort(trials.lr[usable], kind="stable")]
    return trials.lr[usable], trials.post_loss[usable]
