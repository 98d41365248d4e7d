"""Paired differences over networks, with intervals, tests and effect sizes."""

import gc
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from srste.analysis.statistics.bootstrap import mean_interval
from srste.analysis.statistics.panel import network_means
from srste.analysis.statistics.proportions import Proportion, of_independent, of_networks

ALPHA = 0.05
POWER = 0.8
FEWEST_NETWORKS = 6
"""With fewer, even the same sign in all networks gives a Wilcoxon p-value above 5 %."""


@dataclass(frozen=True)
class Comparison:
    """Paired gains (> 0: the first of the two has the lower loss) over networks.

    networks: with at least one pair. direction: the sign of the Wilcoxon test's sum of signed
    ranks. mean: over networks of each one's mean over batches; low, high: its 95 %
    cluster-bootstrap interval. networks_won, batches_won: with a gain > 0 (half the ties, rounded
    down). sign_p, wilcoxon_p: two-sided, on the networks' means. effect_size: mean over standard
    deviation of the networks' means (Cohen's d_z); infinite where they are equal and not zero.
    needed: see :func:`networks_needed`.
    """

    networks: int
    direction: int
    mean: float
    low: float
    high: float
    networks_won: Proportion
    batches_won: Proportion
    sign_p: float
    wilcoxon_p: float
    effect_size: float
    needed: int | None


def compare(gains: ArrayLike) -> Comparison:
    """Compare by paired gains.

    Args: gains: (networks, batches), loss of the second minus loss of the first; nan where one of
        the two is missing.
    """
    paired = np.asarray(gains, dtype=np.float64)
    means = network_means(paired)
    n = means.size
    wins = np.heaviside(paired, 0.5)
    low, high = mean_interval(means)
    effect = _effect_size(means)
    return Comparison(
        networks=n,
        direction=_direction(means),
        mean=float(means.mean()) if n else math.nan,
        low=low,
        high=high,
        networks_won=of_independent(int(np.heaviside(means, 0.5).sum()), n),
        batches_won=of_networks(wins),
        sign_p=_sign_test(means),
        wilcoxon_p=_wilcoxon(means),
        effect_size=effect,
        needed=networks_needed(effect),
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's (1979) correction for multiple tests; nan stays nan and does not count."""
    from statsmodels.stats.multitest import multipletests  # half a second to import

    p = np.asarray(p_values, dtype=np.float64)
    tested = ~np.isnan(p)
    corrected = np.full(p.shape, np.nan)
    if tested.any():
        # It collects garbage at every call, which would search thousands of records each time.
        gc.freeze()
        try:
            corrected[tested] = multipletests(p[tested], method="holm")[1]
        finally:
            gc.unfreeze()
    return [float(value) for value in corrected]


def networks_needed(effect_size: float) -> int | None:
    """Return how many networks show an effect of that size (mean over standard deviation) at 5 %,
    two-sided, with a power of 80 %, by the paired t-test; at least :data:`FEWEST_NETWORKS`. None
    for no effect, or for more than a million networks."""
    from statsmodels.stats.power import TTestPower

    size = abs(effect_size)
    if not size > 0.003:  # a million networks
        return None
    if size > 3:
        return FEWEST_NETWORKS
    n = TTestPower().solve_power(effect_size=size, alpha=ALPHA, power=POWER, alternative="two-sided")
    return max(FEWEST_NETWORKS, math.ceil(float(np.squeeze(n))))


def _effect_size(means: np.ndarray) -> float:
    if means.size < 2:
        return math.nan
    spread = float(means.std(ddof=1))
    mean = float(means.mean())
    if spread <= 1e-12 * abs(mean):
        return math.copysign(math.inf, mean) if mean else 0.0
    return mean / spread


def _sign_test(means: np.ndarray) -> float:
    """Ties are left out."""
    from scipy.stats import binomtest

    up, down = int((means > 0).sum()), int((means < 0).sum())
    return float(binomtest(up, up + down).pvalue) if up + down else math.nan


def _wilcoxon(means: np.ndarray) -> float:
    """Networks without a difference are left out: with them SciPy takes the normal approximation.
    Exact up to fifty networks without ties in size."""
    from scipy.stats import wilcoxon

    differing = means[means != 0]
    if not differing.size:
        return 1.0 if means.size else math.nan
    return float(wilcoxon(differing).pvalue)


def _direction(means: np.ndarray) -> int:
    from scipy.stats import rankdata

    ranks = rankdata(np.abs(means)) * np.sign(means)
    return int(np.sign(ranks.sum()))  # of halves: exact
