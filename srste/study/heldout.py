"""Losses of the updated model on held-out examples."""

import torch

from srste.curve import LossCurve
from srste.problem.task import Batch, Task, buffers_kept
from srste.study.results import Heldout


def zero_loss(task: Task, batch: Batch) -> float:
    """Return the loss of a model whose output is zero on that batch, float64."""
    device = batch.inputs.device
    devices = [device] if device.type == "cuda" else []
    with torch.no_grad(), torch.random.fork_rng(devices), buffers_kept(task.model):
        shape = task.model(batch.inputs[:2]).shape[1:]
    targets = batch.targets.double() if batch.targets.is_floating_point() else batch.targets
    outputs = torch.zeros(len(batch.inputs), *shape, dtype=torch.float64, device=targets.device)
    return float(task.loss(outputs, targets))


def evaluate_heldout(curve: LossCurve, task: Task, heldout: Batch, lr: float) -> Heldout:
    """Evaluate the step of size ``lr`` on ``heldout``, and the best step along the same line there.

    Args: curve: the loss of these examples. lr: of the best trial, in [0, curve.lr_max].
    """
    best_lr, best_loss, attained = curve.minimum() if curve.exact else (None, None, None)
    return Heldout(
        examples=len(heldout.inputs),
        pre_loss=curve.pre_loss,
        post_loss=float(curve([lr])[0]),
        best_lr=best_lr,
        best_loss=best_loss,
        attained=attained,
        zero_loss=zero_loss(task, heldout),
    )
