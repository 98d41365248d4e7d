"""Cosines to the discrete gradient (CDG), published and ours: cases D and E of `published.py`.

D. By width: binary units, layers of 2, 4, 8 and 32 units, raw; which surrogate is nearest to CDG with
   radius .1, and by how much the loss falls at learning rate .1.
E. By precision: binary, ternary and two-bit units, layers of 32 units, CDG with radius .1 and .01.

Readings: units of -1 and +1, whose raw losses are of the size of the published ones (with 0 and 1 they
are far below); "vanilla" is the clipped straight-through estimator; directions are not normalised;
networks are three other ones, and batches smaller for E (with radius .01 the sampling error of CDG keeps
a cosine below 1). Published decreases are in other units, so only their order is compared. Ours differ
in one order: two-bit units are nearer to CDG than ternary ones.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from srste import api
from srste.curve import Line
from srste.estimators import Direction, Estimator
from srste.estimators.base import no_norm
from srste.estimators.coordinate_difference import CoordinateDifference
from srste.estimators.smoothed import NES
from srste.losses import SquaredError
from srste.networks.models.mlp import MLP
from srste.networks.models.quantised import QuantisedMLP
from srste.problem.task import OneBatch
from srste.study.gradient_quality import by_layer, flat

RATE = 0.1
"""The learning rate at which the loss is measured."""

SURROGATES = {
    "vanilla": "ste", "steep": "steep", "SwishSign": "swish_sign", "polynomial": "polynomial"
}  # fmt: skip
WIDTHS: dict[int, dict[str, tuple[float, tuple[float, ...]]]] = {
    4: {
        "CDG": (0.02136, (1.0, 1.0, 1.0)),
        "vanilla": (0.01791, (0.397, 0.183, 0.762)),
        "steep": (0.01816, (0.432, 0.130, 0.748)),
        "SwishSign": (0.01770, (0.220, -0.056, 0.492)),
        "polynomial": (0.01820, (0.294, 0.182, 0.720)),
        "NES 500": (0.01797, (0.365, 0.275, 0.660)),
        "NES 5000": (0.01864, (0.554, 0.465, 0.735)),
        "NES 50000": (0.01889, (0.642, 0.463, 0.736)),
    },
    8: {
        "CDG": (0.03874, (1.0, 1.0, 1.0)),
        "vanilla": (0.03460, (0.635, 0.625, 0.932)),
        "steep": (0.03456, (0.689, 0.685, 0.957)),
        "SwishSign": (0.04291, (0.660, 0.580, 0.873)),
        "polynomial": (0.04343, (0.720, 0.735, 0.964)),
        "NES 500": (0.02844, (0.369, 0.446, 0.717)),
        "NES 5000": (0.03639, (0.739, 0.779, 0.924)),
        "NES 50000": (0.03615, (0.825, 0.835, 0.940)),
    },
    32: {
        "CDG": (0.03181, (1.0, 1.0, 1.0)),
        "vanilla": (0.03031, (0.881, 0.896, 0.964)),
        "steep": (0.03100, (0.924, 0.936, 0.975)),
        "SwishSign": (0.03202, (0.971, 0.982, 0.973)),
        "polynomial": (0.03171, (0.965, 0.973, 0.976)),
        "NES 500": (-0.0005, (0.0, -0.01, 0.01)),
        "NES 5000": (0.01720, (0.086, 0.131, 0.353)),
        "NES 50000": (0.02496, (0.386, 0.512, 0.838)),
    },
}
"""Published, by width: the decrease of the loss, and the cosines of layers 1 to 3."""

PRECISION = {
    (0.1, 2): (0.893, 0.897, 0.963), (0.1, 3): (0.965, 0.987, 0.993), (0.1, 4): (0.975, 0.976, 0.985),
    (0.01, 2): (0.847, 0.843, 0.949), (0.01, 3): (0.959, 0.984, 0.995), (0.01, 4): (0.901, 0.942, 0.952),
}  # fmt: skip
"""Published, by radius and number of levels: the cosines of layers 1 to 3."""


@dataclass(frozen=True)
class Row:
    """One layer, the mean over networks. n: samples, of NES loss evaluations. decrease: of the loss at
    :data:`RATE`, the same for all layers. published: None where nothing is."""

    case: str
    estimator: str
    layer: int
    n: int
    rmse: float
    cosine: float
    decrease: float
    published_cosine: float | None = None
    published_decrease: float | None = None


def problem(model: type[nn.Module], examples: int, seed: int, **arguments: int) -> OneBatch:
    """Return a random network, and a batch labelled by another one of its build."""
    torch.manual_seed(seed)
    student, teacher = model(**arguments), model(**arguments)
    inputs = torch.randn(examples, arguments["in_features"])
    with torch.no_grad():
        targets = teacher(inputs)
    return OneBatch(student, SquaredError(), inputs, targets, seed)


def measured(
    task: OneBatch, direction: Direction, truth: Direction
) -> tuple[float, list[tuple[float, float]]]:
    """Return the decrease at :data:`RATE`, and (relative error, cosine) of the hidden layers."""
    layers = []
    for layer, names in by_layer(task.model).items():
        if layer:
            ours, exact = flat(direction, names), flat(truth, names)
            error = float((ours - exact).norm() / exact.norm().clamp_min(1e-30))
            cosine = float(torch.nn.functional.cosine_similarity(ours, exact, dim=0))
            layers.append((error, cosine))
    curve = Line(task.model, direction).loss(task.inputs, task.targets, task.loss, RATE)
    return curve.pre_loss - float(curve(RATE)), layers[:-1]


def surrogates() -> dict[str, Estimator]:
    """Return the straight-through estimators, without a normalisation."""
    plain = ["estimator/normalisation=none"]
    return {name: api.part("estimator", choice, plain) for name, choice in SURROGATES.items()}


def rows_of(
    case: str, results: dict[str, list[tuple[float, list[tuple[float, float]]]]],
    published: dict[str, tuple[float, tuple[float, ...]]],
) -> Iterator[Row]:  # fmt: skip
    """Yield the means over networks."""
    for name, networks in results.items():
        decrease = statistics.fmean(one[0] for one in networks)
        theirs = published.get(name)
        n = int(name.split()[1]) if name.startswith("NES") else 1
        for layer in range(len(networks[0][1])):
            error, cosine = (statistics.fmean(one[1][layer][k] for one in networks) for k in (0, 1))
            yield Row(
                case, name.split()[0], layer + 1, n, error, cosine, decrease,
                theirs[1][layer] if theirs else None, theirs[0] if theirs else None,
            )  # fmt: skip


def by_width(
    width: int, networks: int, examples: int, nes: tuple[int, ...] = (), of_nes: int = 4_000
) -> list[Row]:
    """Return the rows of case D of a width.

    Args: examples: of a batch. nes: numbers of evaluations of NES, radius .1, on ``of_nes`` examples.
    """
    results: dict[str, list[tuple[float, list[tuple[float, float]]]]] = {}
    for seed in range(networks):
        task = problem(MLP, examples, seed, in_features=width, width=width)
        batch = task.batch(1)
        truth = CoordinateDifference(no_norm, 0.1).direction(task, batch, 1)
        estimates = {"CDG": truth}
        for name, estimator in surrogates().items():
            estimates[name] = estimator.direction(task, batch, 1)
        fewer = OneBatch(task.model, task.loss, task.inputs[:of_nes], task.targets[:of_nes], seed)
        for evaluations in nes:
            estimator = NES(no_norm, 0.1, evaluations // 2)
            estimates[f"NES {evaluations}"] = estimator.direction(fewer, fewer.batch(1), 1)
        for name, direction in estimates.items():
            results.setdefault(name, []).append(measured(task, direction, truth))
    return list(rows_of(f"width {width}", results, WIDTHS.get(width, {})))


def by_precision(radius: float, levels: int, networks: int, examples: int) -> list[Row]:
    """Return the rows of case E of a number of levels: of the clipped straight-through estimator."""
    results = []
    for seed in range(networks):
        task = problem(QuantisedMLP, examples, seed, in_features=32, width=32, levels=levels)
        batch = task.batch(1)
        truth = CoordinateDifference(no_norm, radius).direction(task, batch, 1)
        estimate = surrogates()["vanilla"].direction(task, batch, 1)
        results.append(measured(task, estimate, truth))
    case = f"{levels} levels, radius {radius:g}"
    published = {"vanilla": (float("nan"), PRECISION[radius, levels])}
    rows = rows_of(case, {"vanilla": results}, published)
    return [Row(**vars(row) | {"published_decrease": None}) for row in rows]


def printed(quick: bool) -> list[Row]:
    """Compute both cases, print them beside what is published, and return their rows."""
    rows: list[Row] = []
    networks, examples = (1, 4_000) if quick else (3, 160_000)
    print(f"\nD. By width: {networks} networks, {examples:,} examples; ours | published")
    print(
        "   decrease of the loss at learning rate .1; cosines to CDG with radius .1 in layers 1 to 3\n"
    )
    for width in (2, 4, 8, 32):
        nes = (500,) if quick else (500, 5_000) if width == 32 else (500, 5_000, 50_000)
        of_width = by_width(width, networks, examples, nes)
        _print_table(f"width {width}", of_width, decreases=True)
        rows += of_width
    examples = 4_000 if quick else 400_000
    print(f"\nE. By precision: {networks} networks, {examples:,} examples; ours | published")
    print("   cosines of the clipped straight-through estimator to CDG in layers 1 to 3\n")
    for radius, levels in itertools.product((0.1, 0.01), (2, 3, 4)):
        of_levels = by_precision(radius, levels, networks, examples)
        _print_table(of_levels[0].case, of_levels, decreases=False)
        rows += of_levels
    return rows


def _print_table(case: str, rows: list[Row], decreases: bool) -> None:
    if decreases:
        print(case)
    for (name, n), group in itertools.groupby(rows, key=lambda row: (row.estimator, row.n)):
        layers = list(group)
        label = f"NES {n:,}" if name == "NES" else name
        theirs = layers[0].published_decrease
        of_loss = f"{layers[0].decrease:9.4f} |{_shown(theirs, 8, 4)}" if decreases else ""
        cells = " ".join(f"{row.cosine:7.3f} |{_shown(row.published_cosine, 6, 3)}" for row in layers)
        print(f"   {label if decreases else case:24}{of_loss}  {cells}")


def _shown(number: float | None, width: int, digits: int) -> str:
    return " " * width if number is None else f"{number:{width}.{digits}f}"


if __name__ == "__main__":
    printed(quick=False)
