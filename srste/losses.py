"""The losses whose decrease is measured, and what a teacher's outputs are as targets of each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.nn import functional

LossFunction = Callable[[Tensor, Tensor], Tensor]
"""(outputs, targets) to a scalar tensor, the mean over the batch."""


class Loss(Protocol):
    """A loss."""

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The mean over the batch, a scalar tensor."""
        ...

    def targets(self, outputs: Tensor) -> Tensor:
        """The targets that a teacher with these outputs (batch, out) sets.

        Raises: ValueError where it cannot set any.
        """
        ...


class ExactLoss(Loss, Protocol):
    """A loss whose curve has an exact form; see `srste.curve.forms` for which."""

    @property
    def form(self) -> Literal["squared", "absolute", "logistic", "cross-entropy"]:
        """What the loss curve knows of it."""
        ...

    def bound(self, reach: Tensor, targets: Tensor) -> Tensor:
        """(batch,) what each example's loss can at most be, with outputs of which none is larger in
        magnitude than ``reach`` (batch, out), float64. targets: (batch, out), or (batch,) classes."""
        ...


class SquaredError:
    """Mean over examples and outputs of (output - target)^2; targets are real, shape of the outputs."""

    form: Literal["squared"] = "squared"

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return ((outputs - targets) ** 2).mean()

    def targets(self, outputs: Tensor) -> Tensor:
        return outputs

    def bound(self, reach: Tensor, targets: Tensor) -> Tensor:
        return ((reach + targets.abs()) ** 2).mean(dim=1)


class AbsoluteError:
    """Mean over examples and outputs of |output - target|; targets are real, shape of the outputs."""

    form: Literal["absolute"] = "absolute"

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - targets).abs().mean()

    def targets(self, outputs: Tensor) -> Tensor:
        return outputs

    def bound(self, reach: Tensor, targets: Tensor) -> Tensor:
        return (reach + targets.abs()).mean(dim=1)


class Logistic:
    """Mean over examples and outputs of log(1 + exp(-target output)); targets are -1 or +1, shape of the
    outputs. The teacher's are the signs of its outputs, sign(0) = +1.

    References: Cox (1958), "The regression analysis of binary sequences".
    """

    form: Literal["logistic"] = "logistic"

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        margins = targets * outputs
        return torch.logaddexp(torch.zeros_like(margins), -margins).mean()

    def targets(self, outputs: Tensor) -> Tensor:
        return torch.where(outputs >= 0, 1.0, -1.0).to(outputs.dtype)

    def bound(self, reach: Tensor, targets: Tensor) -> Tensor:
        margins = reach * targets.abs()
        return torch.logaddexp(torch.zeros_like(margins), margins).mean(dim=1)


class CrossEntropy:
    """Mean over examples of -log softmax(outputs)[target]; targets are classes, (batch,) integers. The
    teacher's is its largest output, of several the first. Raises: ValueError with fewer than two."""

    form: Literal["cross-entropy"] = "cross-entropy"

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(outputs, targets)

    def targets(self, outputs: Tensor) -> Tensor:
        if outputs.ndim != 2 or outputs.shape[1] < 2:
            shape = tuple(outputs.shape[1:])
            raise ValueError(
                f"cross-entropy needs outputs for two classes or more, not of shape {shape}"
            )
        return outputs.argmax(dim=1)

    def bound(self, reach: Tensor, targets: Tensor) -> Tensor:
        worst = reach.scatter(1, targets[:, None], -reach.gather(1, targets[:, None]))
        return functional.cross_entropy(worst, targets, reduction="none")
