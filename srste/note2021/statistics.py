"""The statistics of the note of June 2021.

Each compares, batch by batch, the loss before the update, after the best step of STE, and after the
best step of sr-STE at each sample count. It is 1 where the batch is counted, 0 where not, nan where
studies are missing.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from srste.analysis.statistics.panel import Array


class Losses(NamedTuple):
    """before, ste: (...). drawn: (..., sample counts), from the smallest count to the largest."""

    before: Array
    ste: Array
    drawn: Array


def some_n_beats_ste(losses: Losses) -> Array:
    """Some sample count of sr-STE gives a lower loss than STE."""
    return _counted((losses.drawn < losses.ste[..., None]).any(axis=-1), losses.ste, losses.drawn)


def ste_lowers(losses: Losses) -> Array:
    """The best step of STE lowers the loss."""
    return _counted(losses.ste < losses.before, losses.before, losses.ste[..., None])


def below_for_every_n(losses: Losses) -> Array:
    """sr-STE lowers the loss at every sample count."""
    return _counted((losses.drawn < losses.before[..., None]).all(axis=-1), losses.before, losses.drawn)


def from_below_to_above(losses: Losses) -> Array:
    """sr-STE lowers the loss at the smallest sample count and raises it at the largest."""
    first, last = losses.drawn[..., 0], losses.drawn[..., -1]
    return _counted((first < losses.before) & (last > losses.before), losses.before, losses.drawn)


def from_above_to_below(losses: Losses) -> Array:
    """sr-STE raises the loss at the smallest sample count and lowers it at the largest."""
    first, last = losses.drawn[..., 0], losses.drawn[..., -1]
    return _counted((first > losses.before) & (last < losses.before), losses.before, losses.drawn)


Statistic = Callable[[Losses], Array]

STATISTICS: dict[str, tuple[str, Statistic]] = {
    "some_n_beats_ste": ("some N is better than STE", some_n_beats_ste),
    "ste_lowers": ("STE lowers the loss", ste_lowers),
    "below_for_every_n": ("below the original for every N", below_for_every_n),
    "from_below_to_above": ("from below to above, first to last N", from_below_to_above),
    "from_above_to_below": ("from above to below, first to last N", from_above_to_below),
}
"""In words, and as a function, by key."""


def _counted(event: ArrayLike, single: Array, several: Array) -> Array:
    missing = np.isnan(single) | np.isnan(several).any(axis=-1)
    return np.where(missing, np.nan, np.asarray(event, dtype=np.float64))
