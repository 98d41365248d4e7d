"""What an exact loss curve tells over all learning rates: its minimum, and where it lowers the loss."""

from dataclasses import dataclass
from typing import NamedTuple


class Minimum(NamedTuple):
    """The lowest loss over all real learning rates in (0, lr_max].

    lr: where it is; of several, the smallest.
    loss: its value, or the infimum.
    attained: False when the loss comes as close to ``loss`` as one likes near ``lr`` from one side
        without reaching it; ``lr`` is then the float nearest to the limit on that side.
    """

    lr: float
    loss: float
    attained: bool


@dataclass(frozen=True)
class Interval:
    """Learning rates from ``lo`` to ``hi``, which may belong to it or not; where both are the same it is
    the one at which units cross. loss: the lowest in it."""

    lo: float
    hi: float
    loss: float

    @property
    def length(self) -> float:
        return self.hi - self.lo


class Descent(NamedTuple):
    """The learning rates in (0, lr_max] that lower the loss, by more than its rounding.

    intervals: how many there are. total: their length together. first: the one of the smallest learning
    rates. smallest, largest: the shortest and the longest one; of several the first. None without any:
    then no step along the direction lowers the loss, however the learning rate is chosen.
    """

    intervals: int
    total: float
    first: Interval | None
    smallest: Interval | None
    largest: Interval | None

    @property
    def exists(self) -> bool:
        return self.intervals > 0
