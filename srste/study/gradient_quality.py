"""How good an estimate of a gradient is: its bias, its variance, and its angle to the truth."""

from __future__ import annotations

import copy
import math
from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from srste.errors import NotApplicableError
from srste.estimators import Direction, Estimator
from srste.estimators.base import gradient_of, no_norm
from srste.estimators.coordinate_difference import CoordinateDifference
from srste.estimators.expected_loss import check_states, expected_loss
from srste.networks.rounding import StochasticUnits
from srste.problem.passes import identity_of, kept
from srste.problem.task import Batch, Task
from srste.randomness import Stream

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

BAND = (0.15, 0.85)
"""The quantiles of the cosines between which a band is drawn."""


@dataclass(frozen=True)
class Quality:
    """The quality of the mean of ``samples`` estimates, of one layer or of all parameters.

    layer: the name of the module whose parameters these are; "" for all together. samples: of each
    estimate. cosine: to the truth, the mean over repeats; cosine_low, cosine_high: its 15 and 85 %
    quantiles. rmse: root mean squared error, bias: of the mean, deviation: root of the total variance;
    all three in units of the truth's norm. scale_free_bias, scale_free_deviation: likewise, of estimates
    multiplied by the number that gives their mean the truth's norm (Hooper and Shekhovtsov, 2026). nan
    where the truth is zero, and the last two where the mean cannot be told from zero.
    """

    layer: str
    samples: int
    cosine: float
    cosine_low: float
    cosine_high: float
    rmse: float
    bias: float
    deviation: float
    scale_free_bias: float
    scale_free_deviation: float


class GradientQuality:
    """The quality of an estimator's directions against the truth, by layer and number of samples.

    estimator: its name. truth: what it is compared with, in words. rows: of all parameters first, then
    by layer, each by ascending number of samples.
    """

    def __init__(self, estimator: str, truth: str, rows: Sequence[Quality]) -> None:
        self.estimator, self.truth, self.rows = estimator, truth, tuple(rows)

    def frame(self) -> pd.DataFrame:
        """A row per layer and number of samples, with the columns of :class:`Quality`."""
        import pandas as pd

        return pd.DataFrame([asdict(row) for row in self.rows])

    def plot(self, ax: Axes | None = None, quantity: str = "cosine", label: str = "") -> Axes:
        """Draw a quantity of all parameters against the number of samples, on a logarithmic axis; the
        cosine with the band of its 15 and 85 % quantiles.

        Args: ax: to draw on; a new figure by default. quantity: a column of :meth:`frame`. label: in the
            legend, by default the estimator's name.
        Raises: ValueError for another quantity.
        """
        numbers = [name for name in Quality.__annotations__ if name not in ("layer", "samples")]
        if quantity not in numbers:
            raise ValueError(f"quantity={quantity!r}: must be one of {', '.join(numbers)}")
        if ax is None:
            import matplotlib.pyplot as plt

            ax = plt.subplots(figsize=(6.4, 3.6), layout="constrained")[1]
        rows = [row for row in self.rows if not row.layer]
        counts = [row.samples for row in rows]
        (line,) = ax.plot(
            counts, [getattr(row, quantity) for row in rows], "o-", label=label or self.estimator
        )
        if quantity == "cosine":
            low, high = [r.cosine_low for r in rows], [r.cosine_high for r in rows]
            ax.fill_between(counts, low, high, color=line.get_color(), alpha=0.2, lw=0)
        ax.set_xscale("log")
        ax.set(xlabel="samples n", ylabel=quantity.replace("_", " "), title=f"against {self.truth}")
        ax.grid(alpha=0.25)
        ax.legend(frameon=False)
        return ax

    def __repr__(self) -> str:
        lines = [f"<gradient of {self.estimator} against {self.truth}"]
        for row in self.rows:
            if not row.layer:
                lines.append(
                    f"  n = {row.samples}: cosine {row.cosine:.4f}, relative error {row.rmse:.3g}, "
                    f"bias {row.bias:.3g}"
                )
        return "\n".join(lines) + ">"


class Repeated:
    """A task whose draws are those of one repeat, which these words and numbers name."""

    def __init__(self, task: Task, *names: str | int) -> None:
        self.model, self.loss, self.seed, self.batch = task.model, task.loss, task.seed, task.batch
        self._task, self._names = task, names

    def stream(self, *names: str | int) -> Stream:
        """See :class:`srste.problem.task.Task`."""
        return self._task.stream(*names, *self._names)


TRUTHS = ("auto", "expected", "discrete")
"""What an estimate is compared with."""


@dataclass(frozen=True)
class Truth:
    """What an estimate is compared with: the exact gradient of the mean loss of the network of these
    ``units``, or where there are none the discrete gradient of the network of signs, by ``radius``."""

    units: StochasticUnits | None
    radius: float

    @property
    def words(self) -> str:
        """For example "the discrete gradient with radius 0.1"."""
        if self.units is None:
            return f"the discrete gradient with radius {self.radius:g}"
        return f"the exact gradient of the network of {type(self.units).__name__} units"

    def gradient(self, task: Task, batch: Batch) -> Direction:
        """It, on a batch; a task with an attribute ``passes`` keeps it for the next call."""
        units = self.units
        if units is None:
            key: Hashable = ("discrete gradient", self.radius)
            return kept(task, batch, key, lambda: discrete_gradient(task, batch, self.radius))
        identity = identity_of(units)
        key = identity and ("expected gradient", identity)
        return kept(task, batch, key, lambda: expected_gradient(task, batch, units))


def truth_for(task: Task, batch: Batch, estimator: Estimator, truth: str, radius: float) -> Truth:
    """What an estimator is compared with.

    Args: truth: one of :data:`TRUTHS`. radius: of the discrete gradient, > 0.
    Raises: ValueError for "expected" where there is no expected gradient.
    """
    units = getattr(estimator, "units", None)
    if truth != "discrete":
        try:
            if not isinstance(units, StochasticUnits):
                raise ValueError(f"{type(estimator).__name__} has no stochastic units")
            check_states(task.model, units, batch.inputs)
            return Truth(units, radius)
        except ValueError as error:
            if truth == "expected":
                raise ValueError(f"truth=expected: {error}") from error
    return Truth(None, radius)


def expected_gradient(task: Task, batch: Batch, units: StochasticUnits) -> Direction:
    """The exact gradient of the mean loss of the network of these units, in float64, see
    :func:`srste.estimators.expected_loss.expected_loss`. Raises: ValueError as that function."""
    model = copy.deepcopy(task.model).double()
    assert isinstance(model, nn.Module)
    targets = batch.targets.double() if batch.targets.is_floating_point() else batch.targets
    before = torch.get_rng_state()
    loss = expected_loss(model, units, task.loss, batch.inputs.double(), targets)  # type: ignore[arg-type]
    gradient = gradient_of(loss, model)
    if not torch.equal(torch.get_rng_state(), before):
        torch.set_rng_state(before)
        raise NotApplicableError(
            "the forward draws random numbers, as dropout does: there is no exact gradient; call eval()"
        )
    return gradient


def discrete_gradient(task: Task, batch: Batch, radius: float) -> Direction:
    """The discrete gradient of the network of signs, see
    :class:`srste.estimators.coordinate_difference.CoordinateDifference`."""
    return CoordinateDifference(no_norm, radius).direction(task, batch, 1)


def gradient_quality(
    task: Task,
    batch: Batch,
    estimator: Estimator,
    truth: Direction,
    counts: Sequence[int],
    repeats: int,
) -> list[Quality]:
    """The quality of the mean of n estimates, for every n of ``counts``.

    Args:
        estimator: without a normalisation, which would hide a wrong scale. truth: what it estimates.
        counts: numbers of samples, >= 1. repeats: estimates of each n, >= 2; a deterministic estimator
            has one.
    Returns: of all parameters, then by layer, each by ascending n.
    """
    samples = max(counts) * repeats if estimator.stochastic else 1
    drawn = [estimator.direction(Repeated(task, "repeat", i), batch, 1) for i in range(samples)]
    rows = []
    for layer, members in by_layer(task.model).items():
        estimates = torch.stack([flat(one, members) for one in drawn])
        for n in sorted(counts):
            rows.append(quality_of(layer, n, estimates, flat(truth, members)))
    return rows


def by_layer(model: nn.Module) -> dict[str, list[str]]:
    """The names of the parameters that are to move: of all of them under "", and by module, if there are
    several."""
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    layers: dict[str, list[str]] = {"": names}
    for name in names:
        layers.setdefault(name.rpartition(".")[0] or name, []).append(name)
    return {"": names} if len(layers) == 2 else layers


def flat(direction: Direction, names: Sequence[str]) -> Tensor:
    """These parameters of a direction as one vector, in float64."""
    return torch.cat([direction[name].detach().double().flatten().cpu() for name in names])


def quality_of(layer: str, n: int, estimates: Tensor, truth: Tensor) -> Quality:
    """The quality of means of n of the estimates (samples, numbers)."""
    norm = float(truth.norm())
    if not norm > 0:
        return Quality(layer, n, *[math.nan] * 8)
    groups = max(1, len(estimates) // n)
    means = estimates[: groups * n].reshape(groups, -1, len(truth)).mean(1) if groups > 1 else estimates
    cosines = torch.nn.functional.cosine_similarity(means, truth[None], eps=1e-300)
    low, high = (float(torch.quantile(cosines, q)) for q in BAND)
    bias, deviation = _bias_and_deviation(means, truth)
    scale = _scale(means, norm)
    rescaled = (math.nan,) * 2 if math.isnan(scale) else _bias_and_deviation(means * scale, truth)
    rmse = float(((means - truth) ** 2).sum(1).mean().sqrt())
    return Quality(
        layer, n, float(cosines.mean()), low, high, rmse / norm, bias / norm, deviation / norm,
        *(number / norm for number in rescaled),
    )  # fmt: skip


def _scale(estimates: Tensor, norm: float) -> float:
    """Return by what the estimates are multiplied so that their mean has that norm; nan if it cannot be
    told from zero."""
    count = len(estimates)
    variance = float(estimates.var(0).sum()) if count > 1 else 0.0
    squared = float((estimates.mean(0) ** 2).sum()) - variance / count
    return norm / math.sqrt(squared) if squared > 0 else math.nan


def _bias_and_deviation(estimates: Tensor, truth: Tensor) -> tuple[float, float]:
    """Return the distance of the mean from the truth, of whose square the mean's own variance is
    subtracted, and the root of the total variance."""
    count = len(estimates)
    variance = float(estimates.var(0).sum()) if count > 1 else 0.0
    squared = float(((estimates.mean(0) - truth) ** 2).sum()) - variance / count
    return math.sqrt(max(squared, 0.0)), math.sqrt(variance)  # nan stays nan
