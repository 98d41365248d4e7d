"""A pass through the forward of any model, on values that move: what is exact is found by looking.

The forward pass is traced (torch.fx). What is the same at every learning rate may go through anything.
What is not may be added, scaled by constants, averaged, reshaped, go through layers whose own parameters
do not move, and be binarised; a layer whose weights move needs an input that is constant between two
flips, as that of binary units is. Then every pre-activation is linear in t between two flips.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from srste.binarize import BinaryActivation
from srste.curve.chain import is_plain
from srste.curve.moving import Function, Moving, add, each, join, negative, product, value
from srste.curve.network import NotExactError

Levels = tuple[float, float]
Binarise = Callable[[int, Levels, Moving], Moving]

_KERNELS: frozenset[Function] = frozenset(
    {
        functional.linear, functional.conv1d, functional.conv2d, functional.conv3d,
        torch.conv1d, torch.conv2d, torch.conv3d,
    }
)  # fmt: skip
_LINEAR_FUNCTIONS: frozenset[Function] = frozenset(
    {
        torch.flatten, torch.reshape, torch.permute, torch.transpose, torch.squeeze, torch.unsqueeze,
        torch.mean, torch.sum, operator.getitem,
        functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d,
        functional.adaptive_avg_pool1d, functional.adaptive_avg_pool2d, functional.adaptive_avg_pool3d,
    }
)  # fmt: skip
_LINEAR_METHODS = frozenset(
    {
        "flatten", "reshape", "view", "permute", "transpose", "squeeze", "unsqueeze", "mean", "sum",
        "contiguous", "unflatten",
    }
)  # fmt: skip
_LINEAR_MODULES = (
    nn.Flatten, nn.Unflatten, nn.Identity, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d,
    nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d, nn.ZeroPad1d, nn.ZeroPad2d,
    nn.ZeroPad3d, nn.PixelShuffle, nn.PixelUnshuffle,
)  # fmt: skip
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_BATCH_NORM = nn.modules.batchnorm._BatchNorm
_DROPOUT = nn.modules.dropout._DropoutNd
_SUMS: dict[Function, int] = {
    operator.add: 1, operator.iadd: 1, torch.add: 1, operator.sub: -1, operator.isub: -1, torch.sub: -1,
}  # fmt: skip
_PRODUCTS: tuple[Function, ...] = (operator.mul, operator.imul, torch.mul)
_QUOTIENTS: tuple[Function, ...] = (operator.truediv, operator.itruediv, torch.div)
_AS_FUNCTIONS: dict[str, Function] = {
    "add": operator.add, "add_": operator.add, "sub": operator.sub, "sub_": operator.sub,
    "mul": operator.mul, "mul_": operator.mul, "div": operator.truediv, "div_": operator.truediv,
    "neg": operator.neg,
}  # fmt: skip


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, BinaryActivation) or super().is_leaf_module(m, module_qualified_name)


def trace(model: nn.Module) -> fx.GraphModule:
    """The model's forward as a graph. Raises: NotExactError if it cannot be told beforehand."""
    if not is_plain(model):
        raise NotExactError(f"{type(model).__name__} has hooks or a parametrisation")
    try:
        return fx.GraphModule(model, _Tracer().trace(model))
    except Exception as error:  # whatever a forward may raise that is run without values
        reason = f"its forward cannot be traced ({error_line(error)})"
        raise NotExactError(f"{type(model).__name__}: {reason}") from error


def error_line(error: Exception) -> str:
    """The first line of what it says, its name if it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def _any(test: Callable[[Moving], bool], values: Any) -> bool:
    found: list[bool] = []
    fx.node.map_aggregate(values, lambda v: found.append(isinstance(v, Moving) and test(v)))
    return any(found)


def _tensors(values: Any) -> Any:
    """The same with tensors in the place of values."""
    return fx.node.map_aggregate(values, lambda v: v.a if isinstance(v, Moving) else v)


class Pass(fx.Interpreter):
    """One pass through a traced model.

    Args:
        parameters: by identity, each as a value.
        binarise: (number of the layer, its levels, its pre-activations) to its units.
    """

    def __init__(
        self, traced: fx.GraphModule, parameters: Mapping[int, Moving], binarise: Binarise
    ) -> None:
        super().__init__(traced)
        self.extra_traceback = False  # our messages are one line
        self._parameters = parameters
        self._binarise = binarise
        self._layers = 0

    def output_of(self, inputs: Tensor) -> Moving:
        """The output for inputs (rows, ...). Raises: NotExactError naming what is in the way."""
        with torch.no_grad():
            output = self.run(value(inputs))
        if not isinstance(output, Moving):
            raise NotExactError(f"the model gives a {type(output).__name__}, not one tensor")
        return output

    def run_node(self, n: fx.Node) -> Any:
        self._place = str(n.target) if n.op == "call_module" else n.name
        try:
            return super().run_node(n)
        except NotExactError:
            raise
        except Exception as error:
            raise NotExactError(f"{self._place}: {error_line(error)}") from error

    def get_attr(self, target: Any, args: Any, kwargs: Any) -> Any:
        attribute = self.fetch_attr(target)
        return self._tensor(attribute) if isinstance(attribute, Tensor) else attribute

    def _tensor(self, tensor: Tensor) -> Moving:
        known = self._parameters.get(id(tensor))
        return value(tensor) if known is None else known

    def _own(self, module: nn.Module, name: str) -> Moving | None:
        """The module's parameter of that name, None if it goes without."""
        if not is_plain(module) or name not in module._parameters:
            raise self._no(module, "has hooks, or parameters made of others")
        parameter = module._parameters[name]
        return None if parameter is None else self._tensor(parameter)

    def _no(self, module: nn.Module, reason: str) -> NotExactError:
        return NotExactError(f"{self._place} ({type(module).__name__}) {reason}")

    def call_module(self, target: Any, args: Any, kwargs: Any) -> Any:
        module = self.fetch_attr(target)
        x = args[0] if args else None
        if not isinstance(x, Moving) or len(args) > 1 or kwargs:
            raise self._no(module, "takes something else than one tensor")
        if isinstance(module, BinaryActivation):
            return self._binary(module, x)
        if isinstance(module, _DROPOUT) and module.training:
            raise self._no(module, "is in training mode and draws at random")
        if isinstance(module, _BATCH_NORM):
            return self._batch_norm(module, x)
        kind = type(module)
        if kind.forward is nn.Linear.forward:
            w, b = self._own(module, "weight"), self._own(module, "bias")
            return self._affine(functional.linear, x, w, b)
        if isinstance(module, _CONVOLUTIONS) and kind.forward in [c.forward for c in _CONVOLUTIONS]:
            w, b = self._own(module, "weight"), self._own(module, "bias")
            return self._affine(lambda h, v: module._conv_forward(h, v, None), x, w, b)
        if kind in _LINEAR_MODULES and is_plain(module):
            return each(module, x)
        if isinstance(module, _DROPOUT):
            return x
        if not x.still:
            raise self._no(module, "has an input that moves")
        if any(self._tensor(parameter).moves for parameter in module.parameters()):
            raise self._no(module, "moves and is not linear")
        return value(module(x.a))

    def _binary(self, module: BinaryActivation, x: Moving) -> Moving:
        low, high = module.levels
        if x.still:
            return value(torch.where(x.a >= 0, high, low))
        self._layers += 1
        return self._binarise(self._layers - 1, module.levels, x)

    def _affine(self, function: Function, x: Moving, w: Moving | None, b: Moving | None) -> Moving:
        assert w is not None
        # The step adds three roundings to each weight and the bias one term.
        result = product(function, x, w, w.a[0].numel() + 5, self._place)
        if b is None:
            return result
        return add(result, each(lambda part: part.reshape([-1] + [1] * (w.a.ndim - 2)), b))

    def _batch_norm(self, module: Any, x: Moving) -> Moving:
        if module.training or module.running_mean is None:
            raise self._no(module, "is in training mode and normalises by the batch")

        def by_channel(tensor: Tensor) -> Tensor:
            return tensor.reshape([1, -1] + [1] * (x.a.ndim - 2))

        scale = value(by_channel((module.running_var + module.eps).rsqrt()))
        centred = add(x, value(by_channel(module.running_mean)), -1)
        result = product(operator.mul, centred, scale, 4, self._place)
        w, b = self._own(module, "weight"), self._own(module, "bias")
        if w is not None:
            result = product(operator.mul, result, each(by_channel, w), 4, self._place)
        return result if b is None else add(result, each(by_channel, b))

    def call_method(self, target: Any, args: Any, kwargs: Any) -> Any:
        x = args[0]
        if not isinstance(x, Moving):
            return super().call_method(target, args, kwargs)
        if target in ("size", "dim", "numel"):
            return getattr(x.a, target)(*args[1:], **kwargs)
        if target in _LINEAR_METHODS:
            return each(lambda part: getattr(part, target)(*args[1:], **kwargs), x)
        if target in _AS_FUNCTIONS:
            return self.call_function(_AS_FUNCTIONS[target], args, kwargs)
        return self._anything(
            lambda a, *rest, **named: getattr(a, target)(*rest, **named), args, kwargs, target
        )

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        if not _any(lambda _: True, (args, kwargs)):
            return super().call_function(target, args, kwargs)
        if target is getattr:
            return getattr(args[0].a, args[1])
        if target in _SUMS and not kwargs:
            return add(args[0], args[1], _SUMS[target])
        if target in (operator.neg, torch.neg):
            return negative(args[0])
        if target in _PRODUCTS:
            x, w = sorted((value(args[0]), value(args[1])), key=lambda v: v.jumps, reverse=True)
            return product(operator.mul, x, w, 1, self._place)
        if target in _QUOTIENTS and not kwargs and not _any(lambda v: not v.still, args[1]):
            return product(operator.mul, value(args[0]), value(1 / value(args[1]).a), 2, self._place)
        if target in _KERNELS:
            return self._kernel(target, *args, **kwargs)
        if target in _LINEAR_FUNCTIONS and isinstance(args[0], Moving):
            return each(lambda part: target(part, *args[1:], **kwargs), args[0])
        if target in (torch.cat, torch.concat):
            return join(partial(_joined, target, args[1:], kwargs), args[0])
        return self._anything(target, args, kwargs, getattr(target, "__name__", str(target)))

    def _kernel(
        self, function: Function, input: Moving, weight: Any, bias: Any = None, *rest: Any, **named: Any
    ) -> Moving:
        b = None if bias is None else value(bias)
        return self._affine(lambda h, v: function(h, v, None, *rest, **named), input, value(weight), b)

    def _anything(self, function: Function, args: Any, kwargs: Any, name: str) -> Any:
        """Any function, of what is still."""
        if _any(lambda v: not v.still, (args, kwargs)):
            raise NotExactError(f"{self._place}: {name} of a value that moves")
        if kwargs.get("training"):
            raise NotExactError(f"{self._place}: {name} in training mode")
        result = function(*_tensors(args), **_tensors(kwargs))
        return value(result) if isinstance(result, Tensor) else result


def _joined(function: Function, rest: Any, named: Any, tensors: list[Tensor]) -> Any:
    return function(tensors, *rest, **named)
