"""What the exact loss curve tells of a study: how far the best trial is from the best there is, and
whether there is any descent."""

from __future__ import annotations

from dataclasses import dataclass

from srste.curve import ExactCurve, Interval


@dataclass(frozen=True)
class Certificate:
    """What holds over all real learning rates in (0, lr_max], float64.

    lr, loss: of the exact minimum; attained: False where that is a limit which is only approached;
    error: no loss is lower by more, rounding aside. regret: of the best trial, its loss less the exact
    minimum; regret_fraction: as a part of the decrease that can be had; None if every trial failed, the
    fraction also where no learning rate lowers the loss. intervals: of learning rates that lower the
    loss, how many; total: their length together; first: the one of the smallest learning rates;
    smallest, largest: the shortest and the longest one. None where there is none.
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
    """Args: post_loss: of the best trial, None if every trial failed."""
    lowest, descent = curve.minimum(), curve.descent()
    regret = fraction = None
    if post_loss is not None:
        # The minimum is searched with the same sums, so that what is below it is rounding.
        regret = max(0.0, post_loss - lowest.loss)
        if descent.exists:
            fraction = regret / (curve.pre_loss - lowest.loss)
    return Certificate(
        lr=lowest.lr,
        loss=lowest.loss,
        attained=lowest.attained,
        error=curve.error,
        regret=regret,
        regret_fraction=fraction,
        intervals=descent.intervals,
        total=descent.total,
        first=descent.first,
        smallest=descent.smallest,
        largest=descent.largest,
    )
