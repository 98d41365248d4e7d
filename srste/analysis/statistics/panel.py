"""The losses that are compared, as arrays over networks, batches and sample counts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Series:
    """The losses after one estimator's best steps.

    samples: the sample counts, ascending; (None,) where it draws nothing. losses: (networks, batches,
    sample counts); nan where a study is missing or has no winner.
    """

    samples: tuple[int | None, ...]
    losses: Array

    def at(self, samples: int | None) -> Array:
        """(networks, batches) losses at that sample count; an estimator that draws nothing has the
        same at all of them."""
        if self.samples == (None,):
            return self.losses[:, :, 0]
        if samples not in self.samples:
            return np.full(self.losses.shape[:2], np.nan)
        return self.losses[:, :, self.samples.index(samples)]


@dataclass(frozen=True)
class Panel:
    """Comparable studies of several networks by one measure.

    networks: the seeds. batches: their numbers. before, zero: (networks, batches) losses before the
    step, and of a student whose output is zero. series: by the name of the estimator.
    """

    networks: tuple[int, ...]
    batches: tuple[int, ...]
    before: Array
    zero: Array
    series: dict[str, Series]


def elementwise_lowest(losses: Array) -> Array:
    """(networks, batches): the lowest over sample counts; nan unless all of them are there, since the
    lowest of fewer tries is another thing."""
    lowest: Array = np.min(losses, axis=2)
    return lowest
