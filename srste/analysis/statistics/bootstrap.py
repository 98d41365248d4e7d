"""The cluster bootstrap: networks are resampled, each with all of its batches."""

import numpy as np
from numpy.typing import ArrayLike

RESAMPLES = 4_999


def mean_interval(values: ArrayLike, confidence: float = 0.95) -> tuple[float, float]:
    """Return an interval for the mean over networks, from one value per network.

    A network's value is its mean over batches, so that resampling networks resamples clusters. The
    bootstrap is bias-corrected and accelerated (Efron, 1987), at a level expanded by as much as
    Student's t interval is wider than a bootstrap's: that of few networks would be too narrow
    (Hesterberg, 2015, "What teachers should know about the bootstrap", section 5.3).
    `tests/test_statistics.py` simulates its coverage.

    Args: values: (networks,), finite. confidence: nominal, in (0, 1).
    Returns: (low, high); nan for fewer than three networks, the value itself if all are equal.
    """
    sample = np.asarray(values, dtype=np.float64)
    if sample.size > 1 and np.ptp(sample) <= 1e-12 * abs(sample).max():
        return float(sample.min()), float(sample.max())
    if sample.size < 3:
        return float("nan"), float("nan")
    from scipy.stats import bootstrap, norm, t  # most of a second to import

    n = sample.size
    tail = norm.sf(np.sqrt(n / (n - 1)) * t.isf((1 - confidence) / 2, n - 1))
    interval = bootstrap(
        (sample,),
        np.mean,
        confidence_level=1 - 2 * tail,
        n_resamples=RESAMPLES,
        method="BCa",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(interval.low), float(interval.high)
