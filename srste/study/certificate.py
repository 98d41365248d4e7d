"""The certificate of a study: what its exact loss curve tells over all learning rates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from srste.curve.minima import Interval

if TYPE_CHECKING:
    from srste.curve import ExactCurve


@dataclass(frozen=True)
class Certificate:
    """What holds over all real learning rates in (0, lr_max], float64.

    lr, loss, attained: the exact minimum, see :class:`srste.curve.Minimum`. error: no loss is lower
    by more, rounding aside. regret: the loss of the best trial less that minimum, None if every
    trial failed. regret_fraction: regret as a fraction of the largest possible decrease, None also
    where no learning rate lowers the loss. intervals, total, first, smallest, largest: the learning
    rates that lower the loss, see :class:`srste.curve.Descent`.
    """

    lr: float
    loss: float
    attained: bool
    error: float
    regret: float | None
    regret_fraction: float | None
    intervals: int
    total: float
    first: Interval | None
    smallest: Interval | None
    largest: Interval | None

    @property
    def descends(self) -> bool:
        """Whether any learning rate lowers the loss."""
        return self.intervals > 0


def certificate(curve: ExactCurve, post_loss: float | None) -> Certificate:
    """Return the certificate. post_loss: of the best trial, None if every trial failed."""
    lowest, descent = curve.minimum(), curve.descent()
    regret = fraction = None
    if post_loss is not None:
        # The minimum is searched with the same sums, so that a negative difference is rounding.
        regret = max(0.0, post_loss - lowest.loss)
        if descent.exists:
            fraction = regret / (curve.pre_loss - lowest.loss)
    return Certificate(
        **lowest._asdict(),
        error=curve.error,
        regret=regret,
        regret_fraction=fraction,
        **descent._asdict(),
    )
