"""Numbers and names in words."""

import math
from collections.abc import Mapping, Sequence
from decimal import ROUND_CEILING, Context
from functools import cache
from typing import Any

import numpy as np


def ranges(numbers: Sequence[int]) -> str:
    """Return whole numbers with runs of three and more drawn together: "1, 6-10"."""
    ascending = np.sort(numbers)
    runs = np.split(ascending, np.flatnonzero(np.diff(ascending) != 1) + 1)
    short = (f"{run[0]}-{run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs)
    return ", ".join(short)


def first(words: Sequence[str], most: int, kind: str = "") -> str:
    """Return the first words, and how many more there are: "a; b; and 3 more"."""
    more = [f"and {len(words) - most} more{kind}"] if len(words) > most else []
    return "; ".join([*words[:most], *more])


def p_value(p: float) -> str:
    """Return for example "0.03" or "< 0.001"; "-" for nan."""
    if math.isnan(p):
        return "-"
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def signed(value: float) -> str:
    """Return three significant digits with a sign; "-" for nan."""
    return "-" if math.isnan(value) else f"{value:+.3g}"


def with_interval(mean: float, low: float, high: float) -> str:
    """Return for example "+0.041 [+0.02, +0.06]"; without the interval where it is nan."""
    return signed(mean) if math.isnan(low) else f"{signed(mean)} [{signed(low)}, {signed(high)}]"


def percent(rate: float) -> str:
    """Return a rate in [0, 1] as a whole percentage; "-" for nan."""
    return "-" if math.isnan(rate) else f"{100 * rate:.0f} %"


def duration(seconds: float) -> str:
    """Return for example "40 s", "5 min" or "3 h"."""
    for unit, size in (("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(1, seconds):.0f} s"


def at_most(value: float) -> str:
    """Return two significant digits, rounded up, so that "at most" is true of them."""
    return f"{float(Context(prec=2, rounding=ROUND_CEILING).create_decimal(value)):g}"


@cache
def _labels() -> dict[str, str]:
    """Return the labels of srste's losses, by ``_target_``."""
    from srste.losses import EXACT  # by way of PyTorch, which takes a second

    return {f"srste.losses.{loss.__name__}": loss.label for loss in EXACT}


def loss_words(common: Mapping[str, Any]) -> str:
    """Return the name of a study's loss. common: its identity, or what it shares with others."""
    loss = common["loss"]
    # The label of srste's losses only: a record is data, and nothing in it is imported.
    return _labels().get(loss.get("_target_", ""), str(loss["name"]).replace("_", " "))
