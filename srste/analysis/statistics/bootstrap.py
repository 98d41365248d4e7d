"""The cluster bootstrap: networks are drawn anew, each with all of its batches."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import bootstrap, norm, t

RESAMPLES = 4_999


def mean_interval(values: ArrayLike, confidence: float = 0.95) -> tuple[float, float]:
    """An interval for the mean over networks, from one value a network.

    A network's value is the mean over its batches, so drawing networks is drawing clusters of batches.
    Bias-corrected and accelerated (Efron, 1987), at a level that is expanded by as much as the interval
    of Student's t is wider than that of a bootstrap without bias: otherwise that of few networks is
    too narrow (Hesterberg, 2015, "What teachers should know about the bootstrap", section 5.3). How
    often it covers what it should is simulated in `tests/test_statistics.py`.

    Args: values: (networks,), finite. confidence: nominal, in (0, 1).
    Returns: (low, high); nan both for fewer than three networks, the value itself if all are equal.
    """
    sample = np.asarray(values, dtype=np.float64)
    if sample.size > 1 and np.ptp(sample) <= 1e-12 * abs(sample).max():
        return float(sample.min()), float(sample.max())
    if sample.size < 3:
        return float("nan"), float("nan")
    n = sample.size
    tail = norm.sf(np.sqrt(n / (n - 1)) * t.isf((1 - confidence) / 2, n - 1))
    found = bootstrap(
        (sample,),
        np.mean,
        confidence_level=1 - 2 * tail,
        n_resamples=RESAMPLES,
        method="BCa",
        rng=np.random.default_rng(0),
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)
