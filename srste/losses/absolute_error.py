"""The mean absolute error."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from srste.losses.base import Equals, ExactForm, like_outputs, number_of


class AbsoluteError:
    """Mean over examples and outputs of |output - target|; targets are real, shape of the outputs."""

    label: ClassVar[str] = "mean absolute error"
    form: ClassVar[ExactForm] = ExactForm.ABSOLUTE
    equals: ClassVar[Equals] = (nn.L1Loss, functional.l1_loss)

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - targets).abs().mean()

    def targets(self, outputs: Tensor) -> Tensor:
        return outputs

    def terms(self, shape: tuple[int, ...]) -> int:
        return number_of(shape)

    def compared(self, targets: Tensor, shape: tuple[int, ...]) -> NDArray[np.float64]:
        return like_outputs(targets, shape)

    def bound(self, reach: Tensor, targets: Tensor) -> Tensor:
        return (reach + targets.abs()).mean(dim=1)
