"""Scatter plots of studies: gain against angle, and held-out against in-batch decrease."""

from collections.abc import Iterable
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from srste.analysis.statistics.panel import Array
from srste.report import palette
from srste.report.figures import style
from srste.report.panels import BATCH, HELDOUT, Setting, Value, measures
from srste.store.quantities import quantity
from srste.store.records import Record

MOST_POINTS = 2_000
"""The most points of an estimator, evenly chosen; the means are of all studies."""


def angle_figure(setting: Setting) -> Figure | None:
    """Draw how much lower the loss is than the baseline's against the angle between the two
    directions. Returns None without a baseline."""
    if not setting.baselines:
        return None
    records = [record for _, record in setting.records]
    baselines = [setting.baseline_records.get(record.key) for record in records]
    angles = _values(records, partial(quantity, "angle"))
    shown = [measure for measure in measures(setting) if measure.panel]
    figure = Figure(figsize=(4.8 * len(shown), 4.2), layout="constrained")
    axes = figure.subplots(1, len(shown), squeeze=False)[0]
    names = ", ".join(dict.fromkeys(setting.baselines.values()))
    for part, measure in zip(axes, shown, strict=True):
        of_baseline = _values(baselines, measure.after)
        gains = _scatter(part, setting, angles, of_baseline - _values(records, measure.after))
        _level_of_zero(part, gains, of_baseline - _values(records, measure.zero))
        part.axhline(0, color=palette.BLACK, lw=1, ls="--")
        part.set_title(measure.panel)
        part.set_xlabel(f"angle to the {names} direction (degrees)")
    axes[0].set_ylabel(f"gain over {names} (> 0: lower loss)")
    style.shared_legend(figure, axes)
    style.set_title(figure, "Gain of every study against its angle (large: means)", setting.label)
    return figure


def heldout_figure(setting: Setting) -> Figure | None:
    """Draw the decrease of the loss on held-out data against that on the batch, at the same
    learning rate. Returns None where nothing is held out."""
    if HELDOUT not in measures(setting):
        return None
    records = [record for _, record in setting.records]
    before = _values(records, HELDOUT.before)
    figure = Figure(figsize=(6.4, 5.2), layout="constrained")
    axes = figure.subplots()
    on_batch = _values(records, BATCH.before) - _values(records, BATCH.after)
    falls = _scatter(axes, setting, on_batch, before - _values(records, HELDOUT.after))
    low, high = axes.get_xlim()
    axes.plot([low, high], [low, high], color=style.GREY, lw=1, ls=":", label="as much on both")
    axes.set_xlim(low, high)
    axes.axhline(0, color=palette.BLACK, lw=1, ls="--")
    _level_of_zero(axes, [0.0, *falls], before - _values(records, HELDOUT.zero))
    axes.set_xlabel("decrease on the batch that the step was computed from")
    axes.set_ylabel("decrease on held-out data (< 0: worse than before)")
    style.shared_legend(figure, [axes])
    style.set_title(figure, "The best step on the batch, held out (large: means)", setting.label)
    return figure


def _values(records: Iterable[Record | None], value: Value) -> Array:
    """Return (records,) values; nan where there is no record, or it has none."""
    return np.array([value(record) if record else None for record in records], dtype=np.float64)


def _level_of_zero(axes: Axes, near: Iterable[float], heights: Array) -> None:
    """Draw the mean height of a zero output over the studies that have one."""
    present = heights[~np.isnan(heights)]
    if present.size:
        style.level_or_words(axes, near, float(present.mean()), style.ZERO)


def _scatter(axes: Axes, setting: Setting, x: Array, y: Array) -> Array:
    """Draw a point per study, (records,) of them, and a large one per estimator for its mean.
    Returns the heights that are drawn."""
    names = np.array([column.series for column, _ in setting.records])
    present = ~np.isnan(x) & ~np.isnan(y)
    look = palette.column_looks(setting.columns)
    for name in dict.fromkeys(column.series for column in setting.columns):
        xy = np.column_stack((x, y))[present & (names == name)]
        if not xy.size:
            continue
        drawn = xy[:: -(-len(xy) // MOST_POINTS)]
        colour, marker, _ = look[name]
        axes.scatter(
            drawn[:, 0], drawn[:, 1], s=9, color=colour, marker=marker, alpha=0.25,
            linewidths=0.6, rasterized=True,
        )  # fmt: skip
        x_mean, y_mean = xy.mean(axis=0)
        axes.plot(
            x_mean, y_mean, color=colour, marker=marker, label=style.in_legend(name), ls="none",
            ms=10, mew=2 if marker == "x" else 1,
            mec=colour if marker == "x" else "white",
        )  # fmt: skip
    axes.grid(alpha=0.25)
    return y[present]
