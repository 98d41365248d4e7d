"""The loss over a batch, each loss in the form that it has between two flips."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from srste.curve.chain import as_float64, held
from srste.curve.following import Batch
from srste.curve.forms import exact_form
from srste.curve.kernels.positions import just_after
from srste.curve.links import Links
from srste.curve.network import Array, Network, NotExactError, check_finite
from srste.curve.pieces import Pieces, pieces
from srste.losses import LossFunction

if TYPE_CHECKING:
    from srste.curve.convex import ConvexSum


def summed(
    network: Network, loss: LossFunction, inputs: Tensor, targets: Tensor, lr_max: float
) -> Pieces | ConvexSum:
    """The loss along the network's way. Raises: as `srste.curve.loss_curve`."""
    exact = exact_form(loss)
    form = exact.form
    outputs = network.units[-1]
    if not outputs:
        raise ValueError("the model has no outputs")
    try:
        wanted = _targets(form, targets, (len(inputs), *network.output_shape))
    except ValueError as error:
        if exact is loss:
            raise
        # PyTorch's take more: targets of other shapes, and classes that are probabilities or ignored.
        raise NotExactError(f"{type(exact).__name__}: {error}") from error
    share = 1 / len(inputs) if form == "cross-entropy" else 1 / (len(inputs) * outputs)
    batch = Batch(held(inputs), wanted, share, just_after(lr_max))
    links = Links.of(network)
    if form in ("squared", "absolute"):
        return pieces(network, links, batch, form == "absolute", lr_max)
    from srste.curve.convex import convex_sum  # compiled only where it is wanted

    return convex_sum(network, links, batch, form == "cross-entropy", lr_max)


def _targets(form: str, targets: Tensor, shape: tuple[int, ...]) -> Array:
    """(batch, outputs), or (batch, 1) classes. shape: of the outputs. Raises: ValueError."""
    batch = shape[0]
    if form == "cross-entropy":
        classes = targets.detach().cpu()
        if len(shape) != 2 or shape[1] < 2:
            raise ValueError(f"cross-entropy needs outputs (batch, classes >= 2), not {shape}")
        if classes.shape != (batch,) or classes.is_floating_point() or classes.dtype == torch.bool:
            kind = f"{str(classes.dtype).removeprefix('torch.')} {tuple(classes.shape)}"
            raise ValueError(f"targets must be ({batch},) integer classes, not {kind}")
        if not ((classes >= 0) & (classes < shape[1])).all():
            raise ValueError(f"targets must be classes from 0 to {shape[1] - 1}")
        return np.ascontiguousarray(classes.double().numpy()[:, None])
    if targets.shape != shape:
        raise ValueError(f"targets must be {shape}, not {tuple(targets.shape)}")
    array = np.ascontiguousarray(as_float64(targets).reshape(batch, -1))
    check_finite("targets", array)
    if form == "logistic" and not (np.abs(array) == 1).all():
        raise ValueError("targets must be -1 or +1 for the logistic loss")
    return array
