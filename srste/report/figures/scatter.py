"""Scatter plots of studies: gain against angle, and held-out against in-batch decrease."""

from __future__ import annotations

from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from srste.report.figures import style
from srste.report.panels import BATCH, HELDOUT, Measure, Setting, Value, measures
from srste.store.quantities import quantity
from srste.store.records import Record

MOST_POINTS = 2_000
"""The most points of an estimator, evenly chosen; the means are of all studies."""


def angle_figure(setting: Setting) -> Figure | None:
    """Draw how much lower the loss is than the baseline's against the angle between the two
    directions. Returns None without a baseline."""
    if not setting.baselines:
        return None
    panels: list[tuple[str, Value, Value]] = [("on the batch", BATCH.after, BATCH.zero)]
    if HELDOUT in measures(setting):
        panels.append(("held out", HELDOUT.after, HELDOUT.zero))
    figure = Figure(figsize=(4.8 * len(panels), 4.2), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    names = ", ".join(dict.fromkeys(setting.baselines.values()))
    for part, (title, after, zero) in zip(axes, panels, strict=True):
        gains = _scatter(part, setting, partial(quantity, "angle"), _gain(setting, after, after))
        of_zero = _values(setting, _gain(setting, after, zero))
        if of_zero:
            style.level_or_words(part, gains, float(np.mean(of_zero)), style.ZERO)
        part.axhline(0, color=style.BLACK, lw=1, ls="--")
        part.set_title(title)
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
    figure = Figure(figsize=(6.4, 5.2), layout="constrained")
    axes = figure.subplots()
    falls = _scatter(axes, setting, _fall(BATCH, BATCH.after), _fall(HELDOUT, HELDOUT.after))
    low, high = axes.get_xlim()
    axes.plot([low, high], [low, high], color=style.GREY, lw=1, ls=":", label="as much on both")
    axes.set_xlim(low, high)
    axes.axhline(0, color=style.BLACK, lw=1, ls="--")
    of_zero = _values(setting, _fall(HELDOUT, HELDOUT.zero))
    style.level_or_words(axes, [0.0, *falls], float(np.mean(of_zero)), style.ZERO)
    axes.set_xlabel("decrease on the batch that the step was computed from")
    axes.set_ylabel("decrease on held-out data (< 0: worse than before)")
    style.shared_legend(figure, [axes])
    style.set_title(figure, "The best step on the batch, held out (large: means)", setting.label)
    return figure


def _gain(setting: Setting, after: Value, loss: Value) -> Value:
    """Return a function: the baseline's ``after`` on the same batch, less a study's ``loss``."""

    def gain(record: Record) -> float | None:
        baseline = setting.baseline_records.get(record.key)
        return _difference(after(baseline) if baseline else None, loss(record))

    return gain


def _fall(measure: Measure, after: Value) -> Value:
    """Return a function: the decrease of a study's loss from before the step."""
    return lambda record: _difference(measure.before(record), after(record))


def _difference(one: float | None, other: float | None) -> float | None:
    return one - other if one is not None and other is not None else None


def _values(setting: Setting, value: Value) -> list[float]:
    return [x for _, record in setting.records if (x := value(record)) is not None]


def _scatter(axes: Axes, setting: Setting, x: Value, y: Value) -> list[float]:
    """Draw a point per study, and a large one per estimator for its mean. Returns all heights."""
    points: dict[str, list[tuple[float, float]]] = {}
    for column, record in setting.records:
        at = x(record), y(record)
        if at[0] is not None and at[1] is not None:
            points.setdefault(column.series, []).append((at[0], at[1]))
    look = style.column_looks(setting.columns)
    for name in dict.fromkeys(c.series for c in setting.columns):
        if name not in points:
            continue
        xy = np.array(points[name])
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
    return [height for of_series in points.values() for _, height in of_series]
