"""Networks of any build along a direction, read off passes of affine values through their forward."""

import copy
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from srste.curve.network.affine import AffineValue
from srste.curve.network.base import (
    Array,
    Dense,
    Index,
    Link,
    NotExactError,
    RoundedLayer,
    Sparse,
    is_finite,
    on_the_fence,
)
from srste.curve.network.interpreter import Binarise, Levels, Pass, advice, failing_as, trace
from srste.curve.network.sequential import as_double

_AT_ONCE = 4_000_000  # numbers of the largest layer in a pass that finds links
_MOST_EDGES = 50_000_000  # of one link, 1.2 GB
_LOOKED_AT = 16  # examples
_STEP = 0.37  # a learning rate like any other
_DENSE = 0.25  # a larger part of weights that are not zero is stored with the zeros


class Traced:
    """A `srste.curve.network.base.Network`, from the model's forward.

    Args: direction: a tensor of the parameter's shape for every name in ``model.named_parameters()``.
        inputs: (rows >= 1, ...), some of those that the model is to run on.
    Raises: NotExactError naming what has no exact form.
    """

    def __init__(self, model: nn.Module, direction: Mapping[str, Tensor], inputs: Tensor) -> None:
        # In float64, on the CPU. A parameter that stands in several places stays one.
        self._given, self._direction = model, direction
        self._model = copy.deepcopy(model).to(device="cpu", dtype=torch.float64)
        with torch.random.fork_rng(devices=[]):
            self._traced = trace(self._model)
        self._parameters = {}
        for name, parameter in self._model.named_parameters():
            moved = direction[name].detach().to(device="cpu", dtype=torch.float64)
            moving = AffineValue(parameter.detach(), moved if moved.any() else None)
            self._parameters[id(parameter)] = moving
        with self._judged():
            self._look_at(inputs)
            self._check_that_it_is_the_model(inputs)

    def check(self, inputs: Tensor) -> None:
        """Whether the network is the model's for these inputs too, which are like those that it was made
        from. Raises: NotExactError if it is not."""
        with self._judged():
            self._check_that_it_is_the_model(inputs)

    @contextmanager
    def _judged(self) -> Iterator[None]:
        """Within it passes leave the random state as it is, and a reason why nothing is exact comes
        with advice."""
        with torch.random.fork_rng(devices=[]):
            try:
                yield
            except NotExactError as error:
                raise NotExactError(f"{error}{advice(self._traced)}") from error

    def _look_at(self, inputs: Tensor) -> None:
        """Find the layers, from the first of the inputs."""
        self.units: list[int] = []
        self.levels: list[Levels] = []
        example = as_double(inputs[:1].detach().cpu()).clone()

        def look(_: int, levels: Levels, x: AffineValue) -> AffineValue:
            self.levels.append(levels)
            self.units.append(x.a[0].numel())
            return _units_at(torch.zeros_like(x.a))

        try:
            *_, output = self._values(example, look)
        except NotExactError as error:
            if error.__cause__ is not None:
                with failing_as(ValueError, "the model does not take these inputs"):
                    _output_of(self._given, inputs, self._direction, None)
            raise
        if output.a.ndim < 1 or len(output.a) != 1:
            raise NotExactError(f"its output for one example has the shape {tuple(output.a.shape)}")
        self.units.append(output.a[0].numel())
        self.output_shape = tuple(output.a.shape[1:])
        other = 0.3 - 1.7 * example if example.is_floating_point() else inputs[-1:].detach().cpu()
        self._check_that_examples_are_apart(example, other)
        # Of zero units, where one row does for all examples; it is cheaper.
        self._unit_rows: int | None = None
        with suppress(NotExactError):  # a forward may want all its values to have as many rows
            self._unit_rows = 1 if self._can_share_row(example) else None
        beginnings = self._beginnings(example, self._unit_rows)
        self.constants = [None if x.per_example else _beginning(x) for x in beginnings]
        self._example = example

    @cached_property
    def links(self) -> dict[tuple[int, int], Link]:
        """See `srste.curve.network.base.Network`; only a curve asks for them, not a single step."""
        links: dict[tuple[int, int], Link] = {}
        for source in range(len(self.levels)):
            self._find_links(source, self._example, links)
        return links

    def _check_that_it_is_the_model(self, inputs: Tensor) -> None:
        """Whether a pass on values gives what the model itself gives after a step, for some of the
        inputs: its graph may not show all that it does. On the CPU, since on others products may be less
        precise than their dtype."""
        inputs = inputs[:: math.ceil(len(inputs) / _LOOKED_AT)]
        random_state = torch.get_rng_state()
        with failing_as(NotExactError, "it does not run on the CPU"):
            real, taken = _output_of(self._given, inputs, self._direction, torch.device("cpu"))
        if not torch.equal(random_state, torch.get_rng_state()):
            raise NotExactError("it draws at random")
        if real.shape != (len(inputs), *self.output_shape):
            raise NotExactError(f"its output has the shape {tuple(real.shape)}")
        *hidden, last = self.stepped(taken, _STEP)
        u = torch.finfo(real.dtype).eps / 2
        values = real.double().cpu().numpy().reshape(last.values.shape)
        with np.errstate(over="ignore", invalid="ignore"):
            off = ~(np.abs(values - last.values) <= last.rounding(u)).all(axis=1)
            decided = ~on_the_fence(hidden, len(inputs), u) & np.isfinite(values).all(axis=1)
        if (off & decided).any():
            raise NotExactError("its forward does what its graph does not show, as writing in place")

    def _check_that_examples_are_apart(self, example: Tensor, other: Tensor) -> None:
        # After a step: weights that are zero as yet hide what they do.
        both = self.stepped(torch.cat((example, other)), _STEP)
        for alone, with_other in zip(self.stepped(example, _STEP), both, strict=True):
            allowed = 1e-9 * alone.magnitude[0] + 1e-300
            if (np.abs(alone.values[0] - with_other.values[0]) > allowed).any():
                raise NotExactError("an example's output depends on the other examples of its batch")

    def _can_share_row(self, example: Tensor) -> bool:
        """Whether one row of zero units gives what a row for each example does."""
        several = example.expand(3, *example.shape[1:])
        each, one = self._beginnings(several, None), self._beginnings(several, 1)
        return all(
            len(a.a) in (1, 3) and a.a.shape[1:] == b.a.shape[1:] and bool((a.a == b.a).all())
            for a, b in zip(one, each, strict=True)
        )

    def _find_links(self, source: int, example: Tensor, links: dict[tuple[int, int], Link]) -> None:
        """Turn each unit of a layer from 0 to 1, in a row by itself, and read off what that adds."""
        units = self.units[source]
        at_once = max(1, _AT_ONCE // max(self.units))
        edges: dict[int, list[tuple[Index, Index, Array]]] = {t: [] for t in range(len(self.units))}
        for first in range(0, units, at_once):
            unit_rows = torch.zeros(min(at_once, units - first), units, dtype=torch.float64)
            unit_rows[:, first : first + len(unit_rows)].fill_diagonal_(1)
            for target, response in enumerate(self._responses(source, unit_rows, example)):
                if target > source:
                    edges[target].append(_edges(response, len(unit_rows), first))
                    if sum(len(begins) for begins, _, _ in edges[target]) > _MOST_EDGES:
                        raise NotExactError(
                            f"two of its layers have more than {_MOST_EDGES:,} links between their units"
                        )
        for target, parts in edges.items():
            if parts and any(len(begins) for begins, _, _ in parts):
                begins, ends, pairs = (np.concatenate(part) for part in zip(*parts, strict=True))
                links[source, target] = _link(units, self.units[target], begins, ends, pairs)

    def _responses(self, source: int, unit_rows: Tensor, example: Tensor) -> list[AffineValue]:
        """All that is binarised and the output, with what units of a layer that are on add to them."""

        def units(layer: int, _: Levels, x: AffineValue) -> AffineValue:
            response = unit_rows.reshape(-1, *x.a.shape[1:]) if layer == source else None
            return AffineValue(torch.zeros_like(x.a), on_units=True, response=response)

        rows = self._unit_rows or len(unit_rows)
        return self._values(example.expand(rows, *example.shape[1:]), units)

    def beginnings(self, inputs: Tensor, out: Array | None = None) -> list[Array | None]:
        values = self._beginnings(as_double(inputs.detach().cpu()), self._unit_rows)
        parts = [_beginning(x) for x in values]
        if out is not None and parts[0] is not None:
            out[:] = parts[0]
            parts[0] = out
        return parts

    def _beginnings(self, inputs: Tensor, rows: int | None) -> list[AffineValue]:
        """All that is binarised and the output, where binary units are zero in that many rows."""
        return self._values(inputs, lambda _, __, x: _units_at(torch.zeros_like(x.a[:rows])))

    def _values(self, inputs: Tensor, binarise: Binarise) -> list[AffineValue]:
        """All that is binarised, and the output."""
        values: list[AffineValue] = []

        def look(layer: int, levels: Levels, x: AffineValue) -> AffineValue:
            values.append(x)
            return binarise(layer, levels, x)

        values.append(Pass(self._traced, self._parameters, look).output_of(inputs))
        return values

    def stepped(self, inputs: Tensor, lr: float) -> list[RoundedLayer]:
        layers: list[RoundedLayer] = []

        def keep(x: AffineValue) -> Tensor:
            assert x.magnitude is not None
            values = x.a if x.d is None else x.a - lr * x.d
            magnitude = _flat(x.magnitude, values)
            layers.append(RoundedLayer(_flat(values, values), magnitude, x.roundings))
            return values

        def binarise(_: int, levels: Levels, x: AffineValue) -> AffineValue:
            low, high = levels
            return _units_at(torch.where(keep(x) >= 0, high, low).double())

        parameters = {
            name: AffineValue(
                p.a, p.d, magnitude=p.a.abs() if p.d is None else p.a.abs() + lr * p.d.abs()
            )
            for name, p in self._parameters.items()
        }
        keep(Pass(self._traced, parameters, binarise).output_of(as_double(inputs.detach().cpu())))
        return layers


def _output_of(
    given: nn.Module, inputs: Tensor, direction: Mapping[str, Tensor], device: torch.device | None
) -> tuple[Tensor, Tensor]:
    """What the model itself gives after a step, and the inputs as it takes them: in its own dtype if
    they are of a floating one. device: where, if not where it is."""
    model = copy.deepcopy(given).to(device)
    first = next((p for p in model.parameters() if p.is_floating_point()), inputs)
    dtype = first.dtype if inputs.is_floating_point() else inputs.dtype
    taken = inputs.detach().to(first.device, dtype)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.sub_(_STEP * direction[name].to(parameter))
        passed = taken.clone()
        output: Tensor = model(passed)
    if not torch.equal(passed, taken):
        raise NotExactError("it writes into its inputs")
    return output, taken


def _units_at(values: Tensor) -> AffineValue:
    return AffineValue(values, on_units=True, magnitude=values.abs())


def _flat(part: Tensor | None, like: Tensor) -> Array:
    expanded = torch.zeros_like(like) if part is None else part.expand_as(like)
    flat: Array = expanded.reshape(len(like), -1).numpy()
    return flat


def _beginning(x: AffineValue) -> Array | None:
    """(rows, 2 units) of a value, one row if all are the same, None if they are zero."""
    both = np.concatenate((_flat(x.a, x.a), _flat(x.d, x.a)), axis=1)
    _check_finite(both)
    if len(both) > 1 and (both == both[0]).all():
        both = both[:1]
    return both if both.any() else None


def _edges(x: AffineValue, rows: int, first: int) -> tuple[Index, Index, Array]:
    """(units, their targets, what they add to a and d): responses of a value, from unit ``first`` on."""
    like = x.a.new_zeros(()).expand(rows, *x.a.shape[1:])
    responses = [_flat(part, like) for part in (x.response, x.response_d)]
    begins, ends = (k.astype(np.int64) for k in np.nonzero((responses[0] != 0) | (responses[1] != 0)))
    pairs = np.stack([response[begins, ends] for response in responses], axis=1)
    _check_finite(pairs)
    return begins + first, ends, pairs


def _check_finite(array: Array) -> None:
    # Buffers and constants have not been checked: a unit of nan would be up or down by chance.
    if not is_finite(array):
        raise ValueError("the model makes a value that is not finite of these inputs")


def _link(units: int, targets: int, begins: Index, ends: Index, pairs: Array) -> Link:
    if len(begins) > _DENSE * units * targets:
        columns = np.zeros((units, 2 * targets))
        columns[begins, ends], columns[begins, targets + ends] = pairs.T
        return Dense(columns)
    starts = np.concatenate(([0], np.cumsum(np.bincount(begins, minlength=units))))
    return Sparse(starts, ends, pairs)
