"""Cross-entropy."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from srste.losses.base import Equals, ExactForm

if TYPE_CHECKING:
    from jaxtyping import Float, Float64, Shaped


class CrossEntropy:
    """Mean over examples of -log softmax(outputs)[target]; targets are classes, (batch,) integers. The
    teacher's is its largest output, of several the first. Raises: ValueError with fewer than two."""

    label: ClassVar[str] = "cross-entropy"
    form: ClassVar[ExactForm] = ExactForm.SOFTMAX
    equals: ClassVar[Equals] = (nn.CrossEntropyLoss, functional.cross_entropy)

    def __call__(
        self, outputs: Float[Tensor, "batch *out"], targets: Shaped[Tensor, "batch *target"]
    ) -> Float[Tensor, ""]:
        return functional.cross_entropy(outputs, targets)

    def targets(self, outputs: Float[Tensor, "batch *out"]) -> Shaped[Tensor, "batch *target"]:
        if outputs.ndim != 2 or outputs.shape[1] < 2:
            shape = tuple(outputs.shape[1:])
            raise ValueError(
                "cross-entropy needs outputs for two classes or more, as with model.out_features=10, "
                f"not of shape {shape}"
            )
        return outputs.argmax(dim=1)

    def terms(self, shape: tuple[int, ...]) -> int:
        return shape[0]

    def compared(
        self, targets: Shaped[Tensor, "batch *target"], shape: tuple[int, ...]
    ) -> Float64[np.ndarray, "batch compared"]:
        classes, batch = targets.detach().cpu(), shape[0]
        if len(shape) != 2 or shape[1] < 2:
            raise ValueError(f"cross-entropy needs outputs (batch, classes >= 2), not {shape}")
        if classes.shape != (batch,) or classes.is_floating_point() or classes.dtype == torch.bool:
            kind = f"{str(classes.dtype).removeprefix('torch.')} {tuple(classes.shape)}"
            raise ValueError(f"targets must be ({batch},) integer classes, not {kind}")
        if not ((classes >= 0) & (classes < shape[1])).all():
            raise ValueError(f"targets must be classes from 0 to {shape[1] - 1}")
        return np.ascontiguousarray(classes.double().numpy()[:, None])

    def bound(
        self, magnitude: Float[Tensor, "batch out"], targets: Shaped[Tensor, "batch *target"]
    ) -> Float[Tensor, " batch"]:
        worst = magnitude.scatter(1, targets[:, None], -magnitude.gather(1, targets[:, None]))
        return functional.cross_entropy(worst, targets, reduction="none")
