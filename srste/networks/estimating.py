"""Estimators' rules: forward quantisers and backward surrogates, as separate axes.

Inside ``with estimating(model, quantiser, surrogate, generator):`` every binary activation

    Forward:   b = quantiser(a)            in {-1, +1}
    Backward:  dL/da := dL/db * surrogate(a)

so any quantiser goes with any surrogate. Both are plain callables on tensors; a new one is a class
here or elsewhere and a YAML that names it. A surrogate may see more than the pre-activation: what was
drawn (:class:`srste.networks.draws.DrawSurrogate`), or the incoming gradient
(:class:`srste.networks.surrogates.GradientSurrogate`).
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from srste.networks.activations import acting
from srste.networks.draws import Draw, DrawSurrogate
from srste.networks.rounding import Quantiser, StochasticUnits
from srste.networks.surrogates import GradientSurrogate, Surrogate
from srste.randomness import Stream

AnySurrogate = Surrogate | DrawSurrogate | GradientSurrogate


class _Replaced(torch.autograd.Function):
    """Forward: the given values. Backward: the gradient times the given slope."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, values: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(slope)
        return values

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (slope,) = ctx.saved_tensors
        return gradients[0] * slope, None, None


class _Corrected(torch.autograd.Function):
    """Forward: the given values. Backward: what a surrogate makes of the gradient."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, values: Tensor, surrogate: GradientSurrogate) -> Tensor:
        ctx.save_for_backward(a, values)
        ctx.surrogate = surrogate
        return values

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        a, values = ctx.saved_tensors
        corrected = ctx.surrogate(a, values, gradients[0])
        _check_like("surrogate", ctx.surrogate, corrected, a, 0)
        return corrected, None, None


def replaced(a: Tensor, values: Tensor, slope: Tensor) -> Tensor:
    """``values``, through which gradients go back to ``a`` multiplied by ``slope``; all of a shape."""
    result: Tensor = _Replaced.apply(a, values, slope)  # type: ignore[no-untyped-call]
    return result


_GIVES = {
    "quantiser": "it must give -1 or +1 for each pre-activation",
    "surrogate": "it must give a slope for each pre-activation",
}


def _refused(axis: str, rule: Quantiser | AnySurrogate, did: str) -> ValueError:
    """What is said of a rule that does not keep to what a curve of signs takes for granted."""
    plain = getattr(rule, "func", rule)  # what is called, of a functools.partial
    name = getattr(plain, "__name__", type(plain).__name__)
    return ValueError(f"the {axis} `{name}` {did}; {_GIVES[axis]}, of the same shape and dtype")


def _check_like(axis: str, rule: Quantiser | AnySurrogate, result: Any, a: Tensor, written: int) -> None:
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


class Rounded:
    """The rule of a quantiser and a surrogate.

    Raises: ValueError, when it is applied, that names the quantiser or the surrogate which gives
        something else than a sign, or a slope, for each pre-activation.
    """

    def __init__(self, quantiser: Quantiser, surrogate: AnySurrogate, generator: Stream) -> None:
        self._quantiser, self._surrogate, self._generator = quantiser, surrogate, generator

    def __call__(self, a: Tensor) -> Tensor:
        """-1 or +1 for each of the pre-activations (batch, ...)."""
        detached, version = a.detach(), a._version
        surrogate: Any = self._surrogate
        seen: Tensor | Draw = detached
        if isinstance(surrogate, DrawSurrogate):
            seen = Draw.of(self._quantiser, detached, self._generator)
            quantised = seen.values
        else:
            quantised = self._quantiser(detached, self._generator)
        _check_like("quantiser", self._quantiser, quantised, a, a._version - version)
        if not _is_plus_minus(quantised):
            raise _refused("quantiser", self._quantiser, f"gave {_values(quantised)}")
        if isinstance(surrogate, GradientSurrogate):
            corrected: Tensor = _Corrected.apply(a, quantised, surrogate)  # type: ignore[no-untyped-call]
            return corrected
        slope = surrogate(seen)
        _check_like("surrogate", surrogate, slope, a, a._version - version)
        return replaced(a, quantised, slope)


class Relaxed:
    """The rule of mean field: every unit gives its mean, by its true derivative.

    Forward:   m = 2 P(s = +1 | a) - 1     in [-1, 1]
    Backward:  dm/da = 2 dP/da
    """

    def __init__(self, units: StochasticUnits) -> None:
        self._units = units

    def __call__(self, a: Tensor) -> Tensor:
        """The means of the units with these pre-activations (batch, ...)."""
        detached = a.detach()
        return replaced(a, 2 * self._units.probability(detached) - 1, 2 * self._units.slope(detached))


def estimating(
    model: nn.Module, quantiser: Quantiser, surrogate: AnySurrogate, generator: Stream
) -> AbstractContextManager[None]:
    """A context in which every binary activation of ``model`` rounds and differentiates by these rules,
    see :func:`srste.networks.activations.acting`.

    Raises: ValueError for a model without any.
    """
    return acting(model, Rounded(quantiser, surrogate, generator))
