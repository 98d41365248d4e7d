"""Stochastic binary units: the sign of a pre-activation and noise of a distribution that is given."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from srste.networks.arguments import positive
from srste.networks.rounding import StochasticUnits

if TYPE_CHECKING:
    from jaxtyping import Float


class Logistic(StochasticUnits):
    """Units of a sigmoid belief network: the sign of a + logistic noise.

    Forward:   q(a) = +1 with probability p = sigmoid(a / scale), else -1
    Args: scale: of the noise, > 0.
    Raises: ValueError: `Logistic(scale=...)` must be > 0.
    References: Neal (1992), "Connectionist learning of belief networks"; Bengio et al.
        (2013), section 3.
    """

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = positive(self, "scale", scale)

    def probability(self, a: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return torch.sigmoid(a / self.scale)

    def slope(self, a: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        # p (1 - p) by two sigmoids: 1 - p would be zero where a is large.
        return torch.sigmoid(a / self.scale) * torch.sigmoid(-a / self.scale) / self.scale


class HardSigmoid(StochasticUnits):
    """The sign of a + uniform noise on [-width, width].

    Forward:   q(a) = +1 with probability p = clip((a / width + 1) / 2, 0, 1), else -1
    Args: width: half the interval, > 0.
    Raises: ValueError: `HardSigmoid(width=...)` must be > 0.
    References: Courbariaux et al. (2016), equations 2 and 3, with width = 1.
    """

    def __init__(self, width: float = 1.0) -> None:
        self.width = positive(self, "width", width)

    def probability(self, a: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return ((a / self.width + 1) / 2).clamp(0, 1)

    def slope(self, a: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return (a.abs() <= self.width).to(a.dtype) / (2 * self.width)


class Triangular(StochasticUnits):
    """The sign of a + noise of triangular density on [-1, 1].

    Forward:   q(a) = +1 with probability p = (1 + a)^2 / 2 if -1 <= a < 0, 1 - (1 - a)^2 / 2 if
               0 <= a <= 1, 0 or 1 beyond; else -1
    References: Liu et al. (2018), "Bi-Real Net", section 3.3, whose approximation of sign is 2 p - 1.
    """

    def probability(self, a: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        inside = a.clamp(-1, 1)
        return torch.where(inside < 0, (1 + inside) ** 2 / 2, 1 - (1 - inside) ** 2 / 2)

    def slope(self, a: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return (1 - a.abs()).clamp_min(0)
