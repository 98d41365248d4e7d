"""Losses as arrays over networks, batches and sample counts."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Series:
    """The losses after one estimator's best steps.

    samples: the sample counts, ascending; (None,) where it draws nothing. losses: (networks,
    batches, sample counts); nan where a study is missing or all its trials failed.
    """

    samples: tuple[int | None, ...]
    losses: Array

    def at(self, samples: int | None) -> Array:
        """Return the (networks, batches) losses at that sample count; those of an estimator that
        draws nothing are the same at all counts."""
        if self.samples == (None,):
            return self.losses[:, :, 0]
        if samples not in self.samples:
            return np.full(self.losses.shape[:2], np.nan)
        return self.losses[:, :, self.samples.index(samples)]


@dataclass(frozen=True)
class Panel:
    """Comparable studies of several networks by one measure.

    before, zero: (networks, batches) losses before the
    step, and of a model whose output is zero. series: by the name of the estimator.
    """

    before: Array
    zero: Array
    series: dict[str, Series]


def network_means(values: Array) -> Array:
    """Return each network's mean over its batches, of (networks, batches) values without those that
    are nan; networks without any value are left out."""
    means: Array = np.nanmean(values[~np.isnan(values).all(axis=1)], axis=1)
    return means
