"""Binary activations: forward quantisers and backward surrogates, as separate axes.

A network holds :class:`BinaryActivation` modules. Left alone they are the plain sign, with no useful
gradient. Inside ``with estimating(model, quantiser, surrogate, generator):`` every one of them

    Forward:   b = quantiser(a)            in {-1, +1}
    Backward:  dL/da := dL/db * surrogate(a)

so any quantiser goes with any surrogate. Both are plain callables on tensors; a new one is a class
here or elsewhere and a YAML that names it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Literal, Protocol

import torch
from torch import Tensor, nn

from srste.randomness import Stream, uniform


def sign(a: Tensor) -> Tensor:
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

    def __call__(self, a: Tensor, generator: Stream) -> Tensor: ...


class Surrogate(Protocol):
    """Backward: the derivative in place of sign's, elementwise, same shape, dtype and device."""

    def __call__(self, a: Tensor) -> Tensor: ...


def _positive(owner: object, name: str, value: float) -> float:
    """The value, if it is a finite number > 0."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (number and 0 < value < math.inf):
        raise ValueError(f"`{type(owner).__name__}({name}={value})` must be > 0")
    return float(value)


class Sign:
    """The deterministic quantiser.

    Forward:   q(a) = +1 if a >= 0 else -1
    Properties: deterministic; draws nothing.
    References: Courbariaux et al. (2016), "Binarized neural networks", equation 1.
    """

    stochastic = False

    def __call__(self, a: Tensor, generator: Stream) -> Tensor:
        return sign(a)


class StochasticRounding:
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

    stochastic = True
    _SCOPES = ("layer", "example", "unit")

    def __init__(self, tau: float = 1.0, scope: Literal["layer", "example", "unit"] = "layer"):
        if scope not in self._SCOPES:
            allowed = ", ".join(self._SCOPES)
            raise ValueError(f"`StochasticRounding(scope={scope})` must be one of {allowed}")
        self.tau = _positive(self, "tau", tau)
        self.scope = scope

    def probability(self, a: Tensor) -> Tensor:
        """P(q(a) = +1), in [0, 1], shape of ``a`` (batch, units), or (batch, channels, ...)."""
        every = range(a.ndim)
        dims = [d for d in every if d != {"layer": None, "example": 0, "unit": 1}[self.scope]]
        highest = a.amax(dims, keepdim=True).clamp_min(0)
        lowest = a.amin(dims, keepdim=True).clamp_max(0)
        # Where no pre-activation has that sign, nothing is divided by that (zero) extreme.
        scaled = torch.where(a > 0, a / highest, torch.where(a < 0, a / -lowest, a))
        return (scaled + 1) / 2

    def __call__(self, a: Tensor, generator: Stream) -> Tensor:
        u = uniform(generator, tuple(a.shape), a.device)
        return _plus_minus(u < self.probability(a), a.dtype)


class Identity:
    """The original straight-through derivative.

    Backward:  dq/da := 1
    References: Hinton (2012), Coursera lecture 15b; Bengio et al. (2013), section 4.
    """

    def __call__(self, a: Tensor) -> Tensor:
        return torch.ones_like(a)


class Clipped:
    """The straight-through derivative, cancelled where the unit is saturated (hard tanh).

    Backward:  dq/da := 1 if |a| <= c else 0
    Args: c: half-width, > 0.
    Raises: ValueError: `Clipped(c=...)` must be > 0.
    References: Courbariaux et al. (2016), equation 4, with c = 1.
    """

    def __init__(self, c: float = 1.0):
        self.c = _positive(self, "c", c)

    def __call__(self, a: Tensor) -> Tensor:
        return (a.abs() <= self.c).to(a.dtype)


class Tanh:
    """The derivative of tanh(beta a).

    Backward:  dq/da := beta (1 - tanh(beta a)^2)
    Args: beta: sharpness, > 0.
    Raises: ValueError: `Tanh(beta=...)` must be > 0.
    References: Gong et al. (2019), "Differentiable soft quantization", section 3.2, for one interval.
    """

    def __init__(self, beta: float = 1.0):
        self.beta = _positive(self, "beta", beta)

    def __call__(self, a: Tensor) -> Tensor:
        return self.beta * (1 - torch.tanh(self.beta * a) ** 2)


class ApproxSign:
    """The derivative of a piecewise quadratic approximation of sign (Bi-Real net).

    Backward:  dq/da := 2 - 2 |a| if |a| <= 1 else 0
    References: Liu et al. (2018), "Bi-Real Net", section 3.3.
    """

    def __call__(self, a: Tensor) -> Tensor:
        return (2 - 2 * a.abs()).clamp_min(0)


class SwishSign:
    """The derivative of SignSwish.

    Backward:  dq/da := beta (2 - beta a tanh(beta a / 2)) / (1 + cosh(beta a))
    Args: beta: sharpness, > 0.
    Raises: ValueError: `SwishSign(beta=...)` must be > 0.
    References: Darabi et al. (2018), "Regularized binary network training", section 3.
    """

    def __init__(self, beta: float = 5.0):
        self.beta = _positive(self, "beta", beta)

    def __call__(self, a: Tensor) -> Tensor:
        z = (self.beta * a).clamp(-80, 80)  # beyond, the slope is below 1e-32 and cosh overflows
        return self.beta * (2 - z * torch.tanh(z / 2)) / (1 + torch.cosh(z))


class _Replaced(torch.autograd.Function):
    """Forward: the given binary values. Backward: the gradient times the given slope."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, binary: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(slope)
        return binary

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (slope,) = ctx.saved_tensors
        return gradients[0] * slope, None, None


_GIVES = {
    "quantiser": "it must give -1 or +1 for each pre-activation",
    "surrogate": "it must give a slope for each pre-activation",
}


def _refused(axis: str, rule: Quantiser | Surrogate, did: str) -> ValueError:
    """What is said of a rule that does not keep to what a curve of signs takes for granted."""
    plain = getattr(rule, "func", rule)  # what is called, of a functools.partial
    name = getattr(plain, "__name__", type(plain).__name__)
    return ValueError(f"the {axis} `{name}` {did}; {_GIVES[axis]}, of the same shape and dtype")


def _check_like(axis: str, rule: Quantiser | Surrogate, result: Any, a: Tensor, written: int) -> None:
    """Raises: ValueError if a rule's result is no tensor like the pre-activations, or these were written
    (``written`` times)."""
    if written:
        raise _refused(axis, rule, "wrote into the pre-activations that it was given")
    if not isinstance(result, Tensor):
        raise _refused(axis, rule, f"gave a {type(result).__name__}")
    if (result.shape, result.dtype, result.device) != (a.shape, a.dtype, a.device):
        given, wanted = (
            f"{str(t.dtype).removeprefix('torch.')} {tuple(t.shape)}"
            + (f" on {t.device}" if result.device != a.device else "")
            for t in (result, a)
        )
        raise _refused(axis, rule, f"gave {given} for {wanted}")


def _is_plus_minus(quantised: Tensor) -> bool:
    """Whether all of it is -1 or +1. By the extremes, which cost a sixth of a comparison; nan is one."""
    if not quantised.numel():
        return True
    lowest, highest = quantised.abs().aminmax()
    return float(lowest) == 1 == float(highest)


def _values(quantised: Tensor) -> str:
    """Those that a quantiser gave, if they are few, and of many three that are neither -1 nor +1."""
    if quantised.isnan().any():
        return "nan"
    values: Tensor = torch.unique(quantised) + 0.0  # no -0.0
    if len(values) <= 3:
        return ", ".join(map(str, values.tolist()))
    return ", ".join([*map(str, values[values.abs() != 1][:3].tolist()), "..."])


class BinaryActivation(nn.Module):
    """sign(a), with sign(0) = +1, unless an estimator acts on it, within :func:`estimating`.

    Shape: (batch, ...) to the same, values in {-1, +1}. Without an estimator it has no gradient.
    Raises: ValueError, within it, that names the quantiser or the surrogate which gives something else.
    References: Courbariaux et al. (2016), "Binarized neural networks", equation 1.

    >>> import torch, srste
    >>> srste.BinaryActivation()(torch.tensor([-0.2, 0.0, 3.0]))
    tensor([-1.,  1.,  1.])
    """

    levels: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    """What it gives below zero, and from zero on."""

    def __init__(self) -> None:
        super().__init__()
        self._rule: tuple[Quantiser, Surrogate, Stream] | None = None

    def forward(self, a: Tensor) -> Tensor:
        if self._rule is None:
            return sign(a)
        quantiser, surrogate, generator = self._rule
        detached, version = a.detach(), a._version
        quantised = quantiser(detached, generator)
        _check_like("quantiser", quantiser, quantised, a, a._version - version)
        if not _is_plus_minus(quantised):
            raise _refused("quantiser", quantiser, f"gave {_values(quantised)}")
        slope = surrogate(detached)
        _check_like("surrogate", surrogate, slope, a, a._version - version)
        binary: Tensor = _Replaced.apply(a, quantised, slope)  # type: ignore[no-untyped-call]
        return binary


class BinaryStep(BinaryActivation):
    """The step function: 1 where a >= 0, 0 elsewhere, unless inside :func:`estimating`.

    Forward:   b = (q(a) + 1) / 2     in {0, 1}
    Backward:  dL/da := dL/db * surrogate(a) / 2

    Shape: (batch, ...) to the same, values in {0, 1}. Raises: as :class:`BinaryActivation`.

    >>> import torch, srste
    >>> srste.BinaryStep()(torch.tensor([-0.2, 0.0, 3.0]))
    tensor([0., 1., 1.])
    """

    levels: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def forward(self, a: Tensor) -> Tensor:
        return (super().forward(a) + 1) / 2


def levels_of(module: nn.Module) -> tuple[float, float] | None:
    """The two values that a module gives below zero and from zero on; None if its forward is not that of
    a binary activation of this module, or within :func:`estimating`, where it may give either."""
    if getattr(module, "_rule", None) is not None:
        return None
    for kind in (BinaryActivation, BinaryStep):
        if type(module).forward is kind.forward:
            return kind.levels
    return None


@contextmanager
def estimating(
    model: nn.Module, quantiser: Quantiser, surrogate: Surrogate, generator: Stream
) -> Iterator[None]:
    """Within it, every binary activation of ``model`` rounds and differentiates by these rules; after
    it, also after an error, by those of before, so that one may stand within another.

    Raises: ValueError for a model without any.
    """
    before = [(m, m._rule) for m in model.modules() if isinstance(m, BinaryActivation)]
    if not before:
        raise ValueError(
            "the model has no srste.BinaryActivation or BinaryStep for an estimator to act on; "
            "srste.convert(model) puts them in the place of modules that compute a sign"
        )
    for activation, _ in before:
        activation._rule = (quantiser, surrogate, generator)
    try:
        yield
    finally:
        for activation, rule in before:
            activation._rule = rule
