"""The pictures and the numbers of docs/loss_curve.md.

    python docs/images/loss_curve.py

draws loss_curve_example.png and loss_curve_whole.png into its own folder and prints the numbers that the
page gives. `--folder` takes another folder.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from srste import loss_curve
from srste.curve import Line, LossCurve
from srste.estimators.base import Direction, global_norm, per_row, per_tensor
from srste.losses import AbsoluteError, CrossEntropy, Logistic, Loss, SquaredError
from srste.networks.estimating import estimating
from srste.networks.models.mlp import MLP
from srste.networks.rounding import Sign
from srste.networks.surrogates import Clipped
from srste.randomness import stream
from srste.study.replay import replay

BLUE, RED, GREEN, ORANGE = "#0072B2", "#D55E00", "#009E73", "#E69F00"
GREY = "#777777"
Case = tuple[MLP, dict[str, torch.Tensor], torch.Tensor, torch.Tensor]

PIECES = ["#56B4E9", "#E69F00", "#CC79A7", "#000000"]


def sign(a: np.ndarray) -> np.ndarray:
    return np.where(a >= 0, 1.0, -1.0)


# One example of a small network, followed with nothing but NumPy.

ENDS = 1.0
SEED = 13981  # two flips in layer 1, of which one turns nothing else; three in layer 2


def small() -> tuple[list[np.ndarray], list[np.ndarray], np.ndarray, float]:
    """Weights and direction of a network 3 -> 3 -> 3 -> 1, an input and a target."""
    rng = np.random.default_rng(SEED)
    shapes = [(3, 3), (3, 3), (1, 3)]
    weights = [rng.uniform(-1, 1, shape) for shape in shapes]
    return weights, [rng.normal(size=shape) for shape in shapes], rng.normal(size=3), 0.4


def layers(t: float) -> list[np.ndarray]:
    """Pre-activations of both hidden layers, and the output, after ``w - t g``."""
    weights, direction, h, _ = small()
    found = []
    for w, g in zip(weights, direction, strict=True):
        found.append((w - t * g) @ h)
        h = sign(found[-1])
    return found


def flips(layer: int) -> list[tuple[float, int]]:
    """(t, unit) of the sign changes of a layer in (0, 1), by bisection between points of a fine grid."""
    grid = np.linspace(0, ENDS, 4001)
    signs = np.array([sign(layers(t)[layer]) for t in grid])
    found = []
    for k, unit in np.argwhere(signs[1:] != signs[:-1]):
        lo, hi = grid[k], grid[k + 1]
        while hi - lo > 1e-13:
            middle = 0.5 * (lo + hi)
            if sign(layers(middle)[layer])[unit] == signs[k, unit]:
                lo = middle
            else:
                hi = middle
        found.append((hi, int(unit)))
    return sorted(found)


def between(lo: float, hi: float) -> np.ndarray:
    """Learning rates from just after lo to just before hi."""
    return np.linspace(lo + 1e-9, hi - 1e-9, 60)


def beside(ax: Axes) -> None:
    ax.legend(fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)


def example_figure() -> Figure:
    first, second = flips(0), flips(1)
    turning = {round(t, 9) for t, _ in second}
    alone = [t for t, _ in first if round(t, 9) not in turning]
    figure = Figure(figsize=(8.2, 8.6), layout="constrained")
    axes = figure.subplots(4, 1, sharex=True)
    titles = [
        "Layer 1: linear in t, each unit flips once at most",
        "Layer 2: linear between two flips of layer 1, which make it jump",
        "Output: linear between two flips of layer 2",
        "Squared error: a parabola on each piece",
    ]
    for ax, title in zip(axes, titles, strict=True):
        ax.set_title(title, loc="left", fontsize=11)
        ax.set_xlim(0, ENDS)
        for t in turning:
            ax.axvline(t, color=GREY, ls="--", lw=1.2)
        for t in alone:
            ax.axvline(t, color=GREY, ls=":", lw=1.4)
    cuts = [0.0, *(t for t, _ in first), ENDS]
    for unit, colour in enumerate((BLUE, RED, GREEN)):
        for number, (lo, hi) in enumerate(pairwise(cuts)):
            t = between(lo, hi)
            values = np.array([np.concatenate(layers(u)[:2]) for u in t])
            label = f"unit {unit + 1}" if number == 0 else None
            axes[0].plot(t, values[:, unit], color=colour, lw=2, label=label)
            axes[1].plot(t, values[:, 3 + unit], color=colour, lw=2, label=label)
    for ax, found in ((axes[0], first), (axes[1], second)):
        ax.axhline(0, color="black", lw=0.8)
        ax.plot([t for t, _ in found], [0] * len(found), "ko", ms=6, label="flips of this layer")
        ax.set_ylabel("pre-activation")
        beside(ax)
    target = small()[-1]
    axes[2].axhline(target, color="black", lw=1, ls="-.", label="target")
    for number, (lo, hi) in enumerate(pairwise([0.0, *(t for t, _ in second), ENDS])):
        t = between(lo, hi)
        output = np.array([layers(u)[2][0] for u in t])
        axes[2].plot(t, output, color=PIECES[number], lw=2.4, label=f"piece {number + 1}")
        axes[3].plot(t, (output - target) ** 2, color=PIECES[number], lw=2.4)
    axes[2].set_ylabel("output")
    axes[3].set_ylabel("squared error")
    axes[3].set_ylim(bottom=-0.005)
    axes[3].set_xlabel("learning rate t")
    axes[3].plot([], [], color=GREY, ls="--", lw=1.2, label="breakpoint: a unit\nof layer 2 flips")
    axes[3].plot(
        [], [], color=GREY, ls=":", lw=1.4, label="flip of layer 1 that\nturns no unit after it"
    )
    beside(axes[2])
    beside(axes[3])
    return figure


# The main job's network: width 32, three hidden layers, 1,024 examples, the STE direction per tensor.


def main_case(outputs: int = 1, loss: Loss | None = None) -> Case:
    """Model, direction, inputs and targets. loss: the squared error, if none is given."""
    torch.manual_seed(0)
    model, teacher = MLP(out_features=outputs), MLP(out_features=outputs)
    inputs = torch.randn(1024, 32)
    loss = loss or SquaredError()
    targets = loss.targets(teacher(inputs).detach())
    with estimating(model, Sign(), Clipped(), stream(0)):
        gradients = torch.autograd.grad(loss(model(inputs), targets), list(model.parameters()))
    names = [name for name, _ in model.named_parameters()]
    return model, per_tensor(dict(zip(names, gradients, strict=True))), inputs, targets


def segments(curve: LossCurve, lo: float, hi: float) -> list[tuple[np.ndarray, np.ndarray]]:
    """Of every piece in a range, some learning rates and the losses there."""
    inside = curve.breakpoints[(curve.breakpoints > lo) & (curve.breakpoints < hi)]
    found = []
    for begin, end in pairwise([lo, *inside, hi]):
        t = np.linspace(begin, np.nextafter(end, 0), 12)
        found.append((t, curve(t)))
    return found


def zoom(ax: Axes, curve: LossCurve, lo: float, hi: float, grid: np.ndarray) -> None:
    for number, (t, loss) in enumerate(segments(curve, lo, hi)):
        ax.plot(t, loss, color=BLUE if number % 2 == 0 else "#56B4E9", lw=2.4, solid_capstyle="butt")
    inside = curve.breakpoints[(curve.breakpoints > lo) & (curve.breakpoints < hi)]
    ax.plot(inside, curve(inside), "|", color="black", ms=9, label="breakpoint")
    here = grid[(grid >= lo) & (grid <= hi)]
    if here.size:
        ax.plot(here, curve(here), "s", color=ORANGE, mec="black", ms=8, zorder=4)
    ax.set_xlim(lo, hi)


def random_direction(model: MLP) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return per_tensor({name: torch.randn_like(p) for name, p in model.named_parameters()})


def whole_figure() -> Figure:
    model, direction, inputs, targets = main_case()
    curve = loss_curve(model, direction, inputs, targets)
    lowest = curve.minimum()
    grid = np.arange(1, 51) / 100
    t = np.linspace(0, curve.lr_max, 20_001)
    figure = Figure(figsize=(8.4, 10.2), layout="constrained")
    whole, near, nearest, other = figure.subplots(4, 1)

    def star(ax: Axes) -> None:
        ax.plot(
            lowest.lr, lowest.loss, "*", color=RED, mec="black", ms=15, label="exact minimum", zorder=5
        )

    whole.plot(t, curve(t), color=BLUE, lw=1.2, label="exact curve")
    whole.axhline(curve.pre_loss, color=GREY, lw=1.2, ls="--", label="loss before the step")
    whole.plot(grid, curve(grid), "s", color=ORANGE, mec="black", ms=4, label="grid in steps of 0.01")
    star(whole)
    whole.set_xlim(0, curve.lr_max)
    whole.set_title("STE direction: the whole curve", loc="left", fontsize=11)
    width, fine = 0.012, 1.5e-4
    zoom(near, curve, lowest.lr - width, lowest.lr + width, grid)
    star(near)
    near.set_title(
        "Around the minimum: what lies between two points of the grid", loc="left", fontsize=11
    )
    zoom(nearest, curve, lowest.lr - fine, lowest.lr + fine, grid)
    star(nearest)
    nearest.set_title("Eighty times closer: pieces in two blues by turns", loc="left", fontsize=11)

    curve = loss_curve(model, random_direction(model), inputs, targets)
    for number, interval in enumerate(curve.descents()):
        other.axvspan(
            interval.lo, interval.hi, color=GREEN, alpha=0.3, lw=0,
            label="descent intervals" if number == 0 else None,
        )  # fmt: skip
    other.plot(t, curve(t), color=BLUE, lw=1.2)
    other.axhline(curve.pre_loss, color=GREY, lw=1.2, ls="--")
    end = 1.3 * max(interval.hi for interval in curve.descents())
    other.set_xlim(0, end)
    shown = curve(t[t <= end])
    other.set_ylim(
        2 * shown.min() - curve.pre_loss, min(shown.max(), 3 * curve.pre_loss - 2 * shown.min())
    )
    other.set_title(
        "A random direction, its first part: where it lowers the loss", loc="left", fontsize=11
    )

    handles, labels = [], []
    for ax in (whole, near, nearest, other):
        ax.set_ylabel("mean squared error")
        ax.ticklabel_format(useOffset=False)
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            if label not in labels:
                handles.append(handle)
                labels.append(label)
    other.set_xlabel("learning rate")
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=10)
    return figure


def tell(curve: LossCurve) -> None:
    descent = curve.descent()
    print(f"  descent intervals: {descent.intervals}, together {descent.total:.4f}")
    for name in ("first", "smallest", "largest"):
        print(f"  {name}: {getattr(descent, name)}")


def events(width: int, normalise: Callable[[Direction], Direction]) -> float:
    """Of a curve for each of 64 examples."""
    torch.manual_seed(0)
    model, inputs = MLP(width=width), torch.randn(64, 32)
    direction = normalise({name: torch.randn_like(p) for name, p in model.named_parameters()})
    return loss_curve(model, direction, inputs, torch.randn(64, 1)).breakpoints.size / 64


def numbers() -> None:
    case = main_case()
    curve = loss_curve(*case)
    lowest = curve.minimum()
    for layer in (0, 1):
        print(
            f"The small network, flips of layer {layer + 1}: "
            + ", ".join(f"{t:.2f}" for t, _ in flips(layer))
        )
    print("The main job's network, STE direction per tensor, 1,024 examples:")
    print(f"  breakpoints in (0, 0.5]: {curve.breakpoints.size:,}")
    print(f"  loss before: {curve.pre_loss:.6f}")
    print(f"  exact minimum: {lowest.loss:.6f} at {lowest.lr:.6f}, attained: {lowest.attained}")
    starts = np.append(curve.breakpoints, curve.lr_max)
    after = starts[starts > lowest.lr][0]
    print(f"  the piece of the minimum: {after - starts[starts <= lowest.lr][-1]:.0e} wide")
    for steps in (50, 500, 5_000, 50_000):
        grid = np.arange(1, steps + 1) / (2 * steps)
        losses = curve(grid)
        best = losses.argmin()
        regret = losses[best] - lowest.loss
        print(f"  best of {steps:,}: {losses[best]:.6f} at {grid[best]:.5f}, regret {regret:.2e}")
    tell(curve)
    model, _, inputs, targets = case
    curve = loss_curve(model, random_direction(model), inputs, targets)
    print(f"A random direction: minimum {curve.minimum().loss:.6f} at {curve.minimum().lr:.6f}")
    tell(curve)
    found = replay(Line(*case[:2]), *case[2:], lowest.lr, lowest.loss)
    print(
        f"The step of the STE minimum made in float32: loss {found.post_loss:.6f}, on the fence: "
        f"{found.on_the_fence} of 1,024 examples, explained by rounding: {found.explained}"
    )
    print("Events an example, random directions, lr_max 0.5, three hidden layers:")
    for width in (32, 128, 512):
        one, tensor, row = (events(width, how) for how in (global_norm, per_tensor, per_row))
        print(f"  width {width}: global {one:.1f}, per tensor {tensor:.1f}, per row {row:.1f}")
    print("Ten outputs, the STE direction of each loss:")
    for loss in (SquaredError(), AbsoluteError(), Logistic(), CrossEntropy()):
        curve = loss_curve(*main_case(10, loss), loss=loss)
        lowest = curve.minimum()
        print(
            f"  {loss.label:<20} minimum {lowest.loss:.6f} at {lowest.lr:.6f}, error {curve.error:.1e}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent)
    folder = parser.parse_args().folder
    with matplotlib.rc_context({"font.size": 10}):
        example_figure().savefig(folder / "loss_curve_example.png", dpi=130)
        whole_figure().savefig(folder / "loss_curve_whole.png", dpi=130)
    numbers()


if __name__ == "__main__":
    main()
