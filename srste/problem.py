"""The problem: a student network, its target, its batches, and the loss to decrease."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from srste.data import RandomTeacher
from srste.losses import Loss, SquaredError
from srste.randomness import Stream, integer_seed, stream


@dataclass(frozen=True)
class Batch:
    """One batch. index: 1, 2, ..., or 0 for the held-out examples; inputs: (batch, features);
    targets: what the problem's loss compares the outputs with."""

    index: int
    inputs: Tensor
    targets: Tensor


class Problem:
    """Everything a direction is computed from, except the estimator. All of it follows from the seed.

    Args:
        make_model: builds a network with PyTorch's default initialisation.
        data: draws inputs and makes the teacher.
        seed: >= 0. Streams: init, target, batch b, pretraining, and the estimators' own.
        batch_size: examples a batch, >= 1.
        device: where the networks and batches live.
        loss: what is to decrease; the mean squared error, if none is given.
    """

    def __init__(
        self,
        make_model: Callable[[], nn.Module],
        data: RandomTeacher,
        seed: int,
        batch_size: int,
        device: torch.device,
        loss: Loss | None = None,
    ) -> None:
        self.data = data
        self.loss: Loss = SquaredError() if loss is None else loss
        self.seed = seed
        self.batch_size = batch_size
        self.device = device
        self._redrawn: tuple[str, ...] = ()
        self._heldout: dict[int, Batch] = {}
        self.model = self._network(make_model, "init")
        self.teacher = data.teacher(self._network(make_model, "target"))

    def _network(self, make_model: Callable[[], nn.Module], name: str) -> nn.Module:
        # Modules draw from PyTorch's global CPU generator: lend it a named seed, then restore it.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(integer_seed(self.seed, name))
            return make_model().to(self.device)

    def stream(self, *names: str | int) -> Stream:
        """The problem's random stream of that name."""
        return stream(self.seed, *names, *self._redrawn)

    def draw(self, generator: Stream, size: int) -> tuple[Tensor, Tensor]:
        """(inputs, targets) of ``size`` fresh examples."""
        inputs = self.data.inputs(generator, size, self.device)
        with torch.no_grad():
            return inputs, self.loss.targets(self.teacher(inputs))

    def batch(self, index: int) -> Batch:
        """Batch ``index`` (from 1): the same examples whenever and wherever it is asked for."""
        return Batch(index, *self.draw(stream(self.seed, "batch", index), self.batch_size))

    def heldout(self, size: int) -> Batch:
        """``size`` examples that no batch and no pretraining holds, the same for every estimator."""
        if size not in self._heldout:
            self._heldout.clear()
            self._heldout[size] = Batch(0, *self.draw(stream(self.seed, "heldout"), size))
        return self._heldout[size]

    def redrawn(self) -> Problem:
        """The same problem, network and batches; an estimator that draws draws other numbers."""
        other = copy.copy(self)
        other._redrawn = (*self._redrawn, "once more")
        return other
