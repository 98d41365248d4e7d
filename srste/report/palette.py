"""The colours of estimators, the same in every figure, on the page and in MLflow.

Okabe and Ito's (2008), which colour-blind readers can tell apart; black for what draws nothing.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from srste.report.conditions import Column

BLACK = "#000000"

# Okabe and Ito's colours
_DRAWN = [
    ("#D55E00", "o"), ("#0072B2", "s"), ("#009E73", "^"), ("#CC79A7", "D"), ("#E69F00", "v"),
    ("#56B4E9", "P"),
]  # fmt: skip
_DASHES = ["--", ":", "-."]


class Look(NamedTuple):
    """The colour, marker and line style of one estimator."""

    colour: str
    marker: str
    line: str


def looks(drawn: Iterable[str], fixed: Iterable[str]) -> dict[str, Look]:
    """Return a look by series: drawn ones (with sample counts) in colour, others black, dashed."""
    by_name = {}
    for i, name in enumerate(drawn):
        by_name[name] = Look(*_DRAWN[i % len(_DRAWN)], "-" if i < len(_DRAWN) else "--")
    for i, name in enumerate(fixed):
        by_name[name] = Look(BLACK, "x", _DASHES[i % len(_DASHES)])
    return by_name


def column_looks(columns: Iterable[Column]) -> dict[str, Look]:
    """Return the looks of the columns' series, the same in every figure of a report."""
    columns = list(columns)
    drawn = dict.fromkeys(c.series for c in columns if c.samples is not None)
    return looks(drawn, dict.fromkeys(c.series for c in columns if c.samples is None))


def shade(colour: str, samples: int | None, counts: Sequence[int]) -> str:
    """Return the colour for one number of samples: darker for more, the colour itself for the most
    of ``counts``, ascending."""
    if samples is None or len(counts) < 2:
        return colour
    white = 0.6 * (1 - counts.index(samples) / (len(counts) - 1))
    channels = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(c + white * (255 - c)):02x}" for c in channels)
