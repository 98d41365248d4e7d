"""Surrogates: the derivatives that binary activations pretend to have backward."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from srste.networks.arguments import fraction, positive
from srste.networks.rounding import StochasticUnits
from srste.networks.units import HardSigmoid, Logistic, Triangular

if TYPE_CHECKING:
    from jaxtyping import Float


class Surrogate(Protocol):
    """Backward: the derivative in place of sign's, elementwise, same shape, dtype and device."""

    def __call__(self, a: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]: ...


class GradientSurrogate(ABC):
    """Backward: the gradient by a pre-activation, from that by its binary activation."""

    @abstractmethod
    def __call__(
        self,
        a: Float[Tensor, "*shape"],
        values: Float[Tensor, "*shape"],
        gradient: Float[Tensor, "*shape"],
    ) -> Float[Tensor, "*shape"]:
        """dL/da from a, q(a) and dL/dq, all of a shape."""


def matched_units(surrogate: object) -> StochasticUnits | None:
    """The stochastic units whose straight-through estimator has this surrogate's slope, up to a factor
    that is the same for every pre-activation: the bias of the surrogate means something for them. None
    where there are none, as for a slope that is negative in places, or has no finite integral.

    References: Shekhovtsov and Yanush (2021), "Reintroducing straight-through estimators as principled
        methods for stochastic binary networks".
    """
    return getattr(surrogate, "units", None)


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

    @property
    def units(self) -> StochasticUnits:
        """Those with uniform noise on [-c, c]."""
        return HardSigmoid(self.c)

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

    @property
    def units(self) -> StochasticUnits:
        """Those with logistic noise."""
        return Logistic(1 / (2 * self.beta))

    def __call__(self, a: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return self.beta * (1 - torch.tanh(self.beta * a) ** 2)


class ApproxSign:
    """The derivative of a piecewise quadratic approximation of sign (Bi-Real net).

    Backward:  dq/da := 2 - 2 |a| if |a| <= 1 else 0
    References: Liu et al. (2018), "Bi-Real Net", section 3.3.
    """

    units: StochasticUnits = Triangular()

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


class EDE:
    """The error decay estimator: from nearly the identity to nearly the slope of sign over a training.

    Backward:  dq/da := k t (1 - tanh(t a)^2), t = 10^(-3 + 4 progress), k = max(1/t, 1)
    Args: progress: of the training, in [0, 1].
    Raises: ValueError: `EDE(progress=...)` must be in [0, 1].
    References: Qin et al. (2020), "Forward and backward information retention for accurate binary neural
        networks" (IR-Net), and its public code, with t from 0.001 to 10.
    """

    def __init__(self, progress: float = 0.5):
        self.progress = fraction(self, "progress", progress)

    @property
    def sharpness(self) -> float:
        """t, in [0.001, 10]."""
        return float(10 ** (-3 + 4 * self.progress))

    @property
    def units(self) -> StochasticUnits:
        """Those with logistic noise."""
        return Logistic(1 / (2 * self.sharpness))

    def __call__(self, a: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        t = self.sharpness
        return max(1.0, t) * (1 - torch.tanh(t * a) ** 2)  # k t = max(1, t)


class ReSTE:
    """The rectified straight-through estimator: the slope of a power function, of growing power.

    Backward:  dq/da := (1/o) |a|^((1 - o)/o) if m < |a| <= t; m^(1/o) / m if |a| <= m; else 0,
               o = 1 + (o_end - 1) (1 - cos(pi progress / 2)), m = 0.1
    Args: progress: of the training, in [0, 1]. t: half-width, > 0.1. o_end: the power at the end, >= 1.
    Raises: ValueError when an argument is out of range.
    References: Wu et al. (2023), "Estimator meets equilibrium perspective: a rectified straight through
        estimator for binary neural networks training", and its public code.
    """

    _M = 0.1

    def __init__(self, progress: float = 0.5, t: float = 1.5, o_end: float = 3.0):
        self.progress = fraction(self, "progress", progress)
        self.t, self.o_end = positive(self, "t", t), positive(self, "o_end", o_end)
        if self.t <= self._M:
            raise ValueError(f"`ReSTE(t={t})` must be > {self._M}")
        if self.o_end < 1:
            raise ValueError(f"`ReSTE(o_end={o_end})` must be >= 1")

    @property
    def power(self) -> float:
        """o, in [1, o_end]."""
        return 1 + (self.o_end - 1) * (1 - math.cos(math.pi * self.progress / 2))

    def __call__(self, a: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        o, size = self.power, a.abs()
        slope = size.clamp_min(self._M) ** ((1 - o) / o) / o
        slope = torch.where(size <= self._M, self._M ** (1 / o) / self._M, slope)
        return torch.where(size <= self.t, slope, 0.0)


class Steep:
    """A steep slope on a narrow band round the threshold: of a {0, 1} unit 1[x >= 1/2], x = a + 1/2.

    Backward:  dq/da := 2 k if |a| <= 1/(2 k) else 0;  db/da = k there for b = (q + 1) / 2
    Args: k: slope, > 0, of the {0, 1} unit.
    Raises: ValueError: `Steep(k=...)` must be > 0.
    References: Kim et al. (2020), "BinaryDuo: reducing gradient mismatch in binary activation network by
        coupling binary activations".
    """

    def __init__(self, k: float = 2.0):
        self.k = positive(self, "k", k)

    @property
    def units(self) -> StochasticUnits:
        """Those with uniform noise on the band."""
        return HardSigmoid(1 / (2 * self.k))

    def __call__(self, a: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return 2 * self.k * (a.abs() <= 1 / (2 * self.k)).to(a.dtype)


class ReLU1(Steep):
    """The slope of a ReLU clipped at 1: of a {0, 1} unit 1[x >= 1/2], x = a + 1/2.

    Backward:  dq/da := 2 if |a| <= 1/2 else 0;  db/da = 1 on 0 <= x <= 1 for b = (q + 1) / 2
    References: Kim et al. (2020), "BinaryDuo".
    """

    def __init__(self) -> None:
        super().__init__(k=1.0)


class Polynomial:
    """A triangle of peak 2: of a {0, 1} unit 1[x >= 1/2], x = a + 1/2.

    Backward:  dq/da := 4 - 8 |a| if |a| <= 1/2 else 0;  db/da = 2 - 4 |x - 1/2| for b = (q + 1) / 2
    References: Kim et al. (2020), "BinaryDuo"; Liu et al. (2018), "Bi-Real Net", section 3.3.
    """

    def __call__(self, a: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return (4 - 8 * a.abs()).clamp_min(0)


class EWGS(GradientSurrogate):
    """Element-wise gradient scaling: larger where rounding went against the way the gradient points.

    Backward:  dL/da := g (1 + delta sign(g) (x - b)) if |a| <= 1 else 0, with g = dL/dq, and a and q as
               numbers from 0 to 1, x = (clip(a, -1, 1) + 1) / 2 and b = (q + 1) / 2
    Args: delta: scaling factor, >= 0.
    Raises: ValueError: `EWGS(delta=...)` must be >= 0.
    References: Lee et al. (2021), "Network quantization with element-wise gradient scaling", and its
        public code, where delta is 0.001 for binary weights and activations.
    """

    def __init__(self, delta: float = 0.001):
        if isinstance(delta, bool) or not 0 <= delta < math.inf:
            raise ValueError(f"`EWGS(delta={delta})` must be >= 0")
        self.delta = float(delta)

    def __call__(
        self,
        a: Float[Tensor, "*shape"],
        values: Float[Tensor, "*shape"],
        gradient: Float[Tensor, "*shape"],
    ) -> Float[Tensor, "*shape"]:
        off = (a.clamp(-1, 1) - values) / 2
        scaled = gradient * (1 + self.delta * gradient.sign() * off)
        return torch.where(a.abs() <= 1, scaled, 0.0)
