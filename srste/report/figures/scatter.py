"""Study by study: gain against the angle to the baseline, and held-out against in-batch decrease."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from srste.records import Record
from srste.report.figures.style import BLACK, GREY, Look, looks, shared_legend
from srste.report.panels import Setting

MOST_POINTS = 2_000
"""Of an estimator with more studies, that many are drawn, evenly chosen; the means are of all."""


def angle_figure(setting: Setting) -> Figure | None:
    """How much lower the loss is than the baseline's, against the angle between the two directions;
    None without a baseline."""
    baseline = setting.baseline
    if baseline is None:
        return None
    of_baseline = {r.key: r for c, r in setting.records if c.series == baseline}

    def gain(record: Record) -> float | None:
        best = record.best
        base = record.baseline
        return base.post_loss - best.post_loss if best and base and base.post_loss is not None else None

    def heldout_gain(record: Record) -> float | None:
        other = of_baseline.get(record.baseline.key) if record.baseline else None
        if other is None or other.heldout is None or record.heldout is None:
            return None
        return other.heldout.post_loss - record.heldout.post_loss

    figure = Figure(figsize=(9.6, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for axes, value, title in ((left, gain, "on the batch"), (right, heldout_gain, "held out")):
        _scatter(axes, setting, lambda r: r.angles.get(""), value)
        axes.axhline(0, color=BLACK, lw=1, ls="--")
        axes.set_title(title)
        axes.set_xlabel(f"angle to the {baseline} direction (degrees)")
    left.set_ylabel(f"gain over {baseline} (> 0: lower loss)")
    _finish(figure, [left, right], "Gain of every study against its angle", setting)
    return figure


def heldout_figure(setting: Setting) -> Figure | None:
    """How much the loss falls on held-out data against how much it falls on the batch, at the same
    learning rate; None where nothing is held out."""
    if not any(record.heldout for _, record in setting.records):
        return None
    figure = Figure(figsize=(6.4, 5.2), layout="constrained")
    axes = figure.subplots()
    _scatter(
        axes,
        setting,
        lambda r: r.pre_loss - r.best.post_loss if r.best else None,
        lambda r: r.heldout.pre_loss - r.heldout.post_loss if r.heldout else None,
    )
    low, high = axes.get_xlim()
    axes.plot([low, high], [low, high], color=GREY, lw=1, ls=":", label="as much on both")
    axes.set_xlim(low, high)
    axes.axhline(0, color=BLACK, lw=1, ls="--")
    axes.set_xlabel("decrease on the batch that the step was computed from")
    axes.set_ylabel("decrease on held-out data (< 0: worse than before)")
    _finish(figure, [axes], "The best step on the batch, held out", setting)
    return figure


Value = Callable[[Record], float | None]


def _scatter(axes: Axes, setting: Setting, x: Value, y: Value) -> None:
    """A point a study, and a large one for the mean of each estimator."""
    points: dict[str, list[tuple[float, float]]] = {}
    for column, record in setting.records:
        at = x(record), y(record)
        if at[0] is not None and at[1] is not None:
            points.setdefault(column.series, []).append((at[0], at[1]))
    look = _looks(setting)
    for name in dict.fromkeys(c.series for c in setting.columns):
        if name not in points:
            continue
        every = np.array(points[name])
        kept = every[:: -(-len(every) // MOST_POINTS)]
        style = look[name]
        axes.scatter(
            kept[:, 0], kept[:, 1], s=9, color=style.colour, marker=style.marker, alpha=0.25,
            linewidths=0.6, rasterized=True,
        )  # fmt: skip
        x_mean, y_mean = every.mean(axis=0)
        axes.plot(
            x_mean, y_mean, color=style.colour, marker=style.marker, label=name, ls="none", ms=10,
            mew=2 if style.marker == "x" else 1,
            mec=style.colour if style.marker == "x" else "white",
        )  # fmt: skip
    axes.grid(alpha=0.25)


def _looks(setting: Setting) -> dict[str, Look]:
    drawn = dict.fromkeys(c.series for c in setting.columns if c.samples is not None)
    return looks(drawn, dict.fromkeys(c.series for c in setting.columns if c.samples is None))


def _finish(figure: Figure, axes: list[Axes], title: str, setting: Setting) -> None:
    shared_legend(figure, axes)
    what = f"{title} (large: means)"
    figure.suptitle(f"{what}\n({setting.label})" if setting.label else what)
