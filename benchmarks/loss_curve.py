"""The exact loss curve against a loop of forward passes and against batched matmul.

    python benchmarks/loss_curve.py

At the note's size: width 32, three hidden layers, 1,024 examples, all 50,000 learning rates. The loop
and the batched form run a part of the learning rates and are scaled up to all of them; every time is a
median, and what counts are the ratios within this one run. One thread, like the program itself.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from srste.binarize import Clipped, Sign, estimating, sign
from srste.curve import loss_curve
from srste.estimators.base import Direction, global_norm, per_row, per_tensor
from srste.losses import SquaredError
from srste.models.mlp import MLP
from srste.randomness import stream

LRS = np.arange(1, 50_001) / 100_000
BARS = {"global": 5_000, "tensor": 2_000, "row": 500}


def median_seconds(function: Callable[[], object], repeats: int) -> float:
    """The median time of that many calls, after one that does not count."""
    function()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        function()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


@torch.no_grad()
def loop(model: MLP, direction: Direction, x: Tensor, y: Tensor, lrs: np.ndarray) -> list[float]:
    """One float32 step and one forward pass a learning rate."""
    start = {name: p.clone() for name, p in model.named_parameters()}
    losses = []
    for lr in lrs:
        for name, p in model.named_parameters():
            torch.sub(start[name], direction[name], alpha=float(lr), out=p)
        losses.append(SquaredError()(model(x), y).item())
    for name, p in model.named_parameters():
        p.copy_(start[name])
    return losses


@torch.no_grad()
def batched(model: MLP, direction: Direction, x: Tensor, y: Tensor, lrs: np.ndarray) -> list[float]:
    """Sixteen learning rates at a time by batched matmul."""
    names = [name for name, _ in model.named_parameters()]
    weights = dict(model.named_parameters())
    losses: list[float] = []
    for part in np.array_split(lrs, max(1, len(lrs) // 16)):
        t = torch.tensor(part, dtype=torch.float32)[:, None, None]
        h = x.expand(len(part), *x.shape)
        for name in names:
            a = torch.bmm(h, (weights[name] - t * direction[name]).transpose(1, 2))
            h = a if name is names[-1] else sign(a)
        losses += ((h - y) ** 2).mean(dim=(1, 2)).tolist()
    return losses


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--loop", type=int, default=400, help="learning rates that the loop really runs")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model, teacher = MLP(), MLP()
    x = torch.randn(1024, 32)
    y = teacher(x).detach()
    with estimating(model, Sign(), Clipped(), stream(0)):
        loss = SquaredError()(model(x), y)
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    gradient = dict(zip(dict(model.named_parameters()), gradients, strict=True))
    some = LRS[:: len(LRS) // options.loop]
    all_of_them = len(LRS) / len(some)

    print(f"{len(LRS):,} learning rates, 1,024 examples, width 32, three hidden layers, one thread")
    print(
        f"{'direction':<10}{'exact':>10}{'loop':>9}{'batched':>9}{'loop/exact':>12}{'batched/exact':>15}{'bar':>8}"
    )
    with threadpool_limits(1):
        for name, normalise in (("global", global_norm), ("tensor", per_tensor), ("row", per_row)):
            direction = normalise(gradient)
            case = (model, direction, x, y)
            exact = median_seconds(lambda c=case: loss_curve(*c)(LRS), options.repeats)
            by_loop = median_seconds(lambda c=case: loop(*c, some), 3) * all_of_them
            by_batch = median_seconds(lambda c=case: batched(*c, some), 3) * all_of_them
            print(
                f"{name:<10}{1e3 * exact:>7.1f} ms{by_loop:>7.1f} s{by_batch:>7.1f} s"
                f"{by_loop / exact:>12,.0f}{by_batch / exact:>15,.0f}{BARS[name]:>8,}"
            )


if __name__ == "__main__":
    main()
