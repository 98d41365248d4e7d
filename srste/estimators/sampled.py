"""What the estimators of stochastic binary networks share: passes whose units are drawn, and the losses
of single examples.

Their objective is the mean loss over the draws of all units. With P(s | a) of each unit, and L the loss,

    d E[L] / dw = E[ dL/dw + sum over units L d log P(s | a) / dw ].
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from srste.errors import NotApplicableError
from srste.estimators.base import DRAWS, Aggregation, Direction, Normalisation
from srste.losses import LossFunction
from srste.networks.activations import acting
from srste.networks.arguments import one_of
from srste.networks.rounding import Quantiser, StochasticUnits
from srste.problem.passes import identity_of, kept
from srste.problem.task import Batch, Task, buffers_kept
from srste.randomness import Stream, uniform


def check_units(estimator: object, units: Quantiser) -> StochasticUnits:
    """The units, if they are stochastic ones. Raises: ValueError that names the estimator."""
    if not isinstance(units, StochasticUnits):
        raise ValueError(
            f"`{type(estimator).__name__}(quantiser={type(units).__name__})` must be one of logistic, "
            "hard_sigmoid, triangular, stochastic_rounding: it needs probabilities"
        )
    return units


@dataclass
class SampledPass:
    """A rule that draws the units of every activation, of one forward pass.

    units: that are drawn. generator: for the uniform numbers of activations beyond those given.
    uniforms: of each activation, in the order in which the forward comes to them, as far as they are
    given; those that were drawn are added. values: -1 or +1, of the first activations, which are not
    drawn. a: pre-activations, with their graph.

    What goes on to the next layer has no graph: a pre-activation's graph ends at the draws below it.
    """

    units: StochasticUnits
    generator: Stream
    uniforms: list[Tensor] = field(default_factory=list)
    imposed: Sequence[Tensor] = ()
    a: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)

    def __call__(self, a: Tensor) -> Tensor:
        """-1 or +1 for each of the pre-activations (batch, ...)."""
        place = len(self.a)
        if place == len(self.uniforms):
            self.uniforms.append(uniform(self.generator, tuple(a.shape), a.device))
        if place < len(self.imposed):
            values = self.imposed[place]
        else:
            values = self.units.values(a.detach(), self.uniforms[place])
        self.a.append(a)
        self.values.append(values)
        return values

    def probability(self, place: int) -> Tensor:
        """P(s = +1) at that activation."""
        return self.units.probability(self.a[place].detach())

    def score(self, place: int) -> Tensor:
        """d log P(s | a) / da at that activation, of the values that were drawn."""
        a, s = self.a[place].detach(), self.values[place]
        p = self.units.probability(a)
        return s * self.units.slope(a) / torch.where(s > 0, p, 1 - p).clamp_min(1e-30)


def drawn(task: Task, batch: Batch, rule: SampledPass) -> Tensor:
    """The loss of every example (batch,), with its graph, by one forward pass under this rule.

    Raises: ValueError for a loss that is not the mean of its examples' losses.
    """
    with buffers_kept(task.model), acting(task.model, rule):
        outputs = task.model(batch.inputs)
    return losses_of_examples(task.loss, outputs, batch.targets)


def losses_of_examples(loss: LossFunction, outputs: Tensor, targets: Tensor) -> Tensor:
    """The loss of each example (batch,), with its graph.

    Raises: ValueError where their mean is not the loss of all.
    """
    each: Tensor = torch.vmap(lambda o, t: loss(o[None], t[None]))(outputs, targets)
    with torch.no_grad():
        mean, of_all = float(each.double().mean()), float(loss(outputs, targets))
    if abs(mean - of_all) > 1e-4 * max(abs(of_all), 1e-6) and of_all == of_all:
        raise NotApplicableError(
            f"the loss of the batch, {of_all:.6g}, is not the mean of its examples' losses, {mean:.6g}: "
            "estimators that compare draws need the loss of each example"
        )
    return each


def with_scores(losses: Tensor, rule: SampledPass, weights: Sequence[Tensor]) -> Tensor:
    """The scalar whose gradient by the parameters is that of the mean loss for the units as drawn, plus
    the mean over examples of the sum over units of weight * da/dw.

    Args: losses: (batch,), with their graph. weights: of each activation, dL/da of each example, of the
        shape of its pre-activations.
    """
    total = losses.mean()
    for a, weight in zip(rule.a, weights, strict=True):
        total = total + (weight.detach() * a).sum() / len(losses)
    return total


def per_example(numbers: Tensor, like: Tensor) -> Tensor:
    """(batch,) as (batch, 1, ...), to be multiplied with a tensor (batch, ...)."""
    return numbers.reshape(-1, *[1] * (like.ndim - 1))


def check_not_normalising(model: nn.Module) -> None:
    """Raises: ValueError for batch norm in training mode, which makes an example's loss depend on the
    others' draws."""
    for name, module in model.named_modules():
        normalises = isinstance(module, nn.modules.batchnorm._BatchNorm)
        if normalises and (module.training or module.running_mean is None):
            raise NotApplicableError(
                f"module {name} ({type(module).__name__}) normalises by the batch, so that an example's "
                "loss depends on the draws of the others; call its eval()"
            )


class SampledEstimator(ABC):
    """What the estimators by single draws of a stochastic network share: their draws and averages.

    Args:
        quantiser: stochastic units.
        aggregation, normalisation: see `srste.estimators.base`. An unbiased one is so with the mean
            alone.
        draws: "nested" or "independent", see `srste.estimators.straight_through.StraightThrough`.
    Raises: ValueError for a quantiser without probabilities; by `direction`, for a loss that is not the
        mean of its examples' losses, and for batch norm in training mode.
    """

    stochastic = True
    unbiased: ClassVar[bool] = False
    """For the gradient of the mean loss, with the mean of samples and without a normalisation."""

    def __init__(
        self,
        quantiser: Quantiser,
        aggregation: Aggregation,
        normalisation: Normalisation,
        draws: Literal["nested", "independent"] = "nested",
    ) -> None:
        self.units = check_units(self, quantiser)
        self._draws = one_of(self, "draws", draws, DRAWS)
        self._aggregation, self._normalisation = aggregation, normalisation

    def direction(self, task: Task, batch: Batch, samples: int) -> Direction:
        """See :class:`srste.estimators.base.Estimator`."""
        check_not_normalising(task.model)
        of_all = () if self._draws == "nested" else ("of", samples)
        identity = identity_of(self, but=("_aggregation", "_normalisation"))

        def sample(number: int) -> Direction:
            names = ("units", "batch", batch.index, "sample", number, *of_all)
            key = identity and (identity, names)
            return kept(task, batch, key, lambda: self._gradient(task, batch, task.stream(*names)))

        gradients = [sample(number) for number in range(1, samples + 1)]
        pooled = {name: self._aggregation([g[name] for g in gradients]) for name in gradients[0]}
        return self._normalisation(pooled)

    @abstractmethod
    def _gradient(self, task: Task, batch: Batch, generator: Stream) -> Direction:
        """Return one sample's gradient."""
