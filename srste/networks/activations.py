"""Binary activations: forward quantisers and backward surrogates, as separate axes.

A network holds :class:`BinaryActivation` modules. Left alone they are the plain sign, with no useful
gradient. Inside ``with estimating(model, quantiser, surrogate, generator):`` every one of them

    Forward:   b = quantiser(a)            in {-1, +1}
    Backward:  dL/da := dL/db * surrogate(a)

so any quantiser goes with any surrogate. Both are plain callables on tensors; a new one is a class
here or elsewhere and a YAML that names it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from srste.networks.rounding import Quantiser, sign
from srste.networks.surrogates import Surrogate
from srste.randomness import Stream

if TYPE_CHECKING:
    from jaxtyping import Float


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

    def forward(self, a: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
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

    def forward(self, a: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
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
            "srste.convert(model) puts them in the place of modules that compute a sign, and "
            "a network without signs has nothing to estimate"
        )
    for activation, _ in before:
        activation._rule = (quantiser, surrogate, generator)
    try:
        yield
    finally:
        for activation, rule in before:
            activation._rule = rule
