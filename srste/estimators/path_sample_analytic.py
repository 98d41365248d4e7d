"""The path sample-analytic estimator: one unit flipped at a time, its effect followed to first order."""

import torch
from torch import Tensor, nn

from srste.errors import NotApplicableError
from srste.estimators.base import Cost, Direction, gradient_of
from srste.estimators.chains import segments_of
from srste.estimators.sampled import (
    SampledEstimator,
    SampledPass,
    drawn,
    losses_of_examples,
    with_scores,
)
from srste.networks.activations import levels_of
from srste.networks.rounding import StochasticRounding
from srste.problem.task import Batch, Task
from srste.randomness import Stream


class PathSampleAnalytic(SampledEstimator):
    """The loss with each unit flipped, carried down through the layers by exact differences.

    Forward:   q(a) drawn in every activation; P the probability of +1
    Backward:  d_i = L(unit i flipped) - L in the last layer of units, and
               d_i = sum over j of d_j (-q_j) (P(a_j with unit i below flipped) - P(a_j)) below;
               dL/da_j := d_j (-q_j) dP(a_j)/da_j
    Direction: normalisation(aggregation(gradient of sample 1, ..., gradient of sample N))

    Args:
        quantiser: stochastic units. aggregation, normalisation, draws: see `StraightThrough`.
    Raises: ValueError for a quantiser without probabilities, or whose probabilities depend on other
        examples; by `direction`, for a network that is not a row of linear layers and activations.
    Properties: stochastic; of small bias, and exact for one layer of units; for each sample a
        forward-backward pass, the last layer once for each of its inputs, and products of width times
        the cost of the layers'.
    References: Shekhovtsov et al. (2020), "Path sample-analytic gradient estimators for stochastic
        binary networks", and its public code.
    """

    def cost(self, model: nn.Module, samples: int) -> Cost:
        """See :func:`srste.estimators.base.cost_of`."""
        return Cost(samples, samples)

    def _gradient(self, task: Task, batch: Batch, generator: Stream) -> Direction:
        if isinstance(self.units, StochasticRounding):
            raise NotApplicableError(
                "`PathSampleAnalytic(quantiser=StochasticRounding)` must be one of logistic, "
                "hard_sigmoid, triangular: its probabilities depend on the other examples"
            )
        segments, levels = segments_of(task.model, levels_of)
        layers = [_linear(segment) for segment in segments[1:-1]]
        rule = SampledPass(self.units, generator)
        losses = drawn(task, batch, rule)
        low, high = levels[-1]
        with torch.no_grad():
            inputs = low + (high - low) * (rule.values[-1] + 1) / 2
            effects = []
            for unit in range(inputs.shape[1]):
                flipped = inputs.clone()
                flipped[:, unit] = low + high - inputs[:, unit]
                of_flipped = losses_of_examples(task.loss, segments[-1](flipped), batch.targets)
                effects.append(of_flipped - losses)
            effect = torch.stack(effects, 1)
            weights: list[Tensor] = []
            for place in reversed(range(len(rule.a))):
                a, signed = rule.a[place].detach(), effect * -rule.values[place]
                weights.insert(0, signed * self.units.slope(a))
                if place:
                    low, high = levels[place - 1]
                    by_flip = (high - low) * rule.values[place - 1]
                    effect = self._carried(a, signed, layers[place - 1].weight, by_flip)
        return gradient_of(with_scores(losses, rule, weights), task.model)

    def _carried(self, a: Tensor, signed: Tensor, weight: Tensor, by_flip: Tensor) -> Tensor:
        """Return the effect of a flip of each unit below, (batch, below). a: (batch, units); signed:
        their own effects by P(+1); by_flip: by what each unit below falls as it flips."""
        p = self.units.probability(a)
        columns = []
        for unit in range(weight.shape[1]):
            after = self.units.probability(a - by_flip[:, unit, None] * weight[:, unit])
            columns.append((signed * (after - p)).sum(1))
        return torch.stack(columns, 1)


def _linear(segment: nn.Sequential) -> nn.Linear:
    """Return the one linear layer of a segment."""
    modules = list(segment)
    if len(modules) != 1 or type(modules[0]).forward is not nn.Linear.forward:
        names = ", ".join(type(module).__name__ for module in modules) or "nothing"
        raise NotApplicableError(f"between two activations stands {names}; it must be one Linear")
    (layer,) = modules
    assert isinstance(layer, nn.Linear)
    return layer
