"""What a loss is, and what one needs whose curve along a direction is exact."""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float, Float64, Shaped

LossFunction = Callable[[Tensor, Tensor], Tensor]
"""(outputs, targets) to a scalar tensor, the mean over the batch."""


class Loss(Protocol):
    """A loss."""

    def __call__(
        self, outputs: Float[Tensor, "batch *out"], targets: Shaped[Tensor, "batch *target"]
    ) -> Float[Tensor, ""]:
        """The mean over the batch, a scalar tensor."""
        ...

    def targets(self, outputs: Float[Tensor, "batch *out"]) -> Shaped[Tensor, "batch *target"]:
        """The targets that a teacher with these outputs (batch, out) sets.

        Raises: ValueError where it cannot set any.
        """
        ...


class ExactForm(Enum):
    """The course of one example's loss between two flips, where its outputs are linear in the learning
    rate."""

    QUADRATIC = "one parabola"
    ABSOLUTE = "linear, with a kink where an output passes its target"
    LOGISTIC = "convex, a sum over the outputs"
    SOFTMAX = "convex, of all outputs together"


Equals = tuple[Callable[..., Any], ...]
"""PyTorch's modules and functions that are a loss of ours, with their settings as by default."""


class ExactLoss(Loss, Protocol):
    """A loss whose curve along a direction is exact.

    label: what axes and tables call it. form: its course between two flips. equals: PyTorch's names for
    the same loss.
    """

    label: ClassVar[str]
    form: ClassVar[ExactForm]
    equals: ClassVar[Equals]

    def terms(self, shape: tuple[int, ...]) -> int:
        """How many equal terms the mean over outputs of that shape (batch, out) is taken over."""
        ...

    def compared(
        self, targets: Shaped[Tensor, "batch *target"], shape: tuple[int, ...]
    ) -> Float64[np.ndarray, "batch compared"]:
        """What outputs of that shape are compared with: (batch, out), or (batch, 1) classes.

        Raises: ValueError for targets that do not fit.
        """
        ...

    def bound(
        self, magnitude: Float[Tensor, "batch out"], targets: Shaped[Tensor, "batch *target"]
    ) -> Float[Tensor, " batch"]:
        """What each example's loss can at most be, where no output is larger than ``magnitude``.

        Args: magnitude: float64. targets: (batch, out), or (batch,) classes.
        """
        ...


class MeanOverOutputs:
    """What the losses share whose mean is over the examples and all of their outputs, each of which is
    compared with a target of its own."""

    def _each(
        self, outputs: Float[Tensor, "batch *out"], targets: Shaped[Tensor, "batch *target"]
    ) -> Float[Tensor, "batch *out"]:
        """The loss of each output."""
        raise NotImplementedError

    def __call__(
        self, outputs: Float[Tensor, "batch *out"], targets: Shaped[Tensor, "batch *target"]
    ) -> Float[Tensor, ""]:
        # Otherwise (batch,) against (batch, 1) would be compared as (batch, batch).
        _check_shape(targets, tuple(outputs.shape))
        return self._each(outputs, targets).mean()

    def targets(self, outputs: Float[Tensor, "batch *out"]) -> Shaped[Tensor, "batch *target"]:
        return outputs

    def terms(self, shape: tuple[int, ...]) -> int:
        return math.prod(shape)

    def compared(
        self, targets: Shaped[Tensor, "batch *target"], shape: tuple[int, ...]
    ) -> Float64[np.ndarray, "batch compared"]:
        _check_shape(targets, shape)
        array = targets.detach().to(device="cpu", dtype=torch.float64).numpy().reshape(shape[0], -1)
        if not np.isfinite(array).all():
            raise ValueError("targets holds a value that is not finite")
        return np.ascontiguousarray(array)

    def bound(
        self, magnitude: Float[Tensor, "batch out"], targets: Shaped[Tensor, "batch *target"]
    ) -> Float[Tensor, " batch"]:
        # None is further off than an output of the other sign than its target.
        return self._each(-magnitude, targets.abs()).mean(dim=1)


def _check_shape(targets: Tensor, shape: tuple[int, ...]) -> None:
    if targets.shape != shape:
        classes = targets.ndim == 1 and not targets.is_floating_point()
        advice = '; for classes the loss is "cross_entropy"' if classes else ""
        raise ValueError(f"targets must be {shape}, as the outputs, not {tuple(targets.shape)}{advice}")
