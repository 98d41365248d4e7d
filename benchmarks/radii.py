"""Estimators by differences of the loss at 60 radii: by two exact loss curves a direction, or by passes.

    python benchmarks/radii.py [--figure FILE] [--quick]

The raw network of the default problem, one batch. Prints the ratio of the times, and for each estimator
the radius with the largest cosine to the discrete gradient with radius .1; draws all cosines.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib
import numpy as np
import torch
from timing import least_seconds

from srste.api import radius_quality
from srste.estimators.base import no_norm
from srste.estimators.smoothed import SPSA, loss_at
from srste.launch.choices import part
from srste.losses import SquaredError
from srste.problem.task import OneBatch
from srste.study.radii import slopes

NAMES = ("nes", "spsa", "guided_es", "fogzo")
RADII = [float(e) for e in np.geomspace(1e-3, 3, 60)]


def default_problem(examples: int) -> OneBatch:
    """Return the raw network and a batch of the default problem's kind."""
    torch.manual_seed(0)
    model, teacher = part("model", "mlp", []), part("model", "mlp", [])
    inputs = torch.randn(examples, 32)
    with torch.no_grad():
        targets = teacher(inputs)
    return OneBatch(model, SquaredError(), inputs, targets, 0)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--figure", metavar="FILE", type=Path, help="where the figure is written")
    parser.add_argument("--quick", action="store_true", help="fewer samples: to try it")
    options = parser.parse_args()
    torch.set_num_threads(1)
    task = default_problem(200 if options.quick else 1024)
    batch = task.batch(1)
    (v,) = SPSA(no_norm, 0.1, 1).directions(task, batch, 1)

    def by_passes() -> None:
        for e in RADII:
            for sign in (1, -1):
                loss_at(task, batch, {name: sign * e * t for name, t in v.items()})

    slopes(task, batch, v, RADII)  # compiles the kernels
    timed = {"passes": by_passes, "curves": lambda: slopes(task, batch, v, RADII)}
    seconds = least_seconds(timed, 1 if options.quick else 5)
    ratio = seconds["passes"] / seconds["curves"]
    print(
        f"{len(RADII)} radii of a direction: {1e3 * seconds['curves']:.1f} ms by two exact curves, "
        f"{1e3 * seconds['passes']:.1f} ms by {2 * len(RADII)} passes: {ratio:.1f} times as fast"
    )
    axes = None
    if options.figure:
        matplotlib.use("Agg")
    for name in NAMES:
        quality = radius_quality(
            task.model, task.inputs, task.targets, estimator=name, radii=RADII,
            samples=2 if options.quick else 10, repeats=2 if options.quick else 10,
        )  # fmt: skip
        print(quality)
        if options.figure:
            axes = quality.plot(axes)
    if axes is not None:
        axes.figure.savefig(options.figure, dpi=150)


if __name__ == "__main__":
    main()
