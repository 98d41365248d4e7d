"""A loss curve as a picture."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from srste.curve.loss_curve import LossCurve, Step, lowest_of
from srste.curve.minima import Minimum

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GREY = "#777777"
_MOST_PASSES = 200


def draw(curve: LossCurve, ax: Axes | None, points: int, label: str) -> Axes:
    """See :meth:`srste.curve.LossCurve.plot`. Raises: ValueError for fewer than two points."""
    if points < 2:
        raise ValueError(f"points={points} must be >= 2")
    if ax is None:
        import matplotlib.pyplot as plt

        ax = plt.subplots(figsize=(6.4, 3.6), layout="constrained")[1]
    right = max(curve.lr_max, ax.get_xlim()[1]) if ax.lines else curve.lr_max
    lrs = np.linspace(0, curve.lr_max, points if curve.exact else min(points, _MOST_PASSES))
    losses = curve(lrs)
    kind = "exact" if curve.exact else "by forward passes"
    (line,) = ax.plot(lrs, losses, lw=1.2, label=f"{label} ({kind})")
    lowest = _marked(curve, lrs, losses)
    if lowest is not None:
        name = "minimum" if curve.exact else f"lowest of {len(lrs)}"
        words = f"{name}: {lowest.loss:.4g} at {lowest.lr:.4g}"
        ax.plot(lowest.lr, lowest.loss, "o", color=line.get_color(), ms=6, zorder=3, label=words)
    before = f"before the step: {curve.pre_loss:.4g}"
    if before not in ax.get_legend_handles_labels()[1]:
        ax.axhline(curve.pre_loss, color=GREY, lw=1, ls="--", label=before)
    ax.set(xlabel="learning rate", ylabel="loss of the batch")
    ax.set_xlim(0, right)
    ax.legend(frameon=False)
    return ax


def _marked(
    curve: LossCurve, lrs: NDArray[np.float64], losses: NDArray[np.float64]
) -> Minimum | Step | None:
    """Return the best step; None where no learning rate lowers the loss, or no loss is a number."""
    if curve.exact:
        return curve.minimum() if curve.descents() else None
    return lowest_of(lrs, losses)


def as_svg(curve: LossCurve) -> str:
    """A picture of the curve as an <svg> element, drawn without touching the current figure."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    FigureCanvasSVG(figure)
    draw(curve, figure.add_subplot(), 500, "loss")
    page = io.StringIO()
    figure.savefig(page, format="svg")
    svg = page.getvalue()
    return svg[svg.index("<svg") :]
