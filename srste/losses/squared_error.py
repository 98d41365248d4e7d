"""The mean squared error."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
from torch import Tensor, nn
from torch.nn import functional

from srste.losses.base import Equals, ExactForm, like_outputs, number_of

if TYPE_CHECKING:
    from jaxtyping import Float, Float64, Shaped


class SquaredError:
    """Mean over examples and outputs of (output - target)^2; targets are real, shape of the outputs."""

    label: ClassVar[str] = "mean squared error"
    form: ClassVar[ExactForm] = ExactForm.QUADRATIC
    equals: ClassVar[Equals] = (nn.MSELoss, functional.mse_loss)

    def __call__(
        self, outputs: Float[Tensor, "batch *out"], targets: Shaped[Tensor, "batch *target"]
    ) -> Float[Tensor, ""]:
        return ((outputs - targets) ** 2).mean()

    def targets(self, outputs: Float[Tensor, "batch *out"]) -> Shaped[Tensor, "batch *target"]:
        return outputs

    def terms(self, shape: tuple[int, ...]) -> int:
        return number_of(shape)

    def compared(
        self, targets: Shaped[Tensor, "batch *target"], shape: tuple[int, ...]
    ) -> Float64[np.ndarray, "batch compared"]:
        return like_outputs(targets, shape)

    def bound(
        self, magnitude: Float[Tensor, "batch out"], targets: Shaped[Tensor, "batch *target"]
    ) -> Float[Tensor, " batch"]:
        return ((magnitude + targets.abs()) ** 2).mean(dim=1)
