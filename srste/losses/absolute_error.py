"""The mean absolute error."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
from torch import Tensor, nn
from torch.nn import functional

from srste.losses.base import Equals, ExactForm, like_outputs, number_of

if TYPE_CHECKING:
    from jaxtyping import Float, Float64, Shaped


class AbsoluteError:
    """Mean over examples and outputs of |output - target|; targets are real, shape of the outputs."""

    label: ClassVar[str] = "mean absolute error"
    form: ClassVar[ExactForm] = ExactForm.ABSOLUTE
    equals: ClassVar[Equals] = (nn.L1Loss, functional.l1_loss)

    def __call__(
        self, outputs: Float[Tensor, "batch *out"], targets: Shaped[Tensor, "batch *target"]
    ) -> Float[Tensor, ""]:
        return (outputs - targets).abs().mean()

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
        return (magnitude + targets.abs()).mean(dim=1)
