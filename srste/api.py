"""The functions of the public face; `srste` gives them by their names."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from srste.curve import Line, LossCurve
from srste.losses import LossFunction


def loss_curve(
    model: nn.Module,
    direction: Mapping[str, Tensor],
    inputs: Tensor,
    targets: Tensor,
    *,
    loss: LossFunction | None = None,
    lr_max: float = 0.5,
    seed: int = 0,
) -> LossCurve:
    """The loss of a model on a batch after the step ``w - lr * direction``, for every lr in [0, lr_max].

    It is exact for networks of binary activations, and otherwise evaluated by forward passes: ``exact``
    and ``why_not`` of the curve tell. Of several batches or losses along one direction ask
    :class:`srste.curve.line.Line`, which reads the model once.

    Args: as :meth:`srste.curve.line.Line.loss`.
    """
    return Line(model, direction).loss(inputs, targets, loss, lr_max, seed)
