"""Quantisers: how binary activations round forward."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

import torch
from torch import Tensor

from srste.networks.arguments import one_of, positive
from srste.randomness import Stream, uniform

if TYPE_CHECKING:
    from jaxtyping import Float


def sign(a: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """+1 where ``a >= 0``, -1 elsewhere; shape and dtype of ``a``. Note sign(0) = +1."""
    return _plus_minus(a >= 0, a.dtype)


def _plus_minus(up: Tensor, dtype: torch.dtype) -> Tensor:
    """+1 where ``up`` is true, -1 elsewhere; four times as fast as ``torch.where`` on a CPU."""
    return up.to(dtype).mul_(2).sub_(1)


class Quantiser(Protocol):
    """Forward: real pre-activations (batch, units, ...) to {-1, +1}, same shape, dtype and device.

    Anything else is refused as the network runs: loss curve, replay and held-out examples are of signs.
    """

    stochastic: bool

    def __call__(self, a: Float[Tensor, "*shape"], generator: Stream) -> Float[Tensor, "*shape"]: ...


class Sign:
    """The deterministic quantiser.

    Forward:   q(a) = +1 if a >= 0 else -1
    Properties: deterministic; draws nothing.
    References: Courbariaux et al. (2016), "Binarized neural networks", equation 1.
    """

    stochastic = False

    def __call__(self, a: Float[Tensor, "*shape"], generator: Stream) -> Float[Tensor, "*shape"]:
        return sign(a)


class StochasticUnits(ABC):
    """A quantiser that draws: +1 with a probability that its pre-activation sets.

    A network of such units is a stochastic one. Its loss is a mean over draws, which has a gradient, so
    that what an estimator is off by can be measured.
    """

    stochastic = True

    @abstractmethod
    def probability(self, a: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """P(s = +1 | a), in [0, 1], shape of ``a``."""

    @abstractmethod
    def slope(self, a: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """dP(s = +1 | a)/da, >= 0, shape of ``a``: the density of the noise that is added to it."""

    def __call__(self, a: Float[Tensor, "*shape"], generator: Stream) -> Float[Tensor, "*shape"]:
        u = uniform(generator, tuple(a.shape), a.device)
        return self.values(a, u)

    def values(self, a: Float[Tensor, "*shape"], u: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """+1 where the uniform number u is below P(s = +1 | a), else -1."""
        return _plus_minus(u < self.probability(a), a.dtype)


class StochasticRounding(StochasticUnits):
    """Rounds up with a probability that grows with the pre-activation.

    Forward:   s = a / max(A) if a > 0 else a / |min(A)|    in [-1, 1]
               p = (s + 1) / 2
               q(a) = sign(relaxed_bernoulli(p, tau) - 0.5) = +1 with probability p, else -1

    The relaxed Bernoulli is sigmoid((logit p + logit u) / tau) for a uniform u. It is at least one
    half exactly where logit p + logit u >= 0, that is, where 1 - u <= p, whatever tau > 0: so tau
    has no effect on the result, and the rounding is computed from that inequality, free of
    overflow. ``tau`` stays an argument because the estimator was published with one.

    Args:
        tau: temperature, > 0. Does not change the result.
        scope: over what max(A) and min(A) are taken: "layer" (the whole batch and all units of the
            layer), "example" (each row) or "unit" (each column; of a convolution each channel).
    Raises: ValueError when an argument is out of range.
    Properties: stochastic; E[q(a)] = s, so unbiased for the *scaled* pre-activation; the largest
        positive and the most negative pre-activation of a scope are never rounded against their sign.
    References: Courbariaux et al. (2016), equation 2, for the stochastic sign with p by a hard
        sigmoid; Maddison et al. (2017), equation 2, and Jang et al. (2017) for the relaxed Bernoulli.
    """

    _SCOPES: ClassVar[dict[str, int | None]] = {"layer": None, "example": 0, "unit": 1}
    """Of each scope the dimension that is not reduced."""

    def __init__(self, tau: float = 1.0, scope: Literal["layer", "example", "unit"] = "layer"):
        self.tau = positive(self, "tau", tau)
        self.scope = one_of(self, "scope", scope, self._SCOPES)

    def probability(self, a: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """P(q(a) = +1), in [0, 1], shape of ``a`` (batch, units), or (batch, channels, ...)."""
        highest, lowest = self._extremes(a)
        # Where no pre-activation has that sign, nothing is divided by that (zero) extreme.
        scaled = torch.where(a > 0, a / highest, torch.where(a < 0, a / -lowest, a))
        return (scaled + 1) / 2

    def slope(self, a: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """1 / (2 max(A)) where a > 0, 1 / (2 |min(A)|) elsewhere, with the extremes taken for constants;
        zero where there is no pre-activation of that sign."""
        highest, lowest = self._extremes(a)
        scale = torch.where(a > 0, highest, -lowest)
        return torch.where(scale > 0, 0.5 / scale, 0.0)

    def _extremes(self, a: Tensor) -> tuple[Tensor, Tensor]:
        """Return max(A), at least zero, and min(A), at most zero."""
        dims = [dim for dim in range(a.ndim) if dim != self._SCOPES[self.scope]]
        return a.amax(dims, keepdim=True).clamp_min(0), a.amin(dims, keepdim=True).clamp_max(0)
