"""Activations of more than two levels, as sums of binary steps, each of which an estimator acts on."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from srste.networks.activations import BinaryStep, levels_of
from srste.networks.arguments import integer

if TYPE_CHECKING:
    from jaxtyping import Float


class Levels(nn.Module):
    """Rounds to the nearest of k evenly spaced levels from ``low`` to 1: binary units for k = 2, ternary
    ones for 3, two-bit ones for 4.

    Forward:   y = low + (1 - low)/(k - 1) * sum over i = 1..k-1 of b(u_i),
               u_i = (k - 1) (a - c_i), c_i = low + (1 - low) (i - 1/2)/(k - 1), b the step from 0 to 1
    Backward:  dy/da := (1 - low)/2 * sum over i of surrogate(u_i)

    Each step sees its pre-activation in units in which the steps of two neighbouring levels are 1 - low
    apart, so that a surrogate goes as well with many levels as with two: the clipped one makes dy/da 1
    from -1 to 1 for low = -1, `srste.networks.surrogates.ReLU1` from 0 to 1 for low = 0 (the derivatives
    of Zhou et al., 2016, equation 7).

    Args: levels: k, >= 2. low: -1 or 0.
    Raises: ValueError when an argument is out of range.
    Shape: (batch, ...) to the same, values of the levels.
    References: Kim et al. (2020), "BinaryDuo: reducing gradient mismatch in binary activation network by
        coupling binary activations", for units that are sums of steps.

    >>> import torch
    >>> Levels(3, low=-1.0)(torch.tensor([-2.0, -0.4, 0.4, 0.5]))
    tensor([-1.,  0.,  0.,  1.])
    """

    def __init__(self, levels: int, low: float = -1.0) -> None:
        super().__init__()
        self.levels = integer(self, "levels", levels, least=2)
        if low not in (-1, 0):
            raise ValueError(f"`Levels(low={low})` must be -1 or 0")
        self.low = float(low)
        self.steps = nn.ModuleList(BinaryStep() for _ in range(levels - 1))

    @property
    def stairs(self) -> Stairs:
        """Its thresholds and values."""
        height = (1 - self.low) / (self.levels - 1)
        thresholds = [self.low + height * (i + 0.5) for i in range(self.levels - 1)]
        return Stairs(tuple(thresholds), tuple(self.low + height * i for i in range(self.levels)))

    def forward(self, a: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        total = torch.zeros_like(a)
        for step, threshold in zip(self.steps, self.stairs.thresholds, strict=True):
            total = total + step((self.levels - 1) * (a - threshold))
        return self.low + (1 - self.low) / (self.levels - 1) * total

    def extra_repr(self) -> str:
        """What tells it from others in a printed network."""
        return f"{self.levels}, low={self.low:g}"


class Stairs(NamedTuple):
    """A function of one number that rises in steps: at ``thresholds``, ascending, to the next of
    ``values``, which are one more."""

    thresholds: tuple[float, ...]
    values: tuple[float, ...]

    def place(self, a: Tensor) -> Tensor:
        """The place of its value at each number: integers of the same shape, 0 to len(thresholds)."""
        above = torch.zeros_like(a, dtype=torch.long)
        for threshold in self.thresholds:
            above += a - threshold >= 0
        return above

    def __call__(self, a: Tensor) -> Tensor:
        """Its value at each number, of the same shape and dtype."""
        return torch.tensor(self.values, dtype=a.dtype, device=a.device)[self.place(a)]


def stairs_of(module: nn.Module) -> Stairs | None:
    """What a binary activation, or one of several levels, computes; None of another module, and within
    :func:`srste.networks.activations.acting`."""
    if type(module) is Levels:
        return module.stairs if all(levels_of(step) for step in module.steps) else None
    pair = levels_of(module)
    return None if pair is None else Stairs((0.0,), pair)
