"""The mean squared error."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from srste.losses.base import Equals, ExactForm, like_outputs, number_of


class SquaredError:
    """Mean over examples and outputs of (output - target)^2; targets are real, shape of the outputs."""

    label: ClassVar[str] = "mean squared error"
    form: ClassVar[ExactForm] = ExactForm.QUADRATIC
    equals: ClassVar[Equals] = (nn.MSELoss, functional.mse_loss)

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return ((outputs - targets) ** 2).mean()

    def targets(self, outputs: Tensor) -> Tensor:
        return outputs

    def terms(self, shape: tuple[int, ...]) -> int:
        return number_of(shape)

    def compared(self, targets: Tensor, shape: tuple[int, ...]) -> NDArray[np.float64]:
        return like_outputs(targets, shape)

    def bound(self, reach: Tensor, targets: Tensor) -> Tensor:
        return ((reach + targets.abs()) ** 2).mean(dim=1)
