"""A model and a direction as float64 arrays, if the loss curve along that direction is exact."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from srste.binarize import BinaryActivation

Array = NDArray[np.float64]


class NotExactError(TypeError):
    """The model has a module for which the loss curve has no exact form here."""


@dataclass(frozen=True)
class MovingLayer:
    """One linear layer on its way: weights ``w - t dw`` and biases ``b - t db`` at learning rate t.

    w, dw: (out, in); b, db: (out,), zeros where the layer has no bias. All float64.
    """

    w: Array
    b: Array
    dw: Array
    db: Array

    def __call__(self, h: Array) -> tuple[Array, Array]:
        """(a, d), each (rows, out), of inputs h (rows, in): the output is ``a - t d``."""
        return h @ self.w.T + self.b, h @ self.dw.T + self.db


def as_float64(name: str, tensor: Tensor) -> Array:
    """The tensor as float64 on the CPU. Raises: ValueError if something in it is not finite."""
    array: Array = tensor.detach().to(device="cpu", dtype=torch.float64).numpy()
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds a value that is not finite")
    return array


def _flatten(model: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    # Not named_children(), which leaves out a module that stands in two places.
    for name, child in model._modules.items():
        assert child is not None
        if isinstance(child, nn.Sequential):
            yield from _flatten(child, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", child


def moving_layers(model: nn.Module, direction: Mapping[str, Tensor]) -> list[MovingLayer]:
    """The model's linear layers in order, a sign between each two of them, none after the last.

    Args:
        model: an ``nn.Sequential`` (nested ones included) of ``nn.Linear`` and ``BinaryActivation``.
        direction: a tensor of the parameter's shape for every name in ``model.named_parameters()``.
    Raises: NotExactError naming the module that does not fit; ValueError for a direction whose
        names or shapes are not the model's, or that is not finite.
    """
    if not isinstance(model, nn.Sequential):
        raise NotExactError(f"{type(model).__name__} is not an nn.Sequential")
    for module in model.modules():
        if isinstance(module, nn.Sequential) and type(module).forward is not nn.Sequential.forward:
            raise NotExactError(f"{type(module).__name__} has a forward() of its own")
    parameters = dict(model.named_parameters())
    if unlike := sorted(parameters.keys() ^ direction.keys()):
        raise ValueError(f"direction and model.named_parameters() differ in: {', '.join(unlike)}")
    for name, parameter in parameters.items():
        if direction[name].shape != parameter.shape:
            shape, wanted = tuple(direction[name].shape), tuple(parameter.shape)
            raise ValueError(f"direction[{name!r}] has shape {shape}, the parameter {wanted}")

    layers: list[MovingLayer] = []
    wants_linear = True
    for name, module in _flatten(model):
        if wants_linear and type(module) is nn.Linear:
            if f"{name}.weight" not in parameters:
                raise NotExactError(f"{name} shares its parameters with another layer")
            w = as_float64(f"{name}.weight", module.weight)
            dw = as_float64(f"direction[{name + '.weight'!r}]", direction[f"{name}.weight"])
            if module.bias is None:
                b = db = np.zeros(len(w))
            else:
                b = as_float64(f"{name}.bias", module.bias)
                db = as_float64(f"direction[{name + '.bias'!r}]", direction[f"{name}.bias"])
            layers.append(MovingLayer(w, b, dw, db))
        elif wants_linear or not isinstance(module, BinaryActivation):
            needed = "nn.Linear" if wants_linear else "BinaryActivation"
            raise NotExactError(f"{name} is {type(module).__name__} where {needed} is needed")
        wants_linear = not wants_linear
    if wants_linear:
        raise NotExactError(f"{type(model).__name__} does not end with an nn.Linear")
    return layers
