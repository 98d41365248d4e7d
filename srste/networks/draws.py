"""Surrogates of stochastic units, which see what was drawn."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from srste.errors import NotApplicableError
from srste.networks.arguments import integer, positive
from srste.networks.rounding import Quantiser, StochasticUnits
from srste.networks.units import Logistic
from srste.randomness import Stream, uniform

if TYPE_CHECKING:
    from jaxtyping import Float


@dataclass(frozen=True)
class Draw:
    """What was drawn at one activation.

    units: that drew. a: their pre-activations. u: the uniform numbers that they were compared with.
    values: -1 or +1. generator: for more draws. All tensors are of a shape.
    """

    units: StochasticUnits
    a: Tensor
    u: Tensor
    values: Tensor
    generator: Stream

    @classmethod
    def of(cls, units: Quantiser, a: Tensor, generator: Stream) -> Draw:
        """Draw. Raises: ValueError for a quantiser without probabilities."""
        if not isinstance(units, StochasticUnits):
            raise NotApplicableError(
                f"the quantiser `{type(units).__name__}` has no probabilities; it must be one of "
                "logistic, hard_sigmoid, triangular, stochastic_rounding"
            )
        u = uniform(generator, tuple(a.shape), a.device)
        return cls(units, a, u, units.values(a, u), generator)


class DrawSurrogate(ABC):
    """Backward: the slope in place of sign's, from what was drawn. For stochastic units only."""

    @abstractmethod
    def __call__(self, draw: Draw) -> Tensor:
        """ds/da, shape of the pre-activations."""


class Matched(DrawSurrogate):
    """The straight-through estimator of the stochastic unit itself: the slope of its mean.

    Backward:  dq/da := 2 dp/da
    Properties: biased for the gradient of the stochastic network, but where the loss is linear in every
        unit; of little variance.
    References: Bengio et al. (2013), section 4; Shekhovtsov and Yanush (2021), "Reintroducing
        straight-through estimators as principled methods for stochastic binary networks".
    """

    def __call__(self, draw: Draw) -> Float[Tensor, "*shape"]:
        return 2 * draw.units.slope(draw.a)


class ReinMax(DrawSurrogate):
    """Each unit's draw weighted by the inverse of its probability: exact for one unit's quadratic loss.

    Backward:  dq/da := (dp/da) / max(P(q), floor)                     tau = 1
               dq/da := 4 pi (1 - pi) - p (1 - p)  with                tau > 1, logistic units
               pi = (sigmoid(a / tau) + b) / 2, b = (q + 1) / 2
    Args:
        tau: temperature, >= 1; more than 1 trades bias for variance, for logistic units of scale 1.
        floor: in [0, 1): the least probability that is divided by. Units with linear probabilities have
            slopes without bound near their extremes; zero leaves the weights as they are.
    Raises: ValueError when an argument is out of range, or tau > 1 comes with other units.
    Properties: for tau = 1 and no floor unbiased for the gradient of the stochastic network where the
        loss is quadratic and there is one layer of units; its weights, which differ from unit to unit
        and from draw to draw, cost variance.
    References: Liu et al. (2023), "Bridging discrete and backpropagation: straight-through and beyond",
        and its public code, for two classes; with tau = 1 the ZGR of Shekhovtsov (2023), "Cold analysis
        of Rao-Blackwellized straight-through Gumbel-softmax gradient estimator".
    """

    def __init__(self, tau: float = 1.0, floor: float = 0.0) -> None:
        self.tau = positive(self, "tau", tau)
        if self.tau < 1:
            raise ValueError(f"`ReinMax(tau={tau})` must be >= 1")
        if isinstance(floor, bool) or not 0 <= floor < 1:
            raise ValueError(f"`ReinMax(floor={floor})` must be >= 0 and < 1")
        self.floor = float(floor)

    def __call__(self, draw: Draw) -> Float[Tensor, "*shape"]:
        p = draw.units.probability(draw.a)
        if self.tau == 1:
            drawn = torch.where(draw.values > 0, p, 1 - p)
            slope = draw.units.slope(draw.a)
            # Where a probability is zero, so is the slope, or nothing is drawn there.
            return torch.where(slope > 0, slope / drawn.clamp_min(max(self.floor, _LEAST)), 0.0)
        if not isinstance(draw.units, Logistic) or draw.units.scale != 1:
            raise NotApplicableError(
                f"`ReinMax(tau={self.tau:g})` must be 1 with `{type(draw.units).__name__}`: other "
                "temperatures are for logistic units of scale 1"
            )
        pi = (torch.sigmoid(draw.a / self.tau) + (draw.values + 1) / 2) / 2
        return 4 * pi * (1 - pi) - p * (1 - p)


_LEAST = 1e-30
"""A probability below which nothing is drawn."""


class GumbelST(DrawSurrogate):
    """Straight-through Gumbel-softmax of a binary unit: the slope of a relaxed unit at the noise drawn.

    Forward:   y = sigmoid((a + n) / tau), n logistic;  q(a) = +1 if y > 1/2 else -1
    Backward:  dq/da := 2 y (1 - y) / tau
    Args: tau: temperature, > 0: less bias and more variance, about as 1/tau, as it falls.
    Raises: ValueError: `GumbelST(tau=...)` must be > 0; for other units than logistic ones of scale 1.
    Properties: biased for the gradient of the stochastic network, the less and the more variable the
        smaller tau is.
    References: Jang et al. (2017), section 2.2; Maddison et al. (2017), equation 2.
    """

    def __init__(self, tau: float = 1.0) -> None:
        self.tau = positive(self, "tau", tau)

    def __call__(self, draw: Draw) -> Float[Tensor, "*shape"]:
        return self._relaxed(draw, draw.u)

    def _relaxed(self, draw: Draw, u: Tensor) -> Tensor:
        if not isinstance(draw.units, Logistic) or draw.units.scale != 1:
            raise NotApplicableError(
                f"`{type(self).__name__}` needs logistic units of scale 1, not "
                f"`{type(draw.units).__name__}`"
            )
        # u < sigmoid(a) exactly where a + n > 0 with n = -logit(u).
        x = (draw.a - torch.logit(u.to(draw.a.dtype), eps=_EDGE)) / self.tau
        return 2 * torch.sigmoid(x) * torch.sigmoid(-x) / self.tau


_EDGE = 1e-7
"""Uniform numbers are kept that far from 0 and 1, whose logits are infinite."""


class GumbelRao(GumbelST):
    """Straight-through Gumbel-softmax, Rao-Blackwellised: the mean over noises that give the same draw.

    Forward:   as `GumbelST`
    Backward:  dq/da := the mean of 2 y_k (1 - y_k) / tau over k = 1..draws noises given q
    Args: tau: temperature, > 0. draws: noises a unit, >= 1.
    Raises: ValueError when an argument is out of range; for other units than logistic ones of scale 1.
    Properties: the mean of Gumbel-ST, and less variance, at no further pass.
    References: Paulus et al. (2021), "Rao-Blackwellizing the straight-through Gumbel-softmax gradient
        estimator".
    """

    def __init__(self, tau: float = 1.0, draws: int = 10) -> None:
        super().__init__(tau)
        self.draws = integer(self, "draws", draws)

    def __call__(self, draw: Draw) -> Float[Tensor, "*shape"]:
        p = draw.units.probability(draw.a)
        total = torch.zeros_like(draw.a)
        for _ in range(self.draws):
            u = uniform(draw.generator, tuple(draw.a.shape), draw.a.device)
            total += self._relaxed(draw, torch.where(draw.values > 0, u * p, p + u * (1 - p)))
        return total / self.draws
