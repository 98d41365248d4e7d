"""The exact loss curve against loops of forward passes, and against the least that it could cost.

    python benchmarks/loss_curve.py

At the note's size: width 32, three hidden layers, 1,024 examples, all 50,000 learning rates. The loops
run a part of the learning rates and are scaled up to all of them. Every time is the median of many, each
way ten times in a row and then the next: on one thread the time that it had a core, on two that of the
clock. `loop / exact` is the faster of the loops, on one thread or on two, over the curve on one thread;
`of least` the same of the least times, and `first` of the medians of the first of every ten, for which
the caches hold what the ways before it left there.

The floor, explained in `benchmarks/floor.py`, is what any method must spend that finds every flip: its
operations and bytes, at the best rates that this machine shows in the same run; so the curve's least
time is held against it.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from statistics import median

import numpy as np
import torch
from floor import EVENT, copy_rate, counts, floor, products_by_tables, rates
from timing import times_of
from torch import Tensor

from srste import loss_curve
from srste.estimators.base import Direction, global_norm, per_row, per_tensor
from srste.losses import SquaredError
from srste.networks.estimating import estimating
from srste.networks.models.mlp import MLP
from srste.networks.rounding import Sign, sign
from srste.networks.surrogates import Clipped
from srste.randomness import stream

LRS = np.arange(1, 50_001) / 100_000
EXAMPLES = 1024
DIRECTIONS = {"global": global_norm, "tensor": per_tensor, "row": per_row}
AT_A_TIME = 16
IN_A_ROW = 10

Times = dict[str, list[float]]
"""By way."""


@dataclass(frozen=True)
class Case:
    """What a curve is taken of."""

    model: MLP
    direction: Direction
    x: Tensor
    y: Tensor

    def curve(self, lrs: np.ndarray) -> np.ndarray:
        return loss_curve(self.model, self.direction, self.x, self.y)(lrs)


def cases(examples: int = EXAMPLES, width: int = 32, depth: int = 3) -> dict[str, Case]:
    """By direction: a teacher of the student's build, STE's gradient of the first 1,024 examples."""
    torch.manual_seed(0)
    model, teacher = MLP(width=width, depth=depth), MLP(width=width, depth=depth)
    x = torch.randn(examples, 32)
    with torch.no_grad():
        y = torch.cat([teacher(part) for part in x.split(1024)])
    with estimating(model, Sign(), Clipped(), stream(0)):
        loss = SquaredError()(model(x[:1024]), y[:1024])
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    gradient = dict(zip(dict(model.named_parameters()), gradients, strict=True))
    return {name: Case(model, norm(gradient), x, y) for name, norm in DIRECTIONS.items()}


@torch.no_grad()
def loop(case: Case, lrs: np.ndarray) -> list[float]:
    """One float32 step and one forward pass a learning rate."""
    model = case.model
    start = {name: p.clone() for name, p in model.named_parameters()}
    losses = []
    for lr in lrs:
        for name, p in model.named_parameters():
            torch.sub(start[name], case.direction[name], alpha=float(lr), out=p)
        losses.append(SquaredError()(model(case.x), case.y).item())
    for name, p in model.named_parameters():
        p.copy_(start[name])
    return losses


@torch.no_grad()
def batched(case: Case, lrs: np.ndarray) -> list[float]:
    """All these learning rates at once by batched matmul."""
    weights = dict(case.model.named_parameters())
    t = torch.tensor(lrs, dtype=torch.float32)[:, None, None]
    h = case.x.expand(len(lrs), *case.x.shape)
    for layer, name in enumerate(weights, 1):
        a = torch.bmm(h, (weights[name] - t * case.direction[name]).transpose(1, 2))
        h = a if layer == len(weights) else sign(a)
    losses: list[float] = ((h - case.y) ** 2).mean(dim=(1, 2)).tolist()
    return losses


def scaled(took: float) -> float:
    """From the learning rates that a loop runs to all of them."""
    return took * len(LRS) / AT_A_TIME


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repeats", type=int, default=60, help="of every measurement, ten in a row")
    options = parser.parse_args()
    some = LRS[:: len(LRS) // AT_A_TIME][:AT_A_TIME]
    problems = cases(EXAMPLES)

    times: dict[str, tuple[Times, Times]] = {}
    for name, case in problems.items():
        ways = {
            "exact": lambda c=case: c.curve(LRS),
            "loop": lambda c=case: loop(c, some),
            "batched": lambda c=case: batched(c, some),
        }
        one, two = (times_of(ways, options.repeats, threads, IN_A_ROW) for threads in (1, 2))
        times[name] = one, two

    print(f"{len(LRS):,} learning rates, {EXAMPLES:,} examples, width 32, three hidden layers\n")
    print(f"{'threads':<10}{'1':>10}{'2':>10}{'1':>9}{'2':>9}{'1':>9}")
    print(
        f"{'direction':<10}{'exact':>10}{'exact':>10}{'loop':>9}{'loop':>9}{'batched':>9}"
        f"{'loop/exact':>12}{'of least':>10}{'first':>8}"
    )
    for name, (one, two) in times.items():
        exact = median(one["exact"])
        loops = [scaled(median(ts)) for ts in (one["loop"], two["loop"], one["batched"])]
        fastest = min(loops[:2])
        least = min(scaled(min(one["loop"])), scaled(min(two["loop"]))) / min(one["exact"])
        print(
            f"{name:<10}{1e3 * exact:>7.2f} ms{1e3 * median(two['exact']):>7.2f} ms"
            + "".join(f"{took:>7.1f} s" for took in loops)
            + f"{fastest / exact:>12,.0f}{least:>10,.0f}"
            + f"{fastest / median(one['exact'][::IN_A_ROW]):>8,.0f}"
        )

    rate = rates(EXAMPLES // 2, 32, len(LRS), options.repeats)
    near, far = copy_rate(100_000, options.repeats), copy_rate(64_000_000, max(3, options.repeats // 10))
    print("\nof one core, 10^9 a second:")
    for what, each in {
        "multiply-adds in a float64 product": rate.product,
        "multiply-adds in a vectorised loop": rate.multiply_add,
        "divisions": rate.division,
        "outputs": rate.output,
        "bytes copied within its cache": near,
        "bytes copied beyond any cache": far,
    }.items():
        print(f"  {what:<36}{each / 1e9:>6.1f}")
    print()
    parts = ["products", "flips", "events", "order", "outputs"]
    print(
        f"{'floor':<10}{'unit flips':>11}{'events':>8}" + "".join(f"{part:>10}" for part in parts),
        end="",
    )
    print(f"{'floor':>10}{'exact':>10}{'exact/floor':>13}")
    sizes = [32, 32, 32, 32, 1]
    by_tables = products_by_tables(sizes, EXAMPLES, rate)
    below = {}
    for name, case in problems.items():
        found = counts(case.model, case.direction, case.x, case.y)
        copied = copy_rate(EVENT * found.events, options.repeats)
        spent = floor(sizes, EXAMPLES, len(LRS), found, rate, copied)
        least, exact = sum(spent.values()), min(times[name][0]["exact"])
        print(
            f"{name:<10}{sum(found.flips):>11,}{found.events:>8,}"
            + "".join(f"{1e3 * spent[part]:>7.3f} ms" for part in parts)
            + f"{1e3 * least:>7.2f} ms{1e3 * exact:>7.2f} ms{exact / least:>13.1f}"
        )
        lower = least - spent["products"] + by_tables
        below[name] = f"{name} {1e3 * lower:.2f} ms, {exact / lower:.1f} times"
    print(f"\nwith products by tables, {1e3 * by_tables:.3f} ms: {'; '.join(below.values())}")


if __name__ == "__main__":
    main()
