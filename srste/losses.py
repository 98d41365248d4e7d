"""The losses whose decrease is measured, and what a teacher's outputs are as targets of each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

LossFunction = Callable[[Tensor, Tensor], Tensor]
"""(outputs, targets) to a scalar tensor, the mean over the batch."""


class Loss(Protocol):
    """A loss."""

    @property
    def form(self) -> str:
        """What the loss curve knows of it: "squared", "absolute", "logistic" or "cross-entropy"; "" for
        a loss without an exact form, which is evaluated by real forward passes."""
        ...

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The mean over the batch, a scalar tensor."""
        ...

    def targets(self, outputs: Tensor) -> Tensor:
        """The targets that a teacher with these outputs (batch, out) sets.

        Raises: ValueError where it cannot set any.
        """
        ...


def form_of(loss: LossFunction) -> str:
    """The form of a loss; "" for a callable that states none, and for one of a class that puts another
    ``__call__`` in the place of that whose form is stated."""
    for kind in type(loss).__mro__:
        if "form" in vars(kind):
            form: str = loss.form  # type: ignore[attr-defined]
            return form
        if "__call__" in vars(kind):
            break
    return ""


class SquaredError:
    """Mean over examples and outputs of (output - target)^2; targets are real, shape of the outputs."""

    form = "squared"

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return ((outputs - targets) ** 2).mean()

    def targets(self, outputs: Tensor) -> Tensor:
        return outputs


class AbsoluteError:
    """Mean over examples and outputs of |output - target|; targets are real, shape of the outputs."""

    form = "absolute"

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - targets).abs().mean()

    def targets(self, outputs: Tensor) -> Tensor:
        return outputs


class Logistic:
    """Mean over examples and outputs of log(1 + exp(-target output)); targets are -1 or +1, shape of the
    outputs. The teacher's are the signs of its outputs, sign(0) = +1.

    References: Cox (1958), "The regression analysis of binary sequences".
    """

    form = "logistic"

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        margins = targets * outputs
        return torch.logaddexp(torch.zeros_like(margins), -margins).mean()

    def targets(self, outputs: Tensor) -> Tensor:
        return torch.where(outputs >= 0, 1.0, -1.0).to(outputs.dtype)


class CrossEntropy:
    """Mean over examples of -log softmax(outputs)[target]; targets are classes, (batch,) integers. The
    teacher's is its largest output, of several the first. Raises: ValueError with fewer than two."""

    form = "cross-entropy"

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(outputs, targets)

    def targets(self, outputs: Tensor) -> Tensor:
        if outputs.ndim != 2 or outputs.shape[1] < 2:
            shape = tuple(outputs.shape[1:])
            raise ValueError(
                f"cross-entropy needs outputs for two classes or more, not of shape {shape}"
            )
        return outputs.argmax(dim=1)
