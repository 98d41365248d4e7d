"""The mean squared error."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from torch import Tensor, nn
from torch.nn import functional

from srste.losses.base import Equals, ExactForm, MeanOverOutputs

if TYPE_CHECKING:
    from jaxtyping import Float, Shaped


class SquaredError(MeanOverOutputs):
    """Mean over examples and outputs of (output - target)^2; targets are real, shape of the outputs."""

    label: ClassVar[str] = "mean squared error"
    form: ClassVar[ExactForm] = ExactForm.QUADRATIC
    equals: ClassVar[Equals] = (nn.MSELoss, functional.mse_loss)

    def _each(
        self, outputs: Float[Tensor, "batch *out"], targets: Shaped[Tensor, "batch *target"]
    ) -> Float[Tensor, "batch *out"]:
        return (outputs - targets) ** 2
