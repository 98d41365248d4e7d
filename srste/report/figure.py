"""The note's figure: updated loss against samples, one panel a batch."""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # files only; no display is needed

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from srste.report.summary import Column, Condition

# Okabe and Ito's colours, told apart by colour-blind readers; markers and dashes tell in print.
_SERIES = [("#D55E00", "o"), ("#0072B2", "s"), ("#009E73", "^"), ("#CC79A7", "D"), ("#E69F00", "v")]
_DASHES = ["--", ":", "-."]
_BLACK, _GREY = "#000000", "#777777"


def note_figure(condition: Condition) -> Figure:
    """Loss after the best step against the number of samples; STE and the loss before as lines.

    The loss before is often far above the rest. Where it is in most panels, the axes are broken, with
    a strip for it on top, so that the differences between estimators stay visible.
    """
    columns = min(5, len(condition.batches))
    rows = math.ceil(len(condition.batches) / columns)
    figure = Figure(figsize=(2.9 * columns + 0.6, 2.6 * rows + 1.0), layout="constrained")
    grid = figure.add_gridspec(rows, columns)
    far = [_is_above(condition, batch, by=1.5) for batch in condition.batches]
    broken = sum(far) > len(far) / 2
    for i, batch in enumerate(condition.batches):
        cell = grid[i // columns, i % columns]
        on_top = broken and _is_above(condition, batch, by=0.2)
        if broken:
            parts = cell.subgridspec(2, 1, height_ratios=[1, 6], hspace=0.04)
            strip, panel = figure.add_subplot(parts[0]), figure.add_subplot(parts[1])
            _draw_strip(strip, panel, condition.pre_loss(batch), on_top)
        else:
            strip = panel = figure.add_subplot(cell)
        _draw_estimators(panel, condition, batch)
        panel.axhline(
            condition.zero_loss(batch), color=_GREY, ls=(0, (1, 2)), lw=1.3, label="zero output"
        )
        if not on_top:
            _draw_loss_before(panel, condition.pre_loss(batch))
        strip.set_title(f"batch {batch}", fontsize="medium")
        if i + columns >= len(condition.batches):
            panel.set_xlabel("samples N")
        if i % columns == 0:
            panel.set_ylabel("mean squared error")

    title = "Loss after the best step (lower is better)"
    figure.suptitle(f"{title} ({condition.label})" if condition.label else title)
    handles, labels = panel.get_legend_handles_labels()
    if "loss before" not in labels:
        handles, labels = [*handles, *strip.get_lines()[:1]], [*labels, "loss before"]
    figure.legend(handles, labels, loc="outside lower center", ncols=min(6, len(labels)), frameon=False)
    return figure


def _shown(condition: Condition, batch: int) -> list[float]:
    losses = (condition.post_loss(batch, column) for column in condition.columns)
    return [loss for loss in losses if loss is not None]


def _is_above(condition: Condition, batch: int, by: float) -> bool:
    """Whether the loss before is above all others by that many times their spread."""
    shown = _shown(condition, batch)
    return bool(shown) and condition.pre_loss(batch) > max(shown) + by * (max(shown) - min(shown))


def _draw_estimators(panel: Axes, condition: Condition, batch: int) -> None:
    series: dict[str, list[Column]] = {}
    for column in condition.columns:
        series.setdefault(column.series, []).append(column)
    level = moving = 0
    for name, members in series.items():
        losses = [condition.post_loss(batch, column) for column in members]
        y = [math.nan if loss is None else loss for loss in losses]
        if members[0].samples is None:
            panel.axhline(y[0], color=_BLACK, ls=_DASHES[level % len(_DASHES)], lw=1.3, label=name)
            level += 1
        else:
            colour, marker = _SERIES[moving % len(_SERIES)]
            x = [column.samples or 0 for column in members]
            panel.plot(x, y, color=colour, marker=marker, ms=4, lw=1.3, label=name)
            moving += 1
    panel.margins(y=0.1)
    panel.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    panel.ticklabel_format(axis="y", useOffset=False)
    panel.grid(alpha=0.25)


def _draw_loss_before(panel: Axes, before: float) -> None:
    panel.axhline(before, color=_GREY, lw=1.8, label="loss before")


def _draw_strip(strip: Axes, panel: Axes, before: float, on_top: bool) -> None:
    """The upper part of a broken axis; left empty where the loss before is not above the rest."""
    if not on_top:
        strip.set_axis_off()
        return
    _draw_loss_before(strip, before)
    strip.set_ylim(0.98 * before, 1.02 * before)
    strip.set_yticks([before], [f"{before:.3f}"])
    strip.set_xticks([])
    strip.spines.bottom.set_visible(False)
    panel.spines.top.set_visible(False)
    mark = {"marker": [(-1, -0.6), (1, 0.6)], "markersize": 7, "ls": "none", "color": "k", "mew": 1}
    strip.plot([0, 1], [0, 0], transform=strip.transAxes, clip_on=False, **mark)  # type: ignore[arg-type]
    panel.plot([0, 1], [1, 1], transform=panel.transAxes, clip_on=False, **mark)  # type: ignore[arg-type]


def save(figure: Figure, path: Path) -> None:
    """Writes the figure as PNG, 150 dots an inch."""
    figure.savefig(path, dpi=150)
