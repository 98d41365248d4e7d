"""The exact loss curve where there is one, and the evaluated one where there is none."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from srste.curve.evaluated import EvaluatedCurve
from srste.curve.exact import LossCurve, loss_curve
from srste.curve.network import NotExactError
from srste.losses import LossFunction, SquaredError


def any_curve(
    model: nn.Module,
    direction: Mapping[str, Tensor],
    inputs: Tensor,
    targets: Tensor,
    lr_max: float = 0.5,
    loss: LossFunction | None = None,
    seed: int = 0,
) -> tuple[LossCurve | EvaluatedCurve, str]:
    """The curve, and why it has no exact form; "" if it has one.

    It takes any ``torch.nn.Module`` of Python's on one device whose forward takes the inputs alone and
    gives one real tensor. Not: outputs that are dicts, tuples or complex, TorchScript, `nn.DataParallel`
    and `DistributedDataParallel`, whose ``.module`` it takes.

    Args: as for :func:`srste.curve.loss_curve`. seed: of layers that draw random numbers, for an
        evaluated curve. Raises: ValueError, as they do.
    """
    loss = loss or SquaredError()
    try:
        return loss_curve(model, direction, inputs, targets, lr_max, loss), ""
    except NotExactError as error:
        return EvaluatedCurve(model, direction, inputs, targets, lr_max, loss, seed=seed), str(error)
