"""The drawing of docs/concepts.md: one step in weight space, and the loss along it.

    python docs/images/step.py

The left half is a sketch. The right half is real: STE and sr-STE (N = 10) on one batch of the default
problem, as `srste.loss_curve` gives them.
"""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import srste
from srste.networks.models.mlp import MLP

BLACK, RED, GREY = "#000000", "#D55E00", "#777777"


def sketch(axes: Axes) -> None:
    """Weights before the step, and the line along each direction."""
    start = np.array([0.12, 0.15])
    for name, end, colour in (("STE", (0.93, 0.35), BLACK), ("sr-STE", (0.62, 0.93), RED)):
        to = np.array(end) - start
        axes.annotate("", start + to, start, arrowprops={"arrowstyle": "->", "color": colour, "lw": 1.6})
        for share in (0.25, 0.5, 0.75):
            axes.plot(*(start + share * to), "o", ms=4, color=colour)
        axes.text(*(start + 1.03 * to), f"{name}:\nw - lr g", color=colour, ha="center", va="bottom")
    axes.plot(*start, "s", color=GREY, ms=8)
    axes.text(start[0], start[1] - 0.04, "w, before the step\n(lr = 0)", ha="center", va="top")
    axes.text(0.56, 0.13, "each dot: a learning rate", fontsize="small", color=GREY)
    axes.set(xlim=(-0.1, 1.15), ylim=(-0.08, 1.2), xticks=[], yticks=[])
    axes.set_title("weight space: one step along each direction", fontsize="medium")


def curves(axes: Axes) -> None:
    """The exact loss at every learning rate, and the lowest."""
    torch.manual_seed(0)
    model, teacher = MLP(), MLP()
    inputs = torch.randn(1024, 32)
    targets = teacher(inputs).detach()
    lrs = np.linspace(0, 0.5, 3_000)
    for label, name, samples, colour, place in (
        ("STE", "ste", 1, BLACK, (54, -8)),
        ("sr-STE, N = 10", "sr_ste", 10, RED, (0, -18)),
    ):
        gradient = srste.estimate(name, model, inputs, targets, samples=samples)
        curve = srste.loss_curve(model, gradient, inputs, targets)
        best = curve.minimum()
        axes.plot(lrs, curve(lrs), color=colour, lw=1.2, label=label)
        axes.plot(best.lr, best.loss, "o", color=colour, ms=7)
        axes.annotate(
            f"best step {best.loss:.3f}", (best.lr, best.loss), place, textcoords="offset points",
            ha="center", color=colour, fontsize="small",
        )  # fmt: skip
        before = curve.pre_loss
    axes.axhline(before, color=GREY, lw=1, ls="--", label="before the step")
    axes.set(xlabel="learning rate lr", ylabel="loss of the batch after the step")
    axes.margins(y=0.15)
    axes.legend(frameon=False, fontsize="small")
    axes.set_title("the loss along each line, exactly", fontsize="medium")


def main() -> None:
    matplotlib.rcParams["svg.hashsalt"] = "srste"  # the same figure gives the same file
    figure = Figure(figsize=(9.6, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    sketch(left)
    curves(right)
    figure.savefig(Path(__file__).with_name("step.svg"), metadata={"Date": None})


if __name__ == "__main__":
    main()
