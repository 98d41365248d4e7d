"""Unbiased estimators by antithetic draws, layer by layer: ARM and DisARM."""

from abc import abstractmethod

import torch
from torch import Tensor, nn

from srste.estimators.base import Cost, Direction, gradient_of
from srste.estimators.sampled import SampledEstimator, SampledPass, drawn, per_example, with_scores
from srste.networks.activations import activations_of
from srste.problem.task import Batch, Task
from srste.randomness import Stream


class Antithetic(SampledEstimator):
    """What ARM and DisARM share: of each layer, the losses of two draws from mirrored uniform numbers,
    with the layers below as they were drawn, and the numbers above in common."""

    unbiased = True

    def cost(self, model: nn.Module, samples: int) -> Cost:
        """See :func:`srste.estimators.base.cost_of`."""
        return Cost(samples * (1 + len(activations_of(model))), samples)

    def _gradient(self, task: Task, batch: Batch, generator: Stream) -> Direction:
        rule = SampledPass(self.units, generator)
        losses = drawn(task, batch, rule)  # +1 where u < P: the second of the pair
        weights = []
        for place, a in enumerate(rule.a):
            p, u = rule.probability(place), rule.uniforms[place]
            mirrored = 2 * (u > 1 - p).to(a.dtype) - 1
            imposed = [*rule.values[:place], mirrored]
            with torch.no_grad():
                other = SampledPass(self.units, generator, rule.uniforms, imposed)
                gain = drawn(task, batch, other) - losses
            # By the logit of P, and from there by the pre-activation.
            slope = self.units.slope(a.detach())
            by_logit = torch.where(slope > 0, slope / (p * (1 - p)).clamp_min(1e-30), 0.0)
            weight = self._weight(u, p, mirrored, rule.values[place])
            weights.append(per_example(gain, a) * weight * by_logit)
        return gradient_of(with_scores(losses, rule, weights), task.model)

    @abstractmethod
    def _weight(self, u: Tensor, p: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """Return what (L1 - L2) is multiplied by for the gradient by a unit's logit. u: uniform numbers;
        p: P(+1); first, second: the pair, -1 or +1."""


class ARM(Antithetic):
    """Augment-REINFORCE-merge: the difference of two losses from mirrored uniform numbers.

    Forward:   of every layer, q1 = +1 if u > 1 - p and q2 = +1 if u < p, for the same u; L1 and L2 the
               losses of an example with them
    Direction: normalisation(aggregation(dL2/dw + sum over units (L1 - L2) (u - 1/2) d logit(p)/dw))

    Args:
        quantiser: stochastic units. aggregation, normalisation, draws: see `StraightThrough`.
    Raises: ValueError as `srste.estimators.sampled.SampledEstimator`.
    Properties: stochastic; unbiased for the gradient of the stochastic network; for each sample a
        forward-backward pass and a forward pass a layer.
    References: Yin and Zhou (2019), "ARM: augment-REINFORCE-merge gradient for stochastic binary
        networks".
    """

    def _weight(self, u: Tensor, p: Tensor, first: Tensor, second: Tensor) -> Tensor:
        return u - 0.5


class DisARM(Antithetic):
    """ARM averaged over all uniform numbers that give the same pair of draws; the same as U2G.

    Forward:   as `ARM`
    Direction: normalisation(aggregation(dL2/dw + sum over units with q1 != q2 of (L1 - L2)/2 (-q2)
               max(p, 1 - p) d logit(p)/dw))

    Args:
        quantiser: stochastic units. aggregation, normalisation, draws: see `StraightThrough`.
    Raises: ValueError as `srste.estimators.sampled.SampledEstimator`.
    Properties: stochastic; unbiased for the gradient of the stochastic network, of no more variance than
        ARM; for each sample a forward-backward pass and a forward pass a layer.
    References: Dong et al. (2020), "DisARM: an antithetic gradient estimator for binary latent
        variables"; Yin et al. (2020), "Probabilistic best subset selection via
        gradient-based optimization", for U2G.
    """

    def _weight(self, u: Tensor, p: Tensor, first: Tensor, second: Tensor) -> Tensor:
        return torch.where(first != second, -second * torch.maximum(p, 1 - p) / 2, 0.0)
