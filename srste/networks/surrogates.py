"""Surrogates: the derivatives that binary activations pretend to have backward."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from srste.networks.arguments import positive

if TYPE_CHECKING:
    from jaxtyping import Float


class Surrogate(Protocol):
    """Backward: the derivative in place of sign's, elementwise, same shape, dtype and device."""

    def __call__(self, a: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]: ...


class Identity:
    """The original straight-through derivative.

    Backward:  dq/da := 1
    References: Hinton (2012), Coursera lecture 15b; Bengio et al. (2013), section 4.
    """

    def __call__(self, a: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return torch.ones_like(a)


class Clipped:
    """The straight-through derivative, cancelled where the unit is saturated (hard tanh).

    Backward:  dq/da := 1 if |a| <= c else 0
    Args: c: half-width, > 0.
    Raises: ValueError: `Clipped(c=...)` must be > 0.
    References: Courbariaux et al. (2016), equation 4, with c = 1.
    """

    def __init__(self, c: float = 1.0):
        self.c = positive(self, "c", c)

    def __call__(self, a: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return (a.abs() <= self.c).to(a.dtype)


class Tanh:
    """The derivative of tanh(beta a).

    Backward:  dq/da := beta (1 - tanh(beta a)^2)
    Args: beta: sharpness, > 0.
    Raises: ValueError: `Tanh(beta=...)` must be > 0.
    References: Gong et al. (2019), "Differentiable soft quantization", section 3.2, for one interval.
    """

    def __init__(self, beta: float = 1.0):
        self.beta = positive(self, "beta", beta)

    def __call__(self, a: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return self.beta * (1 - torch.tanh(self.beta * a) ** 2)


class ApproxSign:
    """The derivative of a piecewise quadratic approximation of sign (Bi-Real net).

    Backward:  dq/da := 2 - 2 |a| if |a| <= 1 else 0
    References: Liu et al. (2018), "Bi-Real Net", section 3.3.
    """

    def __call__(self, a: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return (2 - 2 * a.abs()).clamp_min(0)


class SwishSign:
    """The derivative of SignSwish.

    Backward:  dq/da := beta (2 - beta a tanh(beta a / 2)) / (1 + cosh(beta a))
    Args: beta: sharpness, > 0.
    Raises: ValueError: `SwishSign(beta=...)` must be > 0.
    References: Darabi et al. (2018), "Regularized binary network training", section 3.
    """

    def __init__(self, beta: float = 5.0):
        self.beta = positive(self, "beta", beta)

    def __call__(self, a: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        z = (self.beta * a).clamp(-80, 80)  # beyond, the slope is below 1e-32 and cosh overflows
        return self.beta * (2 - z * torch.tanh(z / 2)) / (1 + torch.cosh(z))
