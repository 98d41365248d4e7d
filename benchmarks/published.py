"""Published results on the accuracy of gradient estimators, and ours on the same cases.

    python benchmarks/published.py [--json FILE] [--quick]

A. The network of PSA's figure (Shekhovtsov, Yanush and Flach, 2020): layers of 5, 5 and 5 units, of
   values 0 and 1 with logistic probabilities, 200 points, weights after 100 epochs. The relative error
   and the cosine of each layer's gradient against the number of samples n; the truth by transition
   matrices.
B. The closed forms of Yin et al. (2019), "Understanding straight-through estimator in training
   activation quantized neural nets": one layer of steps, normal inputs.
C. One Bernoulli unit with the loss (b - t)^2: the mean and the variance of every estimator, by hand.
D. Networks of 2 to 32 units a layer, and E. units of two, three and four levels, by the authors of the
   lab note of June 2021: cosines to the discrete gradient, see `published_discrete.py`.

The JSON has a row for each case, estimator, layer and n.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import published_discrete
import torch
from torch import Tensor, nn

from srste.estimators import Estimator
from srste.estimators.antithetic import ARM, DisARM
from srste.estimators.base import gradient_of, mean, no_norm
from srste.estimators.expected_loss import expected_loss
from srste.estimators.mean_field import MeanField
from srste.estimators.path_sample_analytic import PathSampleAnalytic
from srste.estimators.score_function import LeaveOneOut, Reinforce
from srste.estimators.straight_through import StraightThrough
from srste.networks.activations import BinaryStep
from srste.networks.draws import GumbelRao, GumbelST, Matched, ReinMax
from srste.networks.rounding import Sign
from srste.networks.units import Logistic
from srste.problem.task import OneBatch

DATA = Path(__file__).parent / "data"
UNITS = Logistic()

# A. PSA's figure


@dataclass(frozen=True)
class Row:
    """One number of samples of one layer. rmse: relative to the norm of the truth. published: the same
    of the paper's figure, None where it was not handed over or n is not in it."""

    case: str
    estimator: str
    layer: int
    n: int
    rmse: float
    cosine: float
    published_rmse: float | None = None
    published_cosine: float | None = None


class Copied(nn.Linear):
    """A linear layer of each of several copies of the examples, with weights of its own: the gradients
    of all copies by one backward pass."""

    def __init__(self, layer: nn.Linear, copies: int) -> None:
        super().__init__(layer.in_features, layer.out_features, dtype=torch.float64)
        self.weight = nn.Parameter(layer.weight.detach().repeat(copies, 1, 1))
        self.bias = nn.Parameter(layer.bias.detach().repeat(copies, 1, 1))
        self._copies = copies

    def forward(self, x: Tensor) -> Tensor:
        by_copy = x.reshape(self._copies, -1, self.in_features)
        return (by_copy @ self.weight.mT + self.bias).reshape(-1, self.out_features)


def logistic_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """log(1 + exp(-y eta)), the mean."""
    return nn.functional.softplus(-targets * outputs).mean()


def psa_network() -> tuple[nn.Sequential, Tensor, Tensor]:
    """Return PSA's network and its points: inputs (200, 2), targets (200, 1) of -1 and +1."""
    stored = json.loads((DATA / "psa_555_network.json").read_text())
    modules: list[nn.Module] = []
    for layer in stored["layers"]:
        weight, bias = (torch.tensor(layer[k], dtype=torch.float64) for k in ("weight", "bias"))
        linear = nn.Linear(weight.shape[1], weight.shape[0], dtype=torch.float64)
        with torch.no_grad():
            linear.weight.copy_(weight)
            linear.bias.copy_(bias.flatten())
        modules += [linear, BinaryStep()]
    x, y = (torch.tensor(stored[k], dtype=torch.float64) for k in ("X", "Y"))
    return nn.Sequential(*modules[:-1]), x, y[:, None]


def by_layer(gradient: dict[str, Tensor], copies: int = 1) -> list[Tensor]:
    """Return each layer's gradient, weights and biases together: (copies, numbers)."""
    tensors = [g.reshape(copies, -1) * copies for g in gradient.values()]
    return [torch.cat(pair, 1) for pair in zip(tensors[::2], tensors[1::2], strict=True)]


def psa_truth() -> tuple[float, list[Tensor]]:
    """Return the exact loss and each layer's exact gradient."""
    model, x, y = psa_network()
    loss = expected_loss(model, UNITS, logistic_loss, x, y)
    return float(loss.detach()), [g[0] for g in by_layer(gradient_of(loss, model))]


def single_samples(estimator: Estimator, samples: int, copies: int) -> list[Tensor]:
    """Return that many gradients of one sample each, by layer: (samples, numbers)."""
    model, x, y = psa_network()
    if copies > 1:
        model = nn.Sequential(*(Copied(m, copies) if isinstance(m, nn.Linear) else m for m in model))
    x, y = x.repeat(copies, 1), y.repeat(copies, 1)
    parts = []
    for seed in range(math.ceil(samples / copies)):
        task = OneBatch(model, logistic_loss, x, y, seed)
        parts.append(by_layer(estimator.direction(task, task.batch(1), 1), copies))
    return [torch.cat(layer)[:samples] for layer in zip(*parts, strict=True)]


def accuracy(gradients: Tensor, truth: Tensor, n: int) -> tuple[float, float]:
    """Return the relative root mean squared error and the mean cosine of means of n of the gradients."""
    groups = len(gradients) // n
    means = gradients[: groups * n].reshape(groups, n, -1).mean(1)
    errors = ((means - truth) ** 2).sum(1).mean().sqrt() / truth.norm()
    cosines = nn.functional.cosine_similarity(means, truth[None])
    return float(errors), float(cosines.mean())


PSA: dict[str, tuple[Estimator, int]] = {
    "REINFORCE": (Reinforce(UNITS, mean, no_norm), 500),
    "leave one out": (LeaveOneOut(UNITS, mean, no_norm), 500),
    "ARM": (ARM(UNITS, mean, no_norm), 500),
    "DisARM": (DisARM(UNITS, mean, no_norm), 500),
    "ST": (StraightThrough(UNITS, Matched(), mean, no_norm), 500),
    "ReinMax": (StraightThrough(UNITS, ReinMax(), mean, no_norm), 500),
    "Gumbel-ST .5": (StraightThrough(UNITS, GumbelST(0.5), mean, no_norm), 500),
    "Gumbel-Rao .5, 10": (StraightThrough(UNITS, GumbelRao(0.5, 10), mean, no_norm), 500),
    "PSA": (PathSampleAnalytic(UNITS, mean, no_norm), 1),
    "mean field": (MeanField(UNITS, no_norm), 1),
}
"""Each estimator, and how many copies of the points it takes at once."""


def psa(samples: int) -> Iterator[Row]:
    """Yield the rows of case A, from that many single samples of each estimator."""
    published = json.loads((DATA / "psa_555_curves.json").read_text())
    _, truth = psa_truth()
    for name, (estimator, copies) in PSA.items():
        n_most = (
            samples if copies > 1 else samples // 10
        )  # those that take one copy at a time are slower
        drawn = single_samples(estimator, n_most if estimator.stochastic else 1, copies)
        for layer, (gradients, exact) in enumerate(zip(drawn, truth, strict=True)):
            for place, n in enumerate(published["n"]):
                if estimator.stochastic and n > n_most / 20:
                    continue
                rmse, cosine = accuracy(gradients, exact, n if estimator.stochastic else 1)
                curves = published["curves"]
                of_layer = [curves.get(f"{k}/layer{layer}/{name}") for k in ("rmse", "cos")]
                theirs = [curve[place] if curve else None for curve in of_layer]
                yield Row("psa 5-5-5", name, layer + 1, n, rmse, cosine, *theirs)


# B. Yin et al.


class Steps(nn.Module):
    """y = v . 1[Z w > 0], for inputs Z (batch, m, n)."""

    def __init__(self, w: Tensor, v: Tensor) -> None:
        super().__init__()
        self.w, self.v = nn.Parameter(w), nn.Parameter(v)
        self.step = BinaryStep()

    def forward(self, z: Tensor) -> Tensor:
        return self.step(z @ self.w) @ self.v


def relu(a: Tensor) -> Tensor:
    """The slope of ReLU, of q = 2 b - 1."""
    return 2.0 * (a > 0).to(a.dtype)


def identity(a: Tensor) -> Tensor:
    """The slope of the identity, of q = 2 b - 1."""
    return 2.0 * torch.ones_like(a)


def clipped_relu(a: Tensor) -> Tensor:
    """The slope of a ReLU clipped at 1, of q = 2 b - 1."""
    return 2.0 * ((a > 0) & (a < 1)).to(a.dtype)


YIN_SURROGATES = {"ReLU": relu, "identity": identity, "clipped ReLU": clipped_relu}
TRUE_V = (0.5, 1.0, -1.0, 1.5)
YIN: dict[str, tuple[tuple[float, ...], float, dict[str, tuple[float, ...]]]] = {
    "at 60 degrees": (
        (1.0, -0.5, 0.25, 2.0),
        60.0,
        {
            "loss": (1.06771,),
            "dL/dv": (0.39583, -0.02083, 0.33333, 0.56250),
            "ReLU": (0.18700, 1.27401),
            "identity": (-0.03740, 1.83544),
            "clipped ReLU": (-0.09791, 0.24494),
        },
    ),
    "the spurious minimum": (
        (0.3, -0.2, 1.8, -0.7), 180.0, {"ReLU": (0.0, 0.0), "identity": (-0.382985, 0.0)}
    ),
}  # fmt: skip
"""Of each point v, the angle between w, of norm 2, and w* = (1, 0, ...), and what is published there:
the population loss, its gradient by v, and the first two components of the expected coarse gradients by
w. Of the spurious minimum the norms are published; the gradient points against w."""


def yin(point: str, examples: int, seed: int = 0) -> dict[str, tuple[list[float], list[float]]]:
    """Return the means over that many normal inputs (4, 6), and their standard errors, by name. The loss
    is (y - y*)^2 / 2."""
    at_v, degrees, _ = YIN[point]
    v, true_v = (torch.tensor(numbers, dtype=torch.float64) for numbers in (at_v, TRUE_V))
    w, true_w = torch.zeros(2, 6, dtype=torch.float64)
    w[0], w[1] = 2 * math.cos(math.radians(degrees)), 2 * math.sin(math.radians(degrees))
    true_w[0] = 1.0
    student, teacher = Steps(w, v), Steps(true_w, true_v)
    generator = torch.Generator().manual_seed(seed)
    blocks: dict[str, list[Tensor]] = {}
    for _ in range(examples // _BLOCK):
        z = torch.randn(_BLOCK, 4, 6, dtype=torch.float64, generator=generator)
        with torch.no_grad():
            target = teacher(z)
            blocks.setdefault("loss", []).append(half_square(student(z), target)[None])
        task = OneBatch(student, half_square, z, target, 0)
        for name, surrogate in YIN_SURROGATES.items():
            estimator = StraightThrough(Sign(), surrogate, mean, no_norm)
            gradient = estimator.direction(task, task.batch(1), 1)
            blocks.setdefault(name, []).append(gradient["w"][:2])
            if name == "identity":
                blocks.setdefault("dL/dv", []).append(gradient["v"])
    result = {}
    for name, parts in blocks.items():
        stacked = torch.stack(parts)
        error = stacked.std(0) / math.sqrt(len(stacked))
        result[name] = (stacked.mean(0).tolist(), error.tolist())
    return result


_BLOCK = 5_000


def half_square(y: Tensor, target: Tensor) -> Tensor:
    """(y - y*)^2 / 2, the mean."""
    return ((y - target) ** 2 / 2).mean()


# C. One Bernoulli unit


class Logits(nn.Module):
    """One unit's pre-activation, the same for every example, as a parameter of its own for each."""

    def __init__(self, p: float, copies: int) -> None:
        super().__init__()
        logit = math.log(p / (1 - p))
        self.logit = nn.Parameter(torch.full((copies, 1), logit, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return self.logit + 0 * x


def bernoulli(p: float, t: float) -> dict[str, tuple[float, float]]:
    """Return the mean and the variance of each estimator of d E[(b - t)^2] / d logit, by hand."""
    d, s, truth = 1 - 2 * t, p * (1 - p), (1 - 2 * t) * p * (1 - p)
    low, high, q = min(p, 1 - p), max(p, 1 - p), 2 * p * (1 - p)
    return {
        "REINFORCE": (truth, p * (1 - t) ** 4 * (1 - p) ** 2 + (1 - p) * t**4 * p**2 - truth**2),
        "leave one out": (truth, d**2 * q * (1 - q) / 4),
        "ARM": (truth, d**2 * (2 / 3) * (1 / 8 - (1 / 2 - low) ** 3) - truth**2),
        "DisARM": (truth, d**2 * high**2 * low / 2 - truth**2),
        "ST": (2 * (p - t) * s, 4 * s**3),
        "ReinMax": (truth, p * (1 - p) ** 2 * (1 - t) ** 2 + (1 - p) * p**2 * t**2 - truth**2),
        "PSA": (truth, 0.0),
        "mean field": (2 * (p - t) * s, 0.0),
    }


def bernoulli_samples(name: str, p: float, t: float, copies: int, seed: int = 0) -> Tensor:
    """Return that many gradients of one sample each."""
    model = nn.Sequential(Logits(p, copies), BinaryStep(), nn.Identity())
    zeros = torch.zeros(copies, 1, dtype=torch.float64)
    targets = torch.full((copies, 1), t, dtype=torch.float64)
    task = OneBatch(model, nn.MSELoss(), zeros, targets, seed)
    estimator, _ = PSA[name]
    (gradient,) = estimator.direction(task, task.batch(1), 1).values()
    return copies * gradient[:, 0]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--json", metavar="FILE", type=Path, help="where the rows of A, D and E are written"
    )
    parser.add_argument("--quick", action="store_true", help="fewer samples: to try it")
    options = parser.parse_args()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    rows = list(psa(2_000 if options.quick else 20_000))
    _print_psa(rows)
    _print_yin(200_000 if options.quick else 2_000_000)
    _print_bernoulli(20_000 if options.quick else 200_000)
    if not options.quick:  # larger batches
        torch.set_num_threads(threads)
    discrete = published_discrete.printed(options.quick)
    if options.json:
        every = [*map(asdict, rows), *map(asdict, discrete)]
        options.json.write_text(json.dumps(every, indent=1))


def _print_psa(rows: list[Row]) -> None:
    loss, truth = psa_truth()
    norms = " ".join(f"{float(g.norm()):.5f}" for g in truth)
    print(
        f"A. PSA's figure: exact loss {loss:.8f} (published .68386823), norms of its gradient by layer"
    )
    print(f"   {norms} (published .00473 .00591 .00969 .05327)")
    print("   relative root mean squared error and cosine: ours | published\n")
    print(f"{'estimator':18}{'n':>6}" + "".join(f"{f'layer {i}':>34}" for i in range(1, 5)))
    shown = sorted({(row.estimator, row.n) for row in rows if row.n in (1, 10, 100, 1000)})
    for name, (estimator, _) in PSA.items():
        of_estimator = sorted(n for this, n in shown if this == name)
        for n in of_estimator if estimator.stochastic else of_estimator[:1]:
            cells = []
            for row in sorted(
                (r for r in rows if (r.estimator, r.n) == (name, n)), key=lambda r: r.layer
            ):
                ours = f"{row.rmse:.4f} {row.cosine:.4f}"
                theirs = ""
                if row.published_rmse is not None and row.published_cosine is not None:
                    theirs = f"{row.published_rmse:.4f} {row.published_cosine:.4f}"
                cells.append(f"{ours} | {theirs:14}")
            print(f"{name:18}{n:>6}" + "".join(f"{cell:>34}" for cell in cells))


def _print_yin(examples: int) -> None:
    print("\nB. Yin et al.: ours (its standard error) published")
    for point, (_, _, published) in YIN.items():
        print(f"   {point}")
        results = yin(point, examples)
        for name, theirs in published.items():
            cells = zip(*results[name], theirs, strict=True)
            print(f"{name:14}" + "".join(f"   {m:8.5f} ({e:.5f}) {t:8.5f}" for m, e, t in cells))


def _print_bernoulli(samples: int) -> None:
    print("\nC. One Bernoulli unit, p = .3, t = .49: mean and variance, ours and by hand")
    for name, (by_hand, variance) in bernoulli(0.3, 0.49).items():
        drawn = bernoulli_samples(name, 0.3, 0.49, samples)
        print(
            f"{name:14}{float(drawn.mean()):12.6f}{by_hand:12.6f}"
            f"{float(drawn.var()):14.4e}{variance:12.4e}"
        )


if __name__ == "__main__":
    main()
