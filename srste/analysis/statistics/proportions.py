"""Proportions: k of n, with an interval."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from srste.analysis.statistics.bootstrap import mean_interval
from srste.analysis.statistics.panel import network_means

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Proportion:
    """k of n, and the 95 % interval (low, high) of the rate, in [0, 1]; (0, 1) for n = 0."""

    k: int
    n: int
    low: float
    high: float

    @property
    def rate(self) -> float:
        """In [0, 1]; nan for n = 0."""
        return self.k / self.n if self.n else float("nan")

    def __str__(self) -> str:
        return f"{self.k}/{self.n} [{100 * self.low:.0f}, {100 * self.high:.0f} %]"


def of_independent(k: int, n: int) -> Proportion:
    """Return k of n independent trials, with the interval of Clopper and Pearson (1934)."""
    if n == 0:
        return Proportion(0, 0, 0.0, 1.0)
    from scipy.stats import binomtest

    interval = binomtest(k, n).proportion_ci(CONFIDENCE, method="exact")
    return Proportion(k, n, float(interval.low), float(interval.high))


def of_networks(events: ArrayLike) -> Proportion:
    """Return the proportion of an event on the batches of several networks.

    Args: events: (networks, batches): 1 where it happened, 0 where not, nan where missing.
    Returns: k of n batches. The interval is a cluster bootstrap of the networks' rates; where all
        networks have the same rate, it is Clopper and Pearson's for as many trials as networks.
    """
    values = np.asarray(events, dtype=np.float64)
    k, n = int(np.nansum(values)), int((~np.isnan(values)).sum())
    rates = network_means(values)
    if rates.size < 3 or np.ptp(rates) == 0:
        same = round(float(rates.mean()) * rates.size) if rates.size else 0
        like = of_independent(same, rates.size)
        return Proportion(k, n, min(like.low, k / n if n else 0.0), max(like.high, k / n if n else 1.0))
    low, high = mean_interval(rates)
    return Proportion(k, n, max(0.0, low), min(1.0, high))
