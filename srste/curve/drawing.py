"""A loss curve as a picture."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

from srste.curve.loss_curve import LossCurve, lowest_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLUE, GREY, RED = "#0072B2", "#777777", "#D55E00"  # told apart by the colour-blind (Okabe and Ito, 2008)
_MOST_PASSES = 200


def draw(curve: LossCurve, ax: Axes | None, points: int) -> Axes:
    """See :meth:`srste.curve.LossCurve.plot`. Raises: ValueError for fewer than two points."""
    if points < 2:
        raise ValueError(f"points={points} must be >= 2")
    if ax is None:
        import matplotlib.pyplot as plt

        ax = plt.subplots(figsize=(6.4, 3.6), layout="constrained")[1]
    lrs = np.linspace(0, curve.lr_max, points if curve.exact else min(points, _MOST_PASSES))
    losses = curve(lrs)
    label = "exact" if curve.exact else "by forward passes"
    ax.plot(lrs, losses, color=BLUE, lw=1.2, label=f"loss ({label})")
    ax.axhline(curve.pre_loss, color=GREY, lw=1, ls="--", label=f"before the step: {curve.pre_loss:.4g}")
    lowest = curve.minimum() if curve.exact else lowest_of(lrs, losses)
    if lowest is not None:
        name = "minimum" if curve.exact else f"lowest of {len(lrs)}"
        words = f"{name}: {lowest.loss:.4g} at {lowest.lr:.4g}"
        ax.plot(lowest.lr, lowest.loss, "o", color=RED, ms=6, zorder=3, label=words)
    ax.set(xlabel="learning rate", ylabel="loss of the batch", xlim=(0, curve.lr_max))
    ax.legend(frameon=False)
    return ax


def as_svg(curve: LossCurve) -> str:
    """A picture of the curve as an <svg> element, drawn without touching the current figure."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    FigureCanvasSVG(figure)
    draw(curve, figure.add_subplot(), 500)
    page = io.StringIO()
    figure.savefig(page, format="svg")
    svg = page.getvalue()
    return svg[svg.index("<svg") :]
