"""The logistic loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from srste.losses.base import Equals, ExactForm, like_outputs, number_of

if TYPE_CHECKING:
    from jaxtyping import Float, Float64, Shaped


class Logistic:
    """Mean over examples and outputs of log(1 + exp(-target output)); targets are -1 or +1, shape of the
    outputs. The teacher's are the signs of its outputs, sign(0) = +1.

    References: Cox (1958), "The regression analysis of binary sequences".
    """

    label: ClassVar[str] = "logistic loss"
    form: ClassVar[ExactForm] = ExactForm.LOGISTIC
    equals: ClassVar[Equals] = (nn.SoftMarginLoss, functional.soft_margin_loss)

    def __call__(
        self, outputs: Float[Tensor, "batch *out"], targets: Shaped[Tensor, "batch *target"]
    ) -> Float[Tensor, ""]:
        margins = targets * outputs
        return torch.logaddexp(torch.zeros_like(margins), -margins).mean()

    def targets(self, outputs: Float[Tensor, "batch *out"]) -> Shaped[Tensor, "batch *target"]:
        return torch.where(outputs >= 0, 1.0, -1.0).to(outputs.dtype)

    def terms(self, shape: tuple[int, ...]) -> int:
        return number_of(shape)

    def compared(
        self, targets: Shaped[Tensor, "batch *target"], shape: tuple[int, ...]
    ) -> Float64[np.ndarray, "batch compared"]:
        array = like_outputs(targets, shape)
        if not (np.abs(array) == 1).all():
            raise ValueError("targets must be -1 or +1 for the logistic loss")
        return array

    def bound(
        self, magnitude: Float[Tensor, "batch out"], targets: Shaped[Tensor, "batch *target"]
    ) -> Float[Tensor, " batch"]:
        margins = magnitude * targets.abs()
        return torch.logaddexp(torch.zeros_like(margins), margins).mean(dim=1)
