"""A pass through the forward of any model, on affine values: it shows what is exact.

The forward pass is traced (torch.fx). What is the same at every learning rate may go through anything.
What changes with it may be added, scaled by constants, averaged, reshaped, go through layers whose
parameters do not move, and be binarised; a layer whose weights move needs an input that is constant
between two flips, as that of binary units is. Then every pre-activation is linear in t between flips.
What a unit adds to it must be the same for every example: units may be multiplied by constants alone.
"""

import operator
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from srste.curve.network import operations
from srste.curve.network.affine import (
    AffineValue,
    Function,
    add,
    check_usable,
    each,
    join,
    negative,
    product,
    value,
)
from srste.curve.network.base import NotExactError
from srste.curve.network.sequential import is_plain
from srste.errors import first_line
from srste.networks.activations import levels_of

Levels = tuple[float, float]
Binarise = Callable[[int, Levels, AffineValue], AffineValue]

_NOT_PLAIN = "has hooks, parameters made of others, or another forward than its class"

_BINARY_WEIGHTS = ": weights that are binarised have no exact form"


@contextmanager
def failing_as(kind: type[Exception], what: str) -> Iterator[None]:
    """Whatever a forward may raise within it becomes of that kind, and one line, after ``what``."""
    try:
        yield
    except NotExactError:
        raise
    except Exception as error:
        raise kind(f"{what}: {first_line(error)}") from error


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return levels_of(m) is not None or super().is_leaf_module(m, module_qualified_name)


def trace(model: nn.Module) -> fx.GraphModule:
    """The model's forward as a graph. Raises: NotExactError if it cannot be told beforehand."""
    if not is_plain(model):
        raise NotExactError(f"{type(model).__name__} {_NOT_PLAIN}")
    try:
        return fx.GraphModule(model, _Tracer().trace(model))
    except Exception as error:  # whatever a forward may raise that is run without values
        reason = f"its forward cannot be traced ({first_line(error)})"
        raise NotExactError(f"{type(model).__name__}: {reason}") from error


def advice(traced: fx.GraphModule) -> str:
    """What is added to the reason why a forward has no exact form: "" if nothing helps."""
    detaches = (n.target in ("detach", torch.detach) for n in traced.graph.nodes)
    return "; a straight-through sign is exact as srste.networks.activations.BinaryActivation" * any(
        detaches
    )


def _any(test: Callable[[AffineValue], bool], values: Any) -> bool:
    results: list[bool] = []
    fx.node.map_aggregate(values, lambda v: results.append(isinstance(v, AffineValue) and test(v)))
    return any(results)


def _tensors(values: Any) -> Any:
    """The same with tensors in the place of values."""
    return fx.node.map_aggregate(values, lambda v: v.a if isinstance(v, AffineValue) else v)


class Pass(fx.Interpreter):
    """One pass through a traced model.

    Args:
        parameters: by identity, each as a value.
        binarise: (number of the layer, its levels, its pre-activations) to its units.
    """

    def __init__(
        self, traced: fx.GraphModule, parameters: Mapping[int, AffineValue], binarise: Binarise
    ) -> None:
        super().__init__(traced)
        self.extra_traceback = False  # our messages are one line
        self._parameters = parameters
        self._binarise = binarise
        self._layers = 0
        self._bounded: dict[tuple[str, int, str], tuple[AffineValue, AffineValue]] = {}

    def output_of(self, inputs: Tensor) -> AffineValue:
        """The output for inputs (rows, ...). Raises: NotExactError naming what is in the way."""
        with torch.no_grad():
            output = self.run(value(inputs, per_example=True))
        if not isinstance(output, AffineValue):
            raise NotExactError(f"the model gives a {type(output).__name__}, not one tensor")
        check_usable(output)
        return output

    def run_node(self, n: fx.Node) -> Any:
        self._place = str(n.target) if n.op == "call_module" else n.name
        with failing_as(NotExactError, self._place):
            return super().run_node(n)

    def _stand_in(
        self, function: Function, x: AffineValue, name: str, reason: str, args: Any, kwargs: Any
    ) -> AffineValue:
        """What is not linear in x may take part in a sum if it cancels there, as in the straight-through
        ``c = hardtanh(x); c + (sign(x) - c).detach()``. The same of the same value is one."""
        bound = operations.bounded(name, args, kwargs)
        if bound is None or x.unusable:
            raise NotExactError(reason)
        key = (name, id(x), repr((args, kwargs)))
        if key not in self._bounded:
            size, has_sign = bound
            a = function(x.a.clone(), *args, **kwargs)  # which may be told to write in place
            magnitude = None if x.magnitude is None else torch.full_like(x.magnitude, size)
            stand_in = AffineValue(
                a, on_units=True, magnitude=magnitude, roundings=x.roundings,
                per_example=x.per_example, unusable=reason, sign_of=x if has_sign else None,
            )  # fmt: skip
            self._bounded[key] = x, stand_in
        return self._bounded[key][1]

    def get_attr(self, target: Any, args: Any, kwargs: Any) -> Any:
        attribute = self.fetch_attr(target)
        return self._tensor(attribute) if isinstance(attribute, Tensor) else attribute

    def _tensor(self, tensor: Tensor) -> AffineValue:
        parameter = self._parameters.get(id(tensor))
        return value(tensor) if parameter is None else parameter

    def _parameter(self, module: nn.Module, name: str) -> AffineValue | None:
        """The module's parameter of that name, None if it goes without."""
        if name not in module._parameters:
            raise self._refusal(module, _NOT_PLAIN)
        parameter = module._parameters[name]
        return None if parameter is None else self._tensor(parameter)

    def _refusal(self, module: nn.Module, reason: str) -> NotExactError:
        return NotExactError(f"module {self._place} ({type(module).__name__}) {reason}")

    def call_module(self, target: Any, args: Any, kwargs: Any) -> Any:
        module = self.fetch_attr(target)
        x = args[0] if args else None
        if not isinstance(x, AffineValue) or len(args) > 1 or kwargs:
            raise self._refusal(module, "takes something else than one tensor")
        if not is_plain(module):
            raise self._refusal(module, _NOT_PLAIN)
        if (levels := levels_of(module)) is not None:
            return self._binary(levels, x)
        if isinstance(module, operations.DROPOUT) and module.training:
            raise self._refusal(module, "is in training mode and draws at random")
        if isinstance(module, operations.BATCH_NORM):
            return self._batch_norm(module, x)
        kind = type(module)
        if kind.forward in [layer.forward for layer in (nn.Linear, *operations.CONVOLUTIONS)]:
            function: Any = getattr(module, "_conv_forward", functional.linear)
            w, b = self._parameter(module, "weight"), self._parameter(module, "bias")
            return self._affine(lambda h, v: function(h, v, None), x, w, b)
        if kind in operations.LINEAR_MODULES:
            return each(module, x)
        if isinstance(module, operations.DROPOUT):
            return x
        if not x.constant:
            reason = str(self._refusal(module, "has an input that moves"))
            ends = {n: v for n, v in vars(module).items() if n in ("min_val", "max_val")}
            return self._stand_in(lambda a, **_: module(a), x, kind.__name__, reason, (), ends)
        if any(self._tensor(parameter).moves for parameter in module.parameters()):
            raise self._refusal(module, "moves and is not linear")
        return value(module(x.a), x.per_example)

    def _binary(self, levels: Levels, x: AffineValue) -> AffineValue:
        low, high = levels
        x = x.sign_of or x
        check_usable(x)
        if x.constant:
            return value(torch.where(x.a >= 0, high, low), x.per_example)
        self._layers += 1
        return self._binarise(self._layers - 1, levels, x)

    def _compared(self, comparison: str, x: Any, y: Any) -> AffineValue:
        """1 where it holds, 0 elsewhere."""
        x, y = (self._signed(one, other) for one, other in ((x, y), (y, x)))
        less = comparison in ("le", "gt")
        holds = self._binary((0.0, 1.0), add(y, x, -1) if less else add(x, y, -1))
        return add(1.0, holds, -1) if comparison in ("gt", "lt") else holds

    def _signed(self, x: Any, y: Any) -> Any:
        """In the place of x, the value whose sign it has, where it is compared with zero."""
        if not isinstance(x, AffineValue) or x.sign_of is None:
            return x
        zero = value(y)
        return x.sign_of if zero.constant and not zero.a.any() else x

    def _sign(self, x: AffineValue) -> AffineValue:
        """That of `torch.sign`: 0 at 0."""
        return add(self._compared("ge", x, 0.0), self._compared("le", x, 0.0), -1)

    def _where(self, condition: Any, yes: Any, no: Any) -> AffineValue:
        holds = value(condition)
        if holds.constant:
            holds = value(holds.a.double(), holds.per_example)
        return add(no, self._times(holds, add(yes, no, -1)))

    def _times(self, x: Any, y: Any) -> AffineValue:
        x, y = sorted((value(x), value(y)), key=lambda v: v.on_units, reverse=True)
        return product(operator.mul, x, y, 1, self._place)

    def _matrix_product(self, function: Function, x: AffineValue, y: AffineValue) -> AffineValue:
        roundings = x.a.shape[-1] + 5
        if y.on_units and not x.on_units:
            return product(lambda h, v: function(v, h), y, x, roundings, self._place)
        return product(function, x, y, roundings, self._place)

    def _affine(
        self, function: Function, x: AffineValue, w: AffineValue | None, b: AffineValue | None
    ) -> AffineValue:
        assert w is not None
        # The step adds three roundings to each weight and the bias one term.
        result = product(function, x, w, w.a[0].numel() + 5, self._place, _BINARY_WEIGHTS)
        if b is None:
            return result
        return add(result, each(lambda part: part.reshape([-1] + [1] * (w.a.ndim - 2)), b))

    def _batch_norm(self, module: Any, x: AffineValue) -> AffineValue:
        if module.training or module.running_mean is None:
            mode = "is in training mode and" if module.training else "has no running statistics and"
            raise self._refusal(module, f"{mode} normalises by the batch")

        def by_channel(tensor: Tensor) -> Tensor:
            return tensor.reshape([1, -1] + [1] * (x.a.ndim - 2))

        scale = value(by_channel((module.running_var + module.eps).rsqrt()))
        centred = add(x, value(by_channel(module.running_mean)), -1)
        result = product(operator.mul, centred, scale, 4, self._place)
        w, b = self._parameter(module, "weight"), self._parameter(module, "bias")
        if w is not None:
            result = product(operator.mul, result, each(by_channel, w), 4, self._place)
        return result if b is None else add(result, each(by_channel, b))

    def call_method(self, target: Any, args: Any, kwargs: Any) -> Any:
        x = args[0]
        if not isinstance(x, AffineValue):
            return super().call_method(target, args, kwargs)
        if target in ("size", "dim", "numel"):
            return getattr(x.a, target)(*args[1:], **kwargs)
        if target in operations.UNCHANGED and not x.constant:
            return x
        if target in operations.LINEAR_METHODS:
            return self._linear(_method(target), x, args[1:], kwargs)
        if target in operations.METHODS_IN_PARTS:
            return self._in_parts(_method(target), x, args[1:], kwargs)
        if target in ("view_as", "reshape_as"):
            shape = args[1].a.shape[1:]
            return each(lambda part: part.reshape(len(part), *shape), x)
        if target in operations.CASTS and not x.constant and _is_double(args[1:], kwargs):
            return x
        if target in operations.AS_FUNCTIONS:
            return self.call_function(operations.AS_FUNCTIONS[target], args, kwargs)
        return self._any_function(_method(target), args, kwargs, target)

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        if not _any(lambda _: True, (args, kwargs)):
            return super().call_function(target, args, kwargs)
        if target in (operator.getitem, getattr) and not isinstance(args[0], AffineValue):
            return target(*args)
        if target is getattr:
            return self._attribute(*args)
        if target in operations.SUMS and kwargs.keys() <= {"alpha"}:
            other = self._times(args[1], kwargs["alpha"]) if kwargs else args[1]
            return add(args[0], other, operations.SUMS[target])
        if target in operations.NEGATIVES:
            return negative(args[0])
        if target in operations.PRODUCTS:
            return self._times(*args)
        if target in operations.QUOTIENTS and not kwargs and not _any(lambda v: not v.constant, args[1]):
            by = value(args[1])
            return product(operator.mul, value(args[0]), value(1 / by.a, by.per_example), 2, self._place)
        if target in operations.MATRIX_PRODUCTS:
            return self._matrix_product(target, value(args[0]), value(args[1]))
        if target in operations.KERNELS:
            return self._kernel(target, *args, **kwargs)
        if target in operations.UNCHANGING and isinstance(args[0], AffineValue) and not args[0].constant:
            return args[0]
        if target in operations.LINEAR and isinstance(args[0], AffineValue):
            return self._linear(target, args[0], args[1:], kwargs)
        if target in operations.CONSTANTS and isinstance(args[0], AffineValue):
            return value(target(args[0].a, *args[1:], **kwargs))
        if target in operations.IN_PARTS:
            return self._in_parts(target, args[0], args[1:], kwargs)
        if target in operations.JOINS:
            return join(lambda tensors: target(tensors, *args[1:], **kwargs), args[0])
        if target is functional.pad and _pads_linearly(*args, **kwargs):
            return each(lambda part: target(part, *args[1:], **kwargs), args[0])
        if _any(lambda v: not v.constant, (args, kwargs)):
            if target in operations.COMPARISONS:
                return self._compared(operations.COMPARISONS[target], *args)
            if target is torch.sign:
                return self._sign(*args)
            if target is torch.where:
                return self._where(*args)
        return self._any_function(target, args, kwargs, getattr(target, "__name__", str(target)))

    def _attribute(self, x: AffineValue, name: str) -> Any:
        if name in operations.TRANSPOSES:
            return each(lambda part: getattr(part, name), x)
        attribute = getattr(x.a, name)
        if isinstance(attribute, Tensor):
            raise NotExactError(f"{self._place}: {name} of a value")
        return attribute

    def _linear(self, function: Function, x: AffineValue, rest: Any, named: Any) -> AffineValue:
        """A linear function of x; what else it takes is constant."""
        others = (rest, named)
        if _any(lambda v: not v.constant or (x.on_units and v.per_example), others):
            raise NotExactError(f"{self._place}: what it reads depends on the step or on the example")
        result = each(lambda part: function(part, *_tensors(rest), **_tensors(named)), x)
        return replace(result, per_example=result.per_example or _any(lambda v: v.per_example, others))

    def _in_parts(
        self, function: Function, x: AffineValue, rest: Any, named: Any
    ) -> tuple[AffineValue, ...]:
        count = len(function(x.a, *rest, **named))
        return tuple(each(lambda p, k=k: function(p, *rest, **named)[k], x) for k in range(count))

    def _kernel(
        self,
        function: Function,
        input: AffineValue,
        weight: Any,
        bias: Any = None,
        *rest: Any,
        **named: Any,
    ) -> AffineValue:
        b = None if bias is None else value(bias)
        return self._affine(lambda h, v: function(h, v, None, *rest, **named), input, value(weight), b)

    def _any_function(self, function: Function, args: Any, kwargs: Any, name: str) -> Any:
        """Any function, of what is constant."""
        if _any(lambda v: not v.constant, (args, kwargs)):
            weights = any(args[0] is parameter for parameter in self._parameters.values())
            moving = "weights that move with the step" if weights else "a value that moves"
            reason = f"{self._place}: {name} of {moving}"
            if not isinstance(args[0], AffineValue) or _any(lambda _: True, (args[1:], kwargs)):
                raise NotExactError(reason)
            return self._stand_in(function, args[0], name, reason, args[1:], kwargs)
        if kwargs.get("training"):
            raise NotExactError(f"{self._place}: {name} in training mode")
        result = function(*_tensors(args), **_tensors(kwargs))
        per_example = _any(lambda v: v.per_example, (args, kwargs))
        if isinstance(result, tuple | list):
            return type(result)(value(r, per_example) if isinstance(r, Tensor) else r for r in result)
        return value(result, per_example) if isinstance(result, Tensor) else result


def _method(name: str) -> Function:
    return lambda x, *rest, **named: getattr(x, name)(*rest, **named)


def _is_double(args: Any, kwargs: Any) -> bool:
    """Whether a cast to these leaves a float64 what it is, but for rounding to a float32."""
    allowed = (torch.float32, torch.float64)
    return all(
        v in allowed
        or isinstance(v, torch.device)
        or (isinstance(v, AffineValue) and v.a.dtype == torch.float64)
        for v in (*args, *kwargs.values())
    )


def _pads_linearly(x: Any, pad: Any, mode: str = "constant", value: float | None = None) -> bool:
    return isinstance(x, AffineValue) and (mode != "constant" or not value)
