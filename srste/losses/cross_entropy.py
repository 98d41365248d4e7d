"""Cross-entropy."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from srste.losses.base import Equals, ExactForm


class CrossEntropy:
    """Mean over examples of -log softmax(outputs)[target]; targets are classes, (batch,) integers. The
    teacher's is its largest output, of several the first. Raises: ValueError with fewer than two."""

    label: ClassVar[str] = "cross-entropy"
    form: ClassVar[ExactForm] = ExactForm.SOFTMAX
    equals: ClassVar[Equals] = (nn.CrossEntropyLoss, functional.cross_entropy)

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(outputs, targets)

    def targets(self, outputs: Tensor) -> Tensor:
        if outputs.ndim != 2 or outputs.shape[1] < 2:
            shape = tuple(outputs.shape[1:])
            raise ValueError(
                f"cross-entropy needs outputs for two classes or more, not of shape {shape}"
            )
        return outputs.argmax(dim=1)

    def terms(self, shape: tuple[int, ...]) -> int:
        return shape[0]

    def compared(self, targets: Tensor, shape: tuple[int, ...]) -> NDArray[np.float64]:
        classes, batch = targets.detach().cpu(), shape[0]
        if len(shape) != 2 or shape[1] < 2:
            raise ValueError(f"cross-entropy needs outputs (batch, classes >= 2), not {shape}")
        if classes.shape != (batch,) or classes.is_floating_point() or classes.dtype == torch.bool:
            kind = f"{str(classes.dtype).removeprefix('torch.')} {tuple(classes.shape)}"
            raise ValueError(f"targets must be ({batch},) integer classes, not {kind}")
        if not ((classes >= 0) & (classes < shape[1])).all():
            raise ValueError(f"targets must be classes from 0 to {shape[1] - 1}")
        return np.ascontiguousarray(classes.double().numpy()[:, None])

    def bound(self, reach: Tensor, targets: Tensor) -> Tensor:
        worst = reach.scatter(1, targets[:, None], -reach.gather(1, targets[:, None]))
        return functional.cross_entropy(worst, targets, reduction="none")
