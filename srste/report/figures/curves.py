"""Loss curves: loss against learning rate, estimators overlaid, minima marked."""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from srste.report import palette
from srste.report.conditions import Column, Condition
from srste.report.figures import style
from srste.report.formatting import loss_words
from srste.sampling import Trials
from srste.store import records

POINTS = 1_500
"""The most points of a curve; of more, as many are drawn, and the lowest."""

BATCHES_DRAWN = 3
MOST_DRAWN = 10
"""Of more estimators some are drawn."""
_NARROWEST = 6.0
"""Inches, for the title and the legend of a single batch."""


def curves_figure(condition: Condition, folders: Mapping[str, Path], samples: int | None) -> Figure:
    """Draw the loss after ``w - lr g`` against lr on the first batches of a network, and below it, where
    the minima are close to zero, the part around them.

    Args: folders: of the records, by key. samples: the sample count of the estimators that draw.
    """
    chosen = _drawn([c for c in condition.columns if c.samples in (None, samples)], condition)
    look = palette.column_looks(chosen)
    shown = condition.batches[:BATCHES_DRAWN]
    curves = [
        {
            column: records.read_trials(folders[record.key])
            for column in chosen
            if (record := condition.cells.get((batch, column))) and record.best and record.key in folders
        }
        for batch in shown
    ]
    ends = [_end(stored) for stored in curves]
    zooms = any(end < 0.7 * _largest(stored) for end, stored in zip(ends, curves, strict=True))
    rows = 2 if zooms else 1
    width = max(_NARROWEST, 3.4 * len(shown) + 0.9)
    figure = Figure(figsize=(width, 2.9 * rows + 0.8), layout="constrained")
    axes = figure.subplots(rows, len(shown), squeeze=False)
    for column, (batch, stored) in enumerate(zip(shown, curves, strict=True)):
        axes[0][column].set_title(f"batch {batch}")
        for part in axes[:, column]:
            style.level(part, condition.pre_loss(batch), style.BEFORE)
            style.level(part, condition.zero_loss(batch), style.ZERO)
        if stored:
            _draw(axes[0][column], stored, look)
            if zooms:
                _zoom(axes[1][column], stored, look, condition.pre_loss(batch), ends[column])
        axes[-1][column].set_xlabel("learning rate")
    loss = loss_words(condition.common)
    for row, words in zip(axes, (loss, f"{loss}\n(around the minima)"), strict=False):
        row[0].set_ylabel(words)
    style.shared_legend(figure, axes.flat)
    at = f", N = {samples}" if samples is not None else ""
    title = f"Loss after a step against its learning rate{at}; markers: the lowest loss of each"
    style.set_title(figure, title, condition.label)
    return figure


def _drawn(columns: list[Column], condition: Condition) -> list[Column]:
    """Return the columns that are drawn: all, or of many the baselines and those of the lowest loss."""
    if len(columns) <= MOST_DRAWN:
        return columns
    records = {c: r for c in columns if (r := condition.cells.get((condition.batches[0], c)))}
    needed = {r.baseline.estimator for r in records.values() if r.baseline}
    losses = {c: r.best.post_loss for c, r in records.items() if r.best}
    others = sorted((c for c in losses if c.estimator not in needed), key=losses.__getitem__)
    kept = {c for c in columns if c.estimator in needed}
    kept |= {*others[: max(0, MOST_DRAWN - len(kept))]}
    return [c for c in columns if c in kept]


def _largest(curves: Mapping[Column, Trials]) -> float:
    """Return the largest learning rate that was tried; 0 without curves."""
    return max((float(trials.lr.max()) for trials in curves.values()), default=0.0)


def _end(curves: Mapping[Column, Trials]) -> float:
    """Return the learning rate up to which the part around the minima goes: beyond the typical best."""
    bests = [trials.lr[i] for trials in curves.values() if (i := trials.best()) is not None]
    return min(2.5 * float(np.median(bests)), _largest(curves)) if bests else _largest(curves)


def _draw(
    axes: Axes, curves: Mapping[Column, Trials], look: Mapping[str, palette.Look], end: float = math.inf
) -> None:
    for column, trials in curves.items():
        order = np.argsort(trials.lr, kind="stable")
        order = order[(~trials.failed & (trials.lr <= end))[order]]
        if not order.size:
            continue
        drawn = np.unique(np.linspace(0, order.size - 1, min(POINTS, order.size)).round().astype(int))
        colour, marker, dashes = look[column.series]
        lr, loss = trials.lr[order[drawn]], trials.post_loss[order[drawn]]
        line = dashes if column.samples is None else "-"
        axes.plot(lr, loss, color=colour, ls=line, lw=1.1, label=style.in_legend(column.series))
        best = trials.best()
        if best is not None and trials.lr[best] <= end:
            axes.plot(
                trials.lr[best], trials.post_loss[best], color=colour, marker=marker,
                ms=7, mew=1.6, ls="none", zorder=3,
            )  # fmt: skip
    axes.grid(alpha=0.25)
    axes.ticklabel_format(axis="y", useOffset=False)


def _zoom(
    axes: Axes,
    curves: Mapping[Column, Trials],
    look: Mapping[str, palette.Look],
    before: float,
    end: float,
) -> None:
    """Draw the part up to ``end``, and from the lowest loss to a little above the loss before."""
    losses = [t.post_loss[i] for t in curves.values() if (i := t.best()) is not None]
    _draw(axes, curves, look, end)
    lowest, highest = min(*losses, before), max(*losses, before)
    margin = 0.08 * (highest - lowest)
    axes.set_xlim(0, end)
    if margin:
        axes.set_ylim(lowest - margin, highest + 3 * margin)
