"""What data is: a source of examples for a problem."""

from typing import Any, Protocol

import torch
from torch import Tensor, nn

from srste.losses import Loss
from srste.randomness import Stream


class Setting(Protocol):
    """What data may need to know of the problem that it is for. device: where its tensors are to be."""

    seed: int
    loss: Loss
    device: torch.device

    def network(self, name: str) -> nn.Module:
        """A fresh network of the student's build, its weights drawn by that name."""
        ...


class Source(Protocol):
    """The examples of one problem."""

    def draw(self, generator: Stream, size: int, heldout: bool = False) -> tuple[Tensor, Tensor]:
        """(inputs, targets) of ``size`` examples, by that generator alone. heldout: whether they are
        those on which a step is measured that it was not made for; no others are the same.

        Raises: ValueError if there are not so many.
        """
        ...


class Data(Protocol):
    """What makes the examples of problems.

    identity: what determines the examples besides the configuration, such as a checksum of a file; part
        of a record's key. None where that is nothing.
    """

    identity: Any

    def most(self, heldout: bool) -> int | None:
        """How many examples can be drawn at once, of those held out or of the others; None for any
        number."""
        ...

    def source(self, setting: Setting) -> Source:
        """The examples of that problem."""
        ...
