"""What an estimator is given: a model, the loss to decrease, examples and named random streams."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from srste.losses import LossFunction
from srste.randomness import Stream, stream


@dataclass(frozen=True)
class Batch:
    """Examples. index: of the batch, 1, 2, ..., or 0 for held-out examples; inputs: (batch, ...);
    targets: what the loss compares the outputs with."""

    index: int
    inputs: Tensor
    targets: Tensor


class Task(Protocol):
    """Everything a direction is computed from, except the estimator.

    seed: >= 0, of all random numbers.
    """

    @property
    def model(self) -> nn.Module: ...

    @property
    def loss(self) -> LossFunction: ...

    @property
    def seed(self) -> int: ...

    def stream(self, *names: str | int) -> Stream:
        """The random stream of that name."""
        ...

    def batch(self, index: int) -> Batch:
        """Batch ``index`` (from 1): the same examples whenever it is asked for."""
        ...


@dataclass(frozen=True)
class OneBatch:
    """A :class:`Task` on examples that are there: one batch, whose index is 1.

    Args: model: any module. loss: (outputs, targets) to a scalar tensor, the mean over the batch.
        inputs: (batch, ...). targets: (batch, ...). seed: >= 0.
    """

    model: nn.Module
    loss: LossFunction
    inputs: Tensor
    targets: Tensor
    seed: int = 0

    def stream(self, *names: str | int) -> Stream:
        """See :class:`Task`."""
        return stream(self.seed, *names)

    def batch(self, index: int) -> Batch:
        """See :class:`Task`. Raises: IndexError for another batch than 1."""
        if index != 1:
            raise IndexError(f"batch {index}: there is one batch, of index 1")
        return Batch(1, self.inputs, self.targets)


class Redrawn:
    """A task whose model and batches are another's, and whose draws are other numbers."""

    def __init__(self, task: Task) -> None:
        self.model, self.loss, self.seed, self.batch = task.model, task.loss, task.seed, task.batch
        self._task = task
        passes = getattr(task, "passes", None)
        self.passes = passes and passes.redrawn

    def stream(self, *names: str | int) -> Stream:
        """See :class:`Task`."""
        return self._task.stream(*names, "once more")


@contextmanager
def buffers_kept(model: nn.Module) -> Iterator[None]:
    """What passes within it write into the model's buffers, such as running statistics, is undone."""
    before = [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        yield
    finally:
        for buffer, was in before:
            if not torch.equal(buffer, was):
                buffer.copy_(was)
