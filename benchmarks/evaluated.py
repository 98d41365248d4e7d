"""The evaluated loss curve: learning rates one at a time against many at a time.

    python benchmarks/evaluated.py
    python benchmarks/evaluated.py --device cuda

Every row is a model, a batch size, the time of one learning rate where they go through the model one
after the other, and how many times as fast it is batched by ``torch.vmap``, so many at a time. Above 1
batching pays. Every time is the lower quartile of several, the ways in turn, so that what else the
machine does meets all of them. One thread, like the program itself.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from torch import nn

from srste.curve.forward.evaluated import EvaluatedCurve
from srste.losses import SquaredError
from srste.networks.models.mlp import MLP

AT_A_TIME = [4, 16, 64, 256]


def relu_mlp(width: int) -> nn.Module:
    """As the note's network, with ReLU in place of sign."""
    return nn.Sequential(
        nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(),
        nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1),
    )  # fmt: skip


def conv() -> nn.Module:
    """A small convolutional network with batch norm in training mode."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Flatten(), nn.Linear(32 * 6 * 6, 10),
    )  # fmt: skip


CASES = {
    "sign MLP, width 32": (MLP, (32,), [16, 64, 256, 1024]),
    "sign MLP, width 128": (lambda: MLP(128, 128), (128,), [16, 256, 1024]),
    "ReLU MLP, width 32": (lambda: relu_mlp(32), (32,), [16, 64, 256, 1024]),
    "ReLU MLP, width 512": (lambda: relu_mlp(512), (512,), [16, 256]),
    "conv, batch norm": (conv, (3, 16, 16), [8, 64, 256]),
}


def seconds_each(curves: list[EvaluatedCurve], lrs: np.ndarray, repeats: int) -> np.ndarray:
    """(curves,) the time of one learning rate."""
    times = np.empty((repeats, len(curves)))
    for repeat in range(-1, repeats):  # the first does not count
        for i, curve in enumerate(curves):
            started = time.perf_counter()
            curve(lrs)
            times[repeat, i] = (time.perf_counter() - started) / len(lrs)
    return np.quantile(times, 0.25, axis=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--lrs", type=int, default=256, help="learning rates that are evaluated")
    parser.add_argument("--largest", type=int, default=1024, help="leave out larger batches")
    options = parser.parse_args()
    torch.set_num_threads(1)
    lrs = np.linspace(0, 0.5, options.lrs)
    head = "".join(f"{n:>8}" for n in AT_A_TIME)
    print(f"{'':<31}{'one at a time':>15}   times as fast, so many at a time")
    print(f"{'model':<22}{'batch':>9}{'us each':>15}{head}")
    for name, (make_model, shape, batches) in CASES.items():
        for batch in batches:
            if batch > options.largest:
                continue
            torch.manual_seed(0)
            model = make_model().to(options.device)
            direction = {n: torch.randn_like(p) / p.numel() ** 0.5 for n, p in model.named_parameters()}
            inputs = torch.randn(batch, *shape, device=options.device)
            targets = torch.randn_like(model(inputs))
            problem = (model, direction, inputs, targets, 0.5, SquaredError())
            curves = [EvaluatedCurve(*problem, lrs_at_a_time=n) for n in [1, *AT_A_TIME]]
            one, *batched = seconds_each(curves, lrs, options.repeats)
            ratios = "".join(f"{one / each:>8.2f}" for each in batched)
            print(f"{name:<22}{batch:>9}{1e6 * one:>15.0f}{ratios}", flush=True)


if __name__ == "__main__":
    main()
