"""The note's figure: loss after the best step against samples, a panel per batch."""

import math
from dataclasses import replace
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from srste.analysis.grouping import grouped
from srste.report import palette
from srste.report.conditions import Condition
from srste.report.figures import style
from srste.report.figures.networks import MOST_DRAWN
from srste.report.formatting import loss_words


def note_figure(condition: Condition) -> Figure:
    """Draw the loss after the best step against N; STE and the loss before as lines.

    Where the loss before is far above the rest in most panels, the axes are broken, with a strip
    for it on top, so that the differences between estimators stay visible.
    """
    series = len({column.series for column in condition.columns})
    condition = _with_the_lowest(condition)
    drawn = len({column.series for column in condition.columns})
    title = "Loss after the best step (lower is better)"
    if drawn < series:
        title += f"; {drawn} of {series} estimators"
    if len({column.samples for column in condition.columns} - {None}) < 2:
        return _of_one_count(condition, title)
    columns = min(5, len(condition.batches))
    rows = math.ceil(len(condition.batches) / columns)
    figure = Figure(figsize=(max(6.0, 2.9 * columns + 0.6), 2.6 * rows + 1.0), layout="constrained")
    grid = figure.add_gridspec(rows, columns)
    far = [_is_above(condition, batch, by=1.5) for batch in condition.batches]
    broken = sum(far) > len(far) / 2
    look = palette.column_looks(condition.columns)
    panels: list[Axes] = []
    for i, batch in enumerate(condition.batches):
        cell = grid[i // columns, i % columns]
        on_top = broken and _is_above(condition, batch, by=0.2)
        if broken:
            parts = cell.subgridspec(2, 1, height_ratios=[1, 6], hspace=0.04)
            strip, panel = figure.add_subplot(parts[0]), figure.add_subplot(parts[1])
            _draw_strip(strip, panel, condition.pre_loss(batch), on_top)
        else:
            strip = panel = figure.add_subplot(cell)
        _draw_estimators(panel, condition, batch, look)
        near = [*condition.post_losses(batch).values(), condition.pre_loss(batch)]
        style.level_or_words(panel, near, condition.zero_loss(batch), style.ZERO)
        if not on_top:
            style.level(panel, condition.pre_loss(batch), style.BEFORE)
        panels += [panel, strip]
        strip.set_title(f"batch {batch}", fontsize="medium")
        if i + columns >= len(condition.batches):
            panel.set_xlabel("samples N")
        if i % columns == 0:
            panel.set_ylabel(loss_words(condition.common))

    style.set_title(figure, title, condition.label)
    style.shared_legend(figure, panels)
    return figure


def _with_the_lowest(condition: Condition) -> Condition:
    """Return the condition with the estimators that are drawn: all, or of many the baselines and those
    with the lowest mean loss at any number of samples."""
    lowest: dict[str, float] = {}
    for column in condition.columns:
        mean = condition.mean(partial(condition.post_loss, column=column))
        mean = math.inf if mean is None else mean
        lowest[column.series] = min(mean, lowest.get(column.series, math.inf))
    if len(lowest) <= MOST_DRAWN:
        return condition
    baselines = {r.baseline.estimator for r in condition.cells.values() if r.baseline}
    needed = [c.series for c in condition.columns if c.estimator in baselines]
    others = sorted((name for name in lowest if name not in needed), key=lambda name: lowest[name])
    shown = [*dict.fromkeys(needed), *others][:MOST_DRAWN]
    cells = {place: r for place, r in condition.cells.items() if place[1].series in shown}
    return replace(condition, cells=cells)


def _of_one_count(condition: Condition, title: str) -> Figure:
    """Draw the losses against the batch, where there is nothing to draw against N."""
    figure = Figure(figsize=(max(4.5, 0.6 * len(condition.batches) + 2.4), 3.8), layout="constrained")
    axes = figure.subplots()
    look = palette.column_looks(condition.columns)
    places = np.arange(len(condition.batches))
    before = [condition.pre_loss(batch) for batch in condition.batches]
    if sum(_is_above(condition, batch, by=1.5) for batch in condition.batches) > len(before) / 2:
        between = f"{min(before):.3g} to {max(before):.3g}" if len(before) > 1 else f"{before[0]:.3g}"
        axes.text(
            0.98, 0.97, f"{style.BEFORE} {between}, above", transform=axes.transAxes, ha="right",
            va="top", fontsize="x-small", color=style.GREY,
        )  # fmt: skip
    else:
        axes.plot(places, before, color=style.GREY, marker="_", ms=22, ls="none", label=style.BEFORE)
    offsets = np.linspace(-0.2, 0.2, len(condition.columns)) if len(condition.columns) > 1 else [0.0]
    for offset, column in zip(offsets, condition.columns, strict=True):
        y = [condition.post_loss(batch, column) for batch in condition.batches]
        options = style.line(column.series, look[column.series]) | {"ls": "none"}
        marker = look[column.series].marker
        axes.plot(places + offset, np.array(y, dtype=float), marker=marker, ms=6, **options)
    axes.set_xticks(places, [str(batch) for batch in condition.batches])
    axes.set(xlabel="batch", ylabel=loss_words(condition.common))
    axes.grid(axis="y", alpha=0.25)
    axes.ticklabel_format(axis="y", useOffset=False)
    counts = {column.samples for column in condition.columns} - {None}
    at = f", N = {counts.pop()}" if counts else ""
    style.set_title(figure, title.replace(" (lower", f"{at} (lower"), condition.label)
    style.shared_legend(figure, [axes])
    return figure


def _is_above(condition: Condition, batch: int, by: float) -> bool:
    """Return whether the loss before is above all others by that many times their spread."""
    shown = condition.post_losses(batch).values()
    return bool(shown) and condition.pre_loss(batch) > max(shown) + by * (max(shown) - min(shown))


def _draw_estimators(
    panel: Axes, condition: Condition, batch: int, look: dict[str, palette.Look]
) -> None:
    for name, members in grouped(condition.columns, key=lambda column: column.series).items():
        y = np.array([condition.post_loss(batch, column) for column in members], dtype=float)
        options = style.line(name, look[name])
        if members[0].samples is None:
            panel.axhline(y[0], lw=1.3, **options)
        else:
            counts = [column.samples or 0 for column in members]
            panel.plot(counts, y, marker=look[name].marker, ms=4, lw=1.3, **options)
    panel.margins(y=0.1)
    style.sample_axes(panel)


def _draw_strip(strip: Axes, panel: Axes, before: float, on_top: bool) -> None:
    """Draw the upper part of a broken axis; empty where the loss before is not above the rest."""
    if not on_top:
        strip.set_axis_off()
        return
    style.level(strip, before, style.BEFORE)
    strip.set_ylim(0.98 * before, 1.02 * before)
    strip.set_yticks([before], [f"{before:.3f}"])
    strip.set_xticks([])
    strip.spines.bottom.set_visible(False)
    panel.spines.top.set_visible(False)
    mark = {"marker": [(-1, -0.6), (1, 0.6)], "markersize": 7, "ls": "none", "color": "k", "mew": 1}
    strip.plot([0, 1], [0, 0], transform=strip.transAxes, clip_on=False, **mark)  # type: ignore[arg-type]
    panel.plot([0, 1], [1, 1], transform=panel.transAxes, clip_on=False, **mark)  # type: ignore[arg-type]
