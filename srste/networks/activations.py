"""Binary activations: modules that give a sign, or whatever an estimator gives in its place.

A network holds :class:`BinaryActivation` modules. Left alone they are the plain sign, with no useful
gradient. Inside ``with acting(model, rule):`` every one of them gives ``rule(a)``: see
`srste.networks.estimating` for rules of a quantiser forward and a surrogate backward.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor, nn

from srste.networks.rounding import sign

if TYPE_CHECKING:
    from jaxtyping import Float

Rule = Callable[[Tensor], Tensor]
"""From the pre-activations (batch, ...) of one activation, with their graph, to what it gives in the
place of their signs: the same shape, dtype and device."""


class BinaryActivation(nn.Module):
    """sign(a), with sign(0) = +1, unless an estimator acts on it, within :func:`acting`.

    Shape: (batch, ...) to the same, values in {-1, +1}. Without an estimator it has no gradient.
    References: Courbariaux et al. (2016), "Binarized neural networks", equation 1.

    >>> import torch, srste
    >>> srste.BinaryActivation()(torch.tensor([-0.2, 0.0, 3.0]))
    tensor([-1.,  1.,  1.])
    """

    levels: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    """What it gives below zero, and from zero on."""

    def __init__(self) -> None:
        super().__init__()
        self._rule: Rule | None = None

    def forward(self, a: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return sign(a) if self._rule is None else self._rule(a)


class BinaryStep(BinaryActivation):
    """The step function: 1 where a >= 0, 0 elsewhere, unless inside :func:`acting`.

    Forward:   b = (q(a) + 1) / 2     in {0, 1}
    Backward:  dL/da := dL/db * surrogate(a) / 2

    Shape: (batch, ...) to the same, values in {0, 1}.

    >>> import torch, srste
    >>> srste.BinaryStep()(torch.tensor([-0.2, 0.0, 3.0]))
    tensor([0., 1., 1.])
    """

    levels: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def forward(self, a: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return (super().forward(a) + 1) / 2


def levels_of(module: nn.Module) -> tuple[float, float] | None:
    """The two values that a module gives below zero and from zero on; None if its forward is not that of
    a binary activation of this module, or within :func:`acting`, where it may give anything."""
    if getattr(module, "_rule", None) is not None:
        return None
    for kind in (BinaryActivation, BinaryStep):
        if type(module).forward is kind.forward:
            return kind.levels
    return None


def activations_of(model: nn.Module) -> list[BinaryActivation]:
    """The binary activations of a model. Raises: ValueError for a model without any."""
    activations = [module for module in model.modules() if isinstance(module, BinaryActivation)]
    if not activations:
        raise ValueError(
            "the model has no srste.BinaryActivation or BinaryStep for an estimator to act on; "
            "srste.convert(model) puts them in the place of modules that compute a sign, and "
            "a network without signs has nothing to estimate"
        )
    return activations


@contextmanager
def acting(model: nn.Module, rule: Rule) -> Iterator[None]:
    """Within it, every binary activation of ``model`` gives what this rule gives; after it, also after
    an error, what the rule of before gives, so that one may stand within another.

    Raises: ValueError for a model without any.
    """
    before = [(activation, activation._rule) for activation in activations_of(model)]
    for activation, _ in before:
        activation._rule = rule
    try:
        yield
    finally:
        for activation, earlier in before:
            activation._rule = earlier
