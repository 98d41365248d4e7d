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


def curves_figure(condition: Condition, folders: Mapping[str, Path], samples: int | None) -> Figure:
    """Draw the loss after ``w - lr g`` against lr on the first batches of a network: the whole
    range, and below it the part around the minima.

    Args: folders: of the records, by key. samples: the sample count of the estimators that draw.
    """
    chosen = [c for c in condition.columns if c.samples in (None, samples)]
    look = palette.column_looks(chosen)
    shown = condition.batches[:BATCHES_DRAWN]
    figure = Figure(figsize=(3.4 * len(shown) + 0.9, 6.4), layout="constrained")
    axes = figure.subplots(2, len(shown), squeeze=False)
    for column, batch in enumerate(shown):
        stored = {
            c: records.read_trials(folders[record.key])
            for c in chosen
            if (record := condition.cells.get((batch, c))) and record.best and record.key in folders
        }
        full, zoomed = axes[0][column], axes[1][column]
        full.set_title(f"batch {batch}")
        for part in (full, zoomed):
            style.level(part, condition.pre_loss(batch), style.BEFORE)
            style.level(part, condition.zero_loss(batch), style.ZERO)
        if stored:
            _draw(full, stored, look)
            _zoom(zoomed, stored, look, condition.pre_loss(batch))
        zoomed.set_xlabel("learning rate")
    axes[0][0].set_ylabel(loss_words(condition.common))
    axes[1][0].set_ylabel("the part around the minima")
    style.shared_legend(figure, axes.flat)
    at = f", N = {samples}" if samples is not None else ""
    title = f"Loss after a step of that learning rate{at}; the lowest of each is marked"
    style.set_title(figure, title, condition.label)
    return figure


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
    axes: Axes, curves: Mapping[Column, Trials], look: Mapping[str, palette.Look], before: float
) -> None:
    """Draw the part from 0 to beyond the typical best learning rate, and from the lowest loss to a
    little above the loss before."""
    bests = [(t.lr[i], t.post_loss[i]) for t in curves.values() if (i := t.best()) is not None]
    rates, losses = zip(*bests, strict=True)
    end = min(2.5 * float(np.median(rates)), max(float(t.lr.max()) for t in curves.values()))
    _draw(axes, curves, look, end)
    lowest, highest = min(*losses, before), max(*losses, before)
    margin = 0.08 * (highest - lowest)
    axes.set_xlim(0, end)
    if margin:
        axes.set_ylim(lowest - margin, highest + 3 * margin)
