"""The discrete gradient (CDG) by levels of units, against two forward passes a weight.

    python benchmarks/discrete_gradient.py [--quick]

The raw network of the default problem (3,104 weights, 1,024 examples), radius .1 and .01, one thread.
Prints both times, their ratio, and the largest difference of the two gradients, in float64.
"""

from __future__ import annotations

import argparse
import time

import torch

from srste.estimators import Direction
from srste.estimators.base import no_norm
from srste.estimators.coordinate_difference import CoordinateDifference
from srste.launch.choices import part
from srste.losses import SquaredError
from srste.problem.task import OneBatch


def by_passes(task: OneBatch, radius: float) -> Direction:
    """Return the discrete gradient by two forward passes a weight."""
    gradient = {}
    with torch.no_grad():
        for name, p in task.model.named_parameters():
            flat = p.view(-1)
            differences = torch.empty(len(flat), dtype=torch.float64)
            for i in range(len(flat)):
                before, losses = flat[i].item(), []
                for sign in (1, -1):
                    flat[i] = before + sign * radius
                    losses.append(float(task.loss(task.model(task.inputs), task.targets)))
                flat[i] = before
                differences[i] = (losses[0] - losses[1]) / (2 * radius)
            gradient[name] = differences.reshape(p.shape)
    return gradient


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a small network: to try it")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    small = ["model.width=8", "model.in_features=8"] if options.quick else []
    model, teacher = (part("model", "mlp", small).double() for _ in range(2))
    features = next(model.parameters()).shape[1]
    inputs = torch.randn(100 if options.quick else 1024, features, dtype=torch.float64)
    with torch.no_grad():
        task = OneBatch(model, SquaredError(), inputs, teacher(inputs), 0)
    for radius in (0.1, 0.01):
        estimator, seconds = CoordinateDifference(no_norm, radius), []
        for _ in range(1 if options.quick else 3):
            started = time.thread_time()
            ours = estimator.direction(task, task.batch(1), 1)
            seconds.append(time.thread_time() - started)
        started = time.thread_time()
        naive = by_passes(task, radius)
        by_naive = time.thread_time() - started
        apart = max(float((ours[name] - g).abs().max()) for name, g in naive.items())
        print(
            f"radius {radius:g}: {1e3 * min(seconds):.1f} ms by levels, {1e3 * by_naive:.0f} ms by "
            f"passes: {by_naive / min(seconds):.0f} times as fast; they differ by at most {apart:.1e}"
        )


if __name__ == "__main__":
    main()
