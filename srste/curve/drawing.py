"""A loss curve as a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from srste.curve.loss_curve import LossCurve

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
    label = "exact" if curve.exact else "by forward passes"
    ax.plot(lrs, curve(lrs), color=BLUE, lw=1.2, label=f"loss ({label})")
    ax.axhline(curve.pre_loss, color=GREY, lw=1, ls="--", label=f"before the step: {curve.pre_loss:.4g}")
    if curve.exact:
        lowest = curve.minimum()
        words = f"minimum: {lowest.loss:.4g} at {lowest.lr:.4g}"
        ax.plot(lowest.lr, lowest.loss, "o", color=RED, ms=6, zorder=3, label=words)
    ax.set(xlabel="learning rate", ylabel="loss of the batch", xlim=(0, curve.lr_max))
    ax.legend(frameon=False)
    return ax
