"""Networks of any build, as the loss curve follows them, found by passes through their forward."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from srste.curve.chain import as_float64
from srste.curve.moving import Moving
from srste.curve.network import Array, Dense, Index, Link, NotExactError, Reach, Sparse
from srste.curve.traced import Levels, Pass, error_line, trace

_AT_ONCE = 4_000_000  # numbers of the largest layer in a pass that finds links
_MOST_EDGES = 50_000_000  # of one link, 1.2 GB
_DENSE = 0.25  # a larger part of weights that are not zero is stored with the zeros


class Traced:
    """A `srste.curve.network.Network`, from the model's forward.

    Args: direction: a tensor of the parameter's shape for every name in ``model.named_parameters()``.
        inputs: (rows >= 1, ...), some of those that the model is to run on.
    Raises: NotExactError naming what has no exact form.
    """

    def __init__(self, model: nn.Module, direction: Mapping[str, Tensor], inputs: Tensor) -> None:
        # In float64, on the CPU. A parameter that stands in several places stays one.
        self._model = copy.deepcopy(model).to(device="cpu", dtype=torch.float64)
        self._traced = trace(self._model)
        self._parameters = {}
        for name, parameter in self._model.named_parameters():
            moved = direction[name].detach().to(device="cpu", dtype=torch.float64)
            self._parameters[id(parameter)] = Moving(parameter.detach(), moved if moved.any() else None)

        self.units: list[int] = []
        self.levels: list[Levels] = []
        self._shapes: list[torch.Size] = []
        example = torch.from_numpy(as_float64(inputs[:1]))

        def look(layer: int, levels: Levels, x: Moving) -> Moving:
            self.levels.append(levels)
            self._shapes.append(x.a.shape[1:])
            self.units.append(x.a[0].numel())
            return _units_at(torch.zeros_like(x.a))

        try:
            output = Pass(self._traced, self._parameters, look).output_of(example)
        except NotExactError as error:
            if error.__cause__ is not None:
                self._check_that_it_takes(inputs)
            raise
        if output.a.ndim < 1 or len(output.a) != 1:
            raise NotExactError(f"its output for one example has the shape {tuple(output.a.shape)}")
        self.units.append(output.a[0].numel())
        self.output_shape = tuple(output.a.shape[1:])
        self._check_that_examples_are_apart(example)
        self.links: dict[tuple[int, int], Link] = {}
        for source in range(len(self.levels)):
            self._find_links(source, example)

    def _check_that_it_takes(self, inputs: Tensor) -> None:
        try:
            with torch.no_grad():
                self._model(inputs.double().cpu())
        except Exception as error:  # whatever a forward may raise
            raise ValueError(f"the model does not take these inputs: {error_line(error)}") from error

    def _check_that_examples_are_apart(self, example: Tensor) -> None:
        both = self.stepped(torch.cat((example, 0.3 - 1.7 * example)), 0.0)
        for alone, beside in zip(self.stepped(example, 0.0), both, strict=True):
            allowed = 1e-9 * alone.reach[0] + 1e-300
            if (np.abs(alone.values[0] - beside.values[0]) > allowed).any():
                raise NotExactError("an example's output depends on the other examples of its batch")

    def _find_links(self, source: int, example: Tensor) -> None:
        """Turns the units of a layer from 0 to 1, each in a row of its own, and sees what that adds."""
        units = self.units[source]
        rows = max(1, _AT_ONCE // max(self.units))
        found: dict[int, list[tuple[Index, Index, Array]]] = {t: [] for t in range(len(self.units))}
        for first in range(0, units, rows):
            several = torch.zeros(min(rows, units - first), units, dtype=torch.float64)
            several[:, first : first + len(several)].fill_diagonal_(1)

            def look(
                layer: int, _: Levels, x: Moving, first: int = first, turned: Tensor = several
            ) -> Moving:
                if layer > source:
                    found[layer].append(_edges(x, first))
                answer = turned.reshape(x.a.shape) if layer == source else None
                return Moving(torch.zeros_like(x.a), jumps=True, answer=answer)

            output = Pass(self._traced, self._parameters, look).output_of(
                example.expand(len(several), *example.shape[1:])
            )
            found[len(self.units) - 1].append(_edges(output, first))
        for target, parts in found.items():
            if parts and any(len(begins) for begins, _, _ in parts):
                begins, ends, pairs = (np.concatenate(part) for part in zip(*parts, strict=True))
                self.links[source, target] = _link(units, self.units[target], begins, ends, pairs)

    def beginnings(self, inputs: Tensor, out: Array | None = None) -> list[Array | None]:
        found: list[Moving] = []

        def look(_: int, __: Levels, x: Moving) -> Moving:
            found.append(x)
            return _units_at(torch.zeros_like(x.a))

        found.append(Pass(self._traced, self._parameters, look).output_of(inputs.double().cpu()))
        parts = [_beginning(x) for x in found]
        if out is not None and parts[0] is not None:
            out[:] = parts[0]
            parts[0] = out
        return parts

    def stepped(self, inputs: Tensor, lr: float) -> list[Reach]:
        found: list[Reach] = []

        def keep(x: Moving) -> Tensor:
            assert x.reach is not None
            values = x.a if x.d is None else x.a - lr * x.d
            rows = len(values)
            found.append(
                Reach(
                    values.reshape(rows, -1).numpy(),
                    x.reach.expand_as(values).reshape(rows, -1).numpy(),
                    x.terms,
                )
            )
            return values

        def binarise(_: int, levels: Levels, x: Moving) -> Moving:
            low, high = levels
            return _units_at(torch.where(keep(x) >= 0, high, low).double())

        reaching = {
            name: Moving(p.a, p.d, reach=p.a.abs() if p.d is None else p.a.abs() + lr * p.d.abs())
            for name, p in self._parameters.items()
        }
        keep(Pass(self._traced, reaching, binarise).output_of(inputs.double().cpu()))
        return found


def _units_at(values: Tensor) -> Moving:
    return Moving(values, jumps=True, reach=values.abs())


def _flat(part: Tensor | None, like: Tensor) -> Array:
    whole = torch.zeros_like(like) if part is None else part.expand(like.shape)
    flat: Array = whole.reshape(len(like), -1).numpy()
    return flat


def _beginning(x: Moving) -> Array | None:
    """(rows, 2 units) of a value, one row if all are the same, None if they are zero."""
    both = np.concatenate((_flat(x.a, x.a), _flat(x.d, x.a)), axis=1)
    if len(both) > 1 and (both == both[0]).all():
        both = both[:1]
    return both if both.any() else None


def _edges(x: Moving, first: int) -> tuple[Index, Index, Array]:
    """(units, their targets, what they add to a and d): answers of a value, from unit ``first`` on."""
    answers = [_flat(part, x.a) for part in (x.answer, x.answer_d)]
    begins, ends = (k.astype(np.int64) for k in np.nonzero((answers[0] != 0) | (answers[1] != 0)))
    if len(begins) > _MOST_EDGES:
        raise NotExactError(f"it has a layer with more than {_MOST_EDGES:,} links to another")
    return begins + first, ends, np.stack([answer[begins, ends] for answer in answers], axis=1)


def _link(units: int, targets: int, begins: Index, ends: Index, pairs: Array) -> Link:
    if len(begins) > _DENSE * units * targets:
        columns = np.zeros((units, 2 * targets))
        columns[begins, ends], columns[begins, targets + ends] = pairs.T
        return Dense(columns)
    starts = np.concatenate(([0], np.cumsum(np.bincount(begins, minlength=units))))
    return Sparse(starts, ends, pairs)
