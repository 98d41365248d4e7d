"""Unbiased estimators by the score function: REINFORCE, and leave-one-out pairs."""

from torch import nn

from srste.estimators.base import Cost, Direction, gradient_of
from srste.estimators.sampled import SampledEstimator, SampledPass, drawn, per_example, with_scores
from srste.problem.task import Batch, Task
from srste.randomness import Stream


class Reinforce(SampledEstimator):
    """The score-function estimator: draws that turned out well are made more probable.

    Forward:   q(a) drawn in every activation; L the loss of an example
    Direction: normalisation(aggregation(dL/dw + L sum over units d log P(q | a)/dw))

    Args:
        quantiser: stochastic units. aggregation, normalisation, draws: see `StraightThrough`.
    Raises: ValueError as `srste.estimators.sampled.SampledEstimator`.
    Properties: stochastic; unbiased for the gradient of the stochastic network, of large variance; N
        forward-backward passes.
    References: Williams (1992), "Simple statistical gradient-following algorithms for connectionist
        reinforcement learning".
    """

    unbiased = True

    def cost(self, model: nn.Module, samples: int) -> Cost:
        """See :func:`srste.estimators.base.cost_of`."""
        return Cost(samples, samples)

    def _gradient(self, task: Task, batch: Batch, generator: Stream) -> Direction:
        rule = SampledPass(self.units, generator)
        losses = drawn(task, batch, rule)
        weights = [per_example(losses, a) * rule.score(place) for place, a in enumerate(rule.a)]
        return gradient_of(with_scores(losses, rule, weights), task.model)


class LeaveOneOut(SampledEstimator):
    """The score-function estimator of pairs of draws, each the other's baseline.

    Forward:   q(a) drawn twice, independently, in every activation; L1 and L2 the losses of an example
    Direction: normalisation(aggregation((dL1/dw + dL2/dw) / 2 + (L1 - L2)/2 sum over units
               (d log P(q1 | a1)/dw - d log P(q2 | a2)/dw)))

    Args:
        quantiser: stochastic units. aggregation, normalisation, draws: see `StraightThrough`.
    Raises: ValueError as `srste.estimators.sampled.SampledEstimator`.
    Properties: stochastic; unbiased for the gradient of the stochastic network; 2 N forward-backward
        passes.
    References: Kool et al. (2019), "Buy 4 REINFORCE samples, get a baseline for free!", with two draws.
    """

    unbiased = True

    def cost(self, model: nn.Module, samples: int) -> Cost:
        """See :func:`srste.estimators.base.cost_of`."""
        return Cost(2 * samples, 2 * samples)

    def _gradient(self, task: Task, batch: Batch, generator: Stream) -> Direction:
        rules = [SampledPass(self.units, generator) for _ in range(2)]
        losses = [drawn(task, batch, rule) for rule in rules]
        gain = (losses[0] - losses[1]).detach()
        gradients = [
            gradient_of(
                with_scores(
                    of, rule, [sign * per_example(gain, a) * rule.score(i) for i, a in enumerate(rule.a)]
                ),
                task.model,
            )
            for of, rule, sign in zip(losses, rules, (1, -1), strict=True)
        ]
        return {name: (g + gradients[1][name]) / 2 for name, g in gradients[0].items()}
