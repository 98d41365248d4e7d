"""The exact loss curve of networks of several builds against forward passes, one thread.

python benchmarks/models.py

For each model, loss and batch: the seconds until the loss at 50,000 learning rates and the exact minimum
and the descent certificate are known; how often an example's output takes another course on the way; and
the seconds of a float32 forward pass for each learning rate, from a part of them that was really run.
"""

from __future__ import annotations

import argparse
import copy
import time
from dataclasses import dataclass

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import nn

from srste import loss_curve
from srste.estimators.base import per_tensor
from srste.losses import CrossEntropy, Logistic, Loss, SquaredError
from srste.networks.activations import BinaryActivation
from srste.networks.estimating import estimating
from srste.networks.models.conv import Conv
from srste.networks.models.mlp import MLP
from srste.networks.models.residual import Residual
from srste.networks.rounding import Sign
from srste.networks.surrogates import Clipped
from srste.randomness import stream

LRS = np.arange(1, 50_001) / 100_000


def digits() -> nn.Module:
    """Two binary convolutions on an image of 28 x 28, ten classes."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, stride=2, padding=1), BinaryActivation(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1), BinaryActivation(),
        nn.Flatten(), nn.Linear(32 * 49, 10),
    )  # fmt: skip


@dataclass(frozen=True)
class Case:
    name: str
    model: nn.Module
    loss: Loss
    batch: int
    shape: tuple[int, ...] = (32,)


def cases() -> list[Case]:
    torch.manual_seed(0)
    return [
        Case("mlp", MLP(), SquaredError(), 1024),
        Case("mlp", MLP(), Logistic(), 1024),
        Case("mlp, 10 classes", MLP(out_features=10), CrossEntropy(), 1024),
        Case("residual", Residual(), SquaredError(), 1024),
        Case("conv 4 x 8", Conv(), SquaredError(), 1024),
        Case("conv 28 x 28", digits(), CrossEntropy(), 128, (1, 28, 28)),
    ]


def measure(case: Case, passes: int) -> tuple[float, float, float]:
    """(seconds of the exact curve, events an example, seconds of 50,000 forward passes)."""
    model, teacher = case.model, copy.deepcopy(case.model)
    with torch.no_grad():
        for parameter in teacher.parameters():
            parameter.copy_(parameter[torch.randperm(len(parameter))])
        x = torch.randn(case.batch, *case.shape)
        y = case.loss.targets(teacher(x) + 0.1 * torch.randn_like(teacher(x)))
    with estimating(model, Sign(), Clipped(), stream(0)):
        gradients = torch.autograd.grad(case.loss(model(x), y), list(model.parameters()))
    names = [name for name, _ in model.named_parameters()]
    direction = per_tensor(dict(zip(names, gradients, strict=True)))

    loss_curve(model, direction, x[:2], y[:2], loss=case.loss)(LRS[:2])  # compiled by now
    started = time.perf_counter()
    curve = loss_curve(model, direction, x, y, loss=case.loss)
    curve(LRS)
    curve.minimum()
    curve.descent()
    exact = time.perf_counter() - started

    parameters = dict(model.named_parameters())
    start = {name: p.detach().clone() for name, p in parameters.items()}
    with torch.no_grad():
        started = time.perf_counter()
        for lr in LRS[:: len(LRS) // passes]:
            for name, p in parameters.items():
                torch.sub(start[name], direction[name], alpha=float(lr), out=p)
            case.loss(model(x), y).item()
        by_passes = (time.perf_counter() - started) / passes * len(LRS)
        for name, p in parameters.items():
            p.copy_(start[name])
    return exact, curve.breakpoints.size / case.batch, by_passes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--passes", type=int, default=200, help="forward passes that are really run")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'model':<17}{'loss':<15}{'batch':>6}{'exact':>9}{'events':>8}{'passes':>9}{'ratio':>9}")
    with threadpool_limits(1):
        for case in cases():
            exact, events, passes = measure(case, options.passes)
            print(
                f"{case.name:<17}{case.loss.label:<20}{case.batch:>6}{exact:>7.3f} s{events:>8.1f}"
                f"{passes:>7.0f} s{passes / exact:>9,.0f}"
            )


if __name__ == "__main__":
    main()
