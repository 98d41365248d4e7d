"""The logistic loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from srste.losses.base import Equals, ExactForm, MeanOverOutputs

if TYPE_CHECKING:
    from jaxtyping import Float, Float64, Shaped


class Logistic(MeanOverOutputs):
    """Mean over examples and outputs of log(1 + exp(-target output)); targets are -1 or +1, shape of the
    outputs. The teacher's are the signs of its outputs, sign(0) = +1.

    References: Cox (1958), "The regression analysis of binary sequences".
    """

    label: ClassVar[str] = "logistic loss"
    form: ClassVar[ExactForm] = ExactForm.LOGISTIC
    equals: ClassVar[Equals] = (nn.SoftMarginLoss, functional.soft_margin_loss)

    def _each(
        self, outputs: Float[Tensor, "batch *out"], targets: Shaped[Tensor, "batch *target"]
    ) -> Float[Tensor, "batch *out"]:
        margins = targets * outputs
        return torch.logaddexp(torch.zeros_like(margins), -margins)

    def targets(self, outputs: Float[Tensor, "batch *out"]) -> Shaped[Tensor, "batch *target"]:
        return torch.where(outputs >= 0, 1.0, -1.0).to(outputs.dtype)

    def compared(
        self, targets: Shaped[Tensor, "batch *target"], shape: tuple[int, ...]
    ) -> Float64[np.ndarray, "batch compared"]:
        array = super().compared(targets, shape)
        if not (np.abs(array) == 1).all():
            raise ValueError("targets must be -1 or +1 for the logistic loss")
        return array
