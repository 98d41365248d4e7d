"""Linear layers with a binarisation between each two: read off the modules, in no time."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from srste.curve.network.base import Array, Dense, Link, RoundedLayer, is_finite
from srste.networks.activations import levels_of


def as_float64(tensor: Tensor) -> Array:
    """The tensor as float64 on the CPU."""
    array: Array = tensor.detach().to(device="cpu", dtype=torch.float64).numpy()
    return array


def as_double(tensor: Tensor) -> Tensor:
    """The tensor in float64 if it is of a floating dtype; integers stay what they are."""
    return tensor.double() if tensor.is_floating_point() else tensor


def to_cpu(tensor: Tensor) -> Tensor:
    """The tensor on the CPU in a dtype that NumPy knows too, without a copy if that is possible."""
    on_cpu = tensor.detach().cpu()
    numpy_has_it = not on_cpu.is_floating_point() or on_cpu.dtype in (torch.float32, torch.float64)
    return on_cpu if numpy_has_it else on_cpu.double()


@dataclass(frozen=True)
class MovingLayer:
    """One linear layer on its way: weights ``w - t dw`` and biases ``b - t db`` at learning rate t.

    joint: (in, 2 out) of w, then dw, transposed; bias: (2 out,) of b, then db. All float64.
    """

    joint: Array
    bias: Array


class Chain:
    """A `srste.curve.network.base.Network`. parameters: of the model, which it is made of."""

    def __init__(
        self,
        layers: list[MovingLayer],
        levels: list[tuple[float, float]],
        parameters: list[Tensor],
    ) -> None:
        self.parameters = parameters
        self.features = len(layers[0].joint)
        self.units = [len(layer.bias) // 2 for layer in layers]
        self.levels = levels
        self.links: dict[tuple[int, int], Link] = {
            (source, target): Dense(layers[target].joint)
            for source, target in pairwise(range(len(layers)))
        }
        self.output_shape: tuple[int, ...] = (self.units[-1],)
        self._layers = layers
        biases = [layer.bias[None] if layer.bias.any() else None for layer in layers]
        self.constants: list[Array | None] = biases

    @cached_property
    def is_finite(self) -> bool:
        """Whether all of its weights and of their direction are."""
        return all(is_finite(layer.joint) and is_finite(layer.bias) for layer in self._layers)

    def beginnings(self, inputs: Tensor, out: Array | None = None) -> list[Array | None]:
        product = np.matmul(as_float64(inputs), self._layers[0].joint, out=out)
        if self.constants[0] is not None:
            product += self.constants[0]
        return [product, *self.constants[1:]]

    def stepped(self, inputs: Tensor, lr: float) -> list[RoundedLayer]:
        h = as_float64(inputs)
        stepped = []
        for k, layer in enumerate(self._layers):
            units = self.units[k]
            product, sizes = h @ layer.joint + layer.bias, np.abs(h) @ np.abs(layer.joint)
            sizes += np.abs(layer.bias)
            values = product[:, :units] - lr * product[:, units:]
            magnitude = sizes[:, :units] + lr * sizes[:, units:]
            # The step adds three roundings to each weight and the bias one term.
            stepped.append(RoundedLayer(values, magnitude, h.shape[1] + 5))
            if k < len(self.levels):
                low, high = self.levels[k]
                h = np.where(values >= 0, high, low)
        return stepped


def chain(model: object, direction: object) -> Chain | None:
    """The model as a chain: an ``nn.Sequential``, nested ones included, of ``nn.Linear`` with a binary
    activation between each two. None if it is built in any other way, or if the direction does not fit.

    Args: direction: a tensor of the parameter's shape for every name in ``model.named_parameters()``.
    """
    if not isinstance(model, nn.Sequential) or not isinstance(direction, Mapping):
        return None
    layers: list[MovingLayer] = []
    levels: list[tuple[float, float]] = []
    parameters: list[Tensor] = []
    wants_linear = True
    for name, module in _flatten(model):
        if wants_linear and type(module) is nn.Linear and is_plain(module):
            parts = {f"{name}.{part}": p for part, p in module._parameters.items() if p is not None}
            # Without one in the direction it may be shared with another layer.
            if not all(_is_like(direction.get(part), p) for part, p in parts.items()):
                return None
            pairs = [(p, direction[part]) for part, p in parts.items()]
            parameters += parts.values()
            bias = _joint(*pairs[1]) if len(pairs) > 1 else np.zeros(2 * module.out_features)
            layers.append(MovingLayer(_joint(*pairs[0]), bias))
        elif not wants_linear and module is not None and is_plain(module):
            pair = levels_of(module)
            if pair is None:
                return None
            levels.append(pair)
        else:
            return None
        wants_linear = not wants_linear
    if wants_linear or len(parameters) != len(direction):
        return None
    return Chain(layers, levels, parameters)


def _is_like(moved: object, parameter: Tensor) -> bool:
    parts = ("shape", "dtype", "device")
    return isinstance(moved, Tensor) and all(getattr(moved, p) == getattr(parameter, p) for p in parts)


def _joint(w: Tensor, dw: Tensor) -> Array:
    """(in, 2 out) or (2 out,) of a weight, or a bias, and what it moves by. Both in one array, because
    the inputs are the large operand of a product with them and are then read once."""
    out = w.shape[0]
    joint = np.empty((*w.shape[1:], 2 * out))
    joint[..., :out] = to_cpu(w).numpy().T
    joint[..., out:] = to_cpu(dw).numpy().T
    return joint


def is_plain(module: nn.Module) -> bool:
    """Whether the module computes what its class says from the parameters that it is seen to have: no
    hooks, no parametrisation, and no other forward put in its place."""
    hooks = (module._forward_hooks, module._forward_pre_hooks)
    return (
        not any(hooks) and "parametrizations" not in module._modules and "forward" not in module.__dict__
    )


def _flatten(model: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module | None]]:
    if type(model).forward is not nn.Sequential.forward or not is_plain(model):
        yield prefix.removesuffix("."), None
        return
    # Not named_children(), which leaves out a module that stands in two places.
    for name, child in model._modules.items():
        if isinstance(child, nn.Sequential):
            yield from _flatten(child, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", child
