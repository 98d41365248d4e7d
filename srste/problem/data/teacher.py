"""Standard normal inputs, and targets from a random teacher network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from srste.losses import Loss
from srste.networks.activations import BinaryActivation
from srste.networks.levels import Levels
from srste.problem.data.base import Setting
from srste.randomness import Stream, normal


def replace_activations(model: nn.Module, factory: Callable[[], nn.Module]) -> None:
    """Puts ``factory()`` in the place of every activation of ``model``, in place."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, BinaryActivation | Levels):
                setattr(parent, name, factory())


class RandomTeacher:
    """Inputs x ~ N(0, 1) independently; targets y = teacher(x).

    The teacher is another random network of the student's architecture, with weights of its own.

    Args:
        features: inputs of the network, >= 1.
        activation: the teacher's: "sign" (a target that the student can represent), "relu" or
            "identity" (real-valued ones, which it cannot).
    Raises: ValueError for another activation.
    """

    identity = None

    _ACTIVATIONS: ClassVar[dict[str, Callable[[], nn.Module] | None]] = {
        "sign": None,  # the student's own, whatever their two values are
        "relu": nn.ReLU,
        "identity": nn.Identity,
    }

    def __init__(
        self, features: int = 32, activation: Literal["sign", "relu", "identity"] = "sign"
    ) -> None:
        if activation not in self._ACTIVATIONS:
            allowed = ", ".join(self._ACTIVATIONS)
            raise ValueError(f"`RandomTeacher(activation={activation})` must be one of {allowed}")
        self.features = features
        self.activation = activation

    def teacher(self, network: nn.Module) -> nn.Module:
        """``network`` (freshly initialised, of the student's build) made into the teacher."""
        if factory := self._ACTIVATIONS[self.activation]:
            replace_activations(network, factory)
        # In evaluation mode: what an example's target is does not depend on the others.
        return network.requires_grad_(False).eval()

    def most(self, heldout: bool) -> int | None:
        """See :class:`srste.problem.data.base.Data`."""
        return None

    def source(self, setting: Setting) -> TeacherSource:
        """See :class:`srste.problem.data.base.Data`."""
        teacher = self.teacher(setting.network("target"))
        return TeacherSource(teacher, self.features, setting.loss, setting.device)


@dataclass(frozen=True)
class TeacherSource:
    """Fresh examples of a teacher, whether held out or not."""

    teacher: nn.Module
    features: int
    loss: Loss
    device: torch.device

    def draw(self, generator: Stream, size: int, heldout: bool = False) -> tuple[Tensor, Tensor]:
        """See :class:`srste.problem.data.base.Source`."""
        inputs = normal(generator, (size, self.features), self.device)
        with torch.no_grad():
            return inputs, self.loss.targets(self.teacher(inputs))
