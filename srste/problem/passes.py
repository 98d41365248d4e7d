"""Gradients of single passes, kept for the next study of the same weights and batch.

With nested draws, sample i of a batch is the same draw for every sample count, and the baseline is the
same for all of them: the sample counts 1 to 10 need ten passes a batch, and not 55.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from srste.problem.task import Batch, Task

MOST_BYTES = 2**28
"""The most that the gradients of one task may take, and again those with other draws; those used longest
ago go first."""


def kept(
    task: Task, batch: Batch, key: Hashable | None, make: Callable[[], dict[str, Tensor]]
) -> dict[str, Tensor]:
    """Return a gradient of a task that has an attribute ``passes``, made if it is not there; of another
    task, or without a key, it is made anew.

    Args: key: of all that the gradient depends on but for the model, the loss and the batch.
    """
    passes: Passes | None = getattr(task, "passes", None)
    if passes is None or key is None:
        return make()
    return passes.get(task.model, batch, (key, id(task.loss)), make)


_OURS = "srste."


def identity_of(part: object, but: Collection[str] = ()) -> Hashable | None:
    """Return what tells parts of srste's from each other: their class and their attributes. None of a
    user's, which may be anything, also something that changes from pass to pass.

    Args: but: the attributes that do not count, since they act on what is kept.
    """
    kind = type(part)
    if not kind.__module__.startswith(_OURS):
        return None
    state = []
    for name, value in sorted(vars(part).items()):
        if name in but:
            continue
        plain = isinstance(value, str | int | float | None)
        identity = value if plain else identity_of(value)
        if identity is None and value is not None:
            return None
        state.append((name, identity))
    return kind, tuple(state)


class Passes:
    """The gradients of a task's passes, as long as its model and batches stay as they are.

    A gradient is given again only for the same weights, buffers and examples, bit for bit, and the same
    choice of what is trained: these are compared whenever one is asked for.
    """

    def __init__(self) -> None:
        self._state: list[Tensor] = []
        self._modes: tuple[Hashable, ...] = ()
        self._examples: dict[int, tuple[Tensor, Tensor]] = {}
        self._gradients: OrderedDict[tuple[int, Hashable], dict[str, Tensor]] = OrderedDict()
        self._bytes = 0
        self._redrawn: Passes | None = None

    @property
    def redrawn(self) -> Passes:
        """Those of the same task with other draws, see `srste.problem.task.Redrawn`."""
        if self._redrawn is None:
            self._redrawn = Passes()
        return self._redrawn

    def get(
        self, model: nn.Module, batch: Batch, key: Hashable, make: Callable[[], dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        """Return the gradient of that key, made if it is not there.

        Args: key: of all that the gradient depends on but for the model and the batch.
        """
        if not self._is_of(model):
            self._forget(model)
        examples = self._examples.get(batch.index)
        if examples is None or not _equal(examples, (batch.inputs, batch.targets)):
            for of_other in [k for k in self._gradients if k[0] == batch.index]:
                self._drop(of_other)
            self._examples[batch.index] = batch.inputs.clone(), batch.targets.clone()
        place = batch.index, key
        if place in self._gradients:
            self._gradients.move_to_end(place)
            return _copy(self._gradients[place])
        before = _drawn(model)
        gradient = make()
        if not _equal(before, _drawn(model)):  # as by dropout: the next pass is another one
            return gradient
        self._gradients[place] = _copy(gradient)
        self._bytes += _size(gradient)
        while self._bytes > MOST_BYTES:
            self._drop(next(iter(self._gradients)))
        return gradient

    def _is_of(self, model: nn.Module) -> bool:
        return self._modes == _modes(model) and _equal(self._state, _state_of(model))

    def _forget(self, model: nn.Module) -> None:
        self._gradients.clear()
        self._examples.clear()
        self._bytes = 0
        self._state = [tensor.clone() for tensor in _state_of(model)]
        self._modes = _modes(model)

    def _drop(self, place: tuple[int, Hashable]) -> None:
        self._bytes -= _size(self._gradients.pop(place))


def _state_of(model: nn.Module) -> list[Tensor]:
    """Return the parameters and all buffers, also those that are not saved with the model."""
    return [p.detach() for p in model.parameters()] + list(model.buffers())


def _modes(model: nn.Module) -> tuple[Hashable, ...]:
    """Return the module itself, which of its parts train, and which parameters are to move."""
    modules = tuple(module.training for module in model.modules())
    return id(model), modules, tuple(p.requires_grad for p in model.parameters())


def _drawn(model: nn.Module) -> list[Tensor]:
    """Return the states of PyTorch's generators on the model's devices."""
    devices = {p.device for p in model.parameters() if p.device.type == "cuda"}
    return [torch.get_rng_state(), *map(torch.cuda.get_rng_state, devices)]


def _equal(some: tuple[Tensor, ...] | list[Tensor], others: tuple[Tensor, ...] | list[Tensor]) -> bool:
    return len(some) == len(others) and all(map(_alike, some, others))


def _alike(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and one.device == other.device and torch.equal(one, other)


def _copy(gradient: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a copy: a user's aggregation may add to the first gradient in place."""
    return {name: tensor.clone() for name, tensor in gradient.items()}


def _size(gradient: dict[str, Tensor]) -> int:
    return sum(g.numel() * g.element_size() for g in gradient.values())
