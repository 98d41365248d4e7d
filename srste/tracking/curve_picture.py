"""A study's loss curve as a picture among its artifacts.

Written as SVG by hand: matplotlib takes 60 ms for such a picture, seven seconds for the 110 studies of
the main job, and this under one.
"""

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from srste.sampling import Trials
from srste.store.records import Record

WIDTH, HEIGHT = 900, 380
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 20, 60, 50
_BLUE, _GREY, _RED = "#0072B2", "#777777", "#D55E00"  # of the loss curves in Python and in the report

Array = NDArray[np.float64]


class _Panel(NamedTuple):
    """Where a panel is, in pixels from the left, and the ranges that it shows."""

    left: float
    width: float
    lrs: tuple[float, float]
    losses: tuple[float, float]

    def x(self, lr: Array | float) -> Array | float:
        low, high = self.lrs
        return self.left + (lr - low) / (high - low) * self.width

    def y(self, loss: Array | float) -> Array | float:
        low, high = self.losses
        return HEIGHT - _BOTTOM - (loss - low) / (high - low) * (HEIGHT - _TOP - _BOTTOM)


def curve_picture(record: Record, trials: Trials) -> str | None:
    """Return the loss against the learning rate as an SVG document: over all learning rates that were
    tried, and around the best one; None if all trials failed."""
    best = record.best
    if best is None:
        return None
    largest = float(trials.lr[~trials.failed].max())
    ends = [largest]
    if 4 * best.lr < largest / 2:
        ends.append(4 * best.lr)
    space = (WIDTH - len(ends) * (_LEFT + _RIGHT)) / len(ends)
    panels = []
    for number, end in enumerate(ends):
        left = _LEFT + number * (space + _LEFT + _RIGHT)
        panels += _drawn(record, trials.up_to(end), left, space, end)
    title = f"{record.name}, seed {record.identity['seed']}"
    legend = (
        f"best: {best.post_loss:.6g} at learning rate {best.lr:.6g}; before the step: "
        f"{record.pre_loss:.6g} (dashed)"
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
            f'viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
            f'<text x="{_LEFT}" y="22" font-size="15">{escape(title)}</text>',
            f'<text x="{_LEFT}" y="42" fill="{_GREY}">{escape(legend)}</text>',
            *panels,
            "</svg>",
        ]
    )


def _drawn(record: Record, trials: Trials, left: float, width: float, end: float) -> list[str]:
    """Return the elements of a panel of these trials."""
    assert record.best is not None
    lr, loss = trials.outline()
    low, high = min(loss.min(), record.pre_loss), max(loss.max(), record.pre_loss)
    margin = 0.05 * (high - low) or abs(high) or 1.0
    panel = _Panel(left, width, (0.0, end), (low - margin, high + margin))
    xs, ys = np.asarray(panel.x(lr)), np.asarray(panel.y(loss))
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(xs, ys, strict=True))
    right, bottom, before = left + width, HEIGHT - _BOTTOM, panel.y(record.pre_loss)
    return [
        *_ticks(panel),
        f'<line x1="{left}" y1="{before:.1f}" x2="{right}" y2="{before:.1f}" stroke="{_GREY}" '
        'stroke-dasharray="5 4"/>',
        f'<polyline points="{points}" fill="none" stroke="{_BLUE}" stroke-width="1.4"/>',
        f'<circle cx="{panel.x(record.best.lr):.1f}" cy="{panel.y(record.best.post_loss):.1f}" r="4" '
        f'fill="{_RED}"/>',
        f'<text x="{left + width / 2}" y="{HEIGHT - 12}" text-anchor="middle">learning rate</text>',
        f'<text transform="translate({left - 54} {(_TOP + bottom) / 2}) rotate(-90)" '
        'text-anchor="middle">loss after the step</text>',
    ]


def _ticks(panel: _Panel) -> list[str]:
    """Return the frame, grid and tick labels of a panel."""
    right, bottom = panel.left + panel.width, HEIGHT - _BOTTOM
    elements = [
        f'<rect x="{panel.left}" y="{_TOP}" width="{panel.width}" height="{bottom - _TOP}" '
        'fill="none" stroke="#cccccc"/>'
    ]
    for value, label in _labelled(panel.lrs):
        x = f"{panel.x(value):.1f}"
        elements.append(f'<text x="{x}" y="{bottom + 16}" text-anchor="middle">{label}</text>')
    for value, label in _labelled(panel.losses):
        y = float(panel.y(value))
        elements.append(
            f'<line x1="{panel.left}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" stroke="#eeeeee"/>'
            f'<text x="{panel.left - 6}" y="{y + 4:.1f}" text-anchor="end">{label}</text>'
        )
    return elements


def _labelled(ends: Sequence[float]) -> list[tuple[float, str]]:
    """Return the ticks between two ends, and their labels in as many digits as tell them apart."""
    low, high = ends
    ticks = [float(t) for t in MaxNLocator(5).tick_values(low, high) if low <= t <= high]
    for digits in range(3, 12):
        labels = [f"{tick:.{digits}g}" for tick in ticks]
        if len(set(labels)) == len(ticks):
            return list(zip(ticks, labels, strict=True))
    return []
