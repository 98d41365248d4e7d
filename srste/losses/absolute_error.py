"""The mean absolute error."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from torch import Tensor, nn
from torch.nn import functional

from srste.losses.base import Equals, ExactForm, MeanOverOutputs

if TYPE_CHECKING:
    from jaxtyping import Float, Shaped


class AbsoluteError(MeanOverOutputs):
    """Mean over examples and outputs of |output - target|; targets are real, shape of the outputs."""

    label: ClassVar[str] = "mean absolute error"
    form: ClassVar[ExactForm] = ExactForm.ABSOLUTE
    equals: ClassVar[Equals] = (nn.L1Loss, functional.l1_loss)

    def _each(
        self, outputs: Float[Tensor, "batch *out"], targets: Shaped[Tensor, "batch *target"]
    ) -> Float[Tensor, "batch *out"]:
        return (outputs - targets).abs()
