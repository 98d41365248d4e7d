"""The loss at a fixed learning rate against N(N+1)/2: straight if gradients add up."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from srste.analysis.alarms import SHORTEST_RUN, BestStep, drift, fixed_lr_runs
from srste.report import palette
from srste.report.figures import style

_COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]


def drift_figure(series: Mapping[str, Sequence[BestStep]], label: str = "") -> Figure | None:
    """Draw a panel per series with a line per batch: the loss at a fixed learning rate, scaled to
    [0, 1]. Returns None where no line is long enough.

    Args: series: the steps of one network each, by the name of their series.
    """
    lines = {
        name: [r for r in fixed_lr_runs(steps) if len(r) >= SHORTEST_RUN]
        for name, steps in series.items()
    }
    shown = [name for name in series if lines[name]]
    if not shown:
        return None
    figure = Figure(figsize=(3.6 * len(shown) + 0.6, 3.9), layout="constrained")
    axes = figure.subplots(1, len(shown), squeeze=False, sharey=True)[0]
    for panel, name in zip(axes, shown, strict=True):
        for run in lines[name]:
            n = np.array([step.samples or 0 for step in run])
            losses = np.array([step.fixed[1] for step in run if step.fixed])
            if np.ptp(losses) > 0:
                scaled = (losses - losses.min()) / np.ptp(losses)
                colour = _COLOURS[run[0].batch % len(_COLOURS)]
                panel.plot(n * (n + 1) / 2, scaled, color=colour, marker=".", lw=1)
        trend = drift(series[name])
        ends = panel.get_xlim()
        panel.axline((ends[0], 1), (ends[1], 0), color=palette.BLACK, lw=1, ls="--")
        panel.set_title(
            f"{name}\n{trend.down} of {trend.steps} steps fall, R² {trend.r_squared:.2f}",
            fontsize="medium",
        )
        panel.set_xlabel("N(N+1)/2")
        panel.grid(alpha=0.25)
    axes[0].set_ylabel("loss at a fixed learning rate,\neach batch scaled to [0, 1]")
    style.set_title(figure, "Does the loss drift with N? (dashed: as added-up gradients do)", label)
    return figure
