"""The problem: a student network, its batches, and the loss to decrease. A task for estimators."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from srste.losses import Loss, SquaredError
from srste.problem.data import Data
from srste.problem.passes import Passes
from srste.problem.task import Batch
from srste.randomness import Stream, integer_seed, stream


@dataclass(eq=False, repr=False)
class Problem:
    """A `srste.problem.task.Task` that follows from the seed alone.

    Args:
        make_model: builds a network with PyTorch's default initialisation.
        data: where the examples come from.
        seed: >= 0. Streams: init, target, batch b, pretraining, and the estimators' own.
        batch_size: examples a batch, >= 1.
        device: where the networks and batches live.
        loss: what is to decrease; the mean squared error, if none is given.
    passes: gradients of single passes, kept from study to study.
    """

    make_model: Callable[[], nn.Module]
    data: Data
    seed: int
    batch_size: int
    device: torch.device
    loss: Loss = field(default_factory=SquaredError)

    def __post_init__(self) -> None:
        self._heldout: dict[int, Batch] = {}
        self.passes = Passes()
        self.model = self.network("init")
        self.source = self.data.source(self)

    def network(self, name: str) -> nn.Module:
        """A fresh network of the student's build, its weights drawn by that name."""
        # Modules draw from PyTorch's global CPU generator: lend it a named seed, then restore it.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(integer_seed(self.seed, name))
            return self.make_model().to(self.device)

    def stream(self, *names: str | int) -> Stream:
        """The problem's random stream of that name."""
        return stream(self.seed, *names)

    def draw(self, generator: Stream, size: int) -> tuple[Tensor, Tensor]:
        """(inputs, targets) of ``size`` examples that are not held out."""
        return self.source.draw(generator, size)

    def batch(self, index: int) -> Batch:
        """Batch ``index`` (from 1): the same examples whenever and wherever it is asked for."""
        return Batch(index, *self.draw(self.stream("batch", index), self.batch_size))

    def heldout(self, size: int) -> Batch:
        """``size`` examples that no batch and no pretraining has, the same for every estimator."""
        if size not in self._heldout:
            self._heldout.clear()
            drawn = self.source.draw(self.stream("heldout"), size, heldout=True)
            self._heldout[size] = Batch(0, *drawn)
        return self._heldout[size]
