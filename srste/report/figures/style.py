"""What all figures share: colours that colour-blind readers tell apart, markers and dashes that tell in
print, and how a figure is written."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # files only; no display is needed

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

BLACK, GREY = "#000000", "#777777"
BEFORE, ZERO = "loss before", "zero output"

# Okabe and Ito's colours.
_DRAWN = [
    ("#D55E00", "o"), ("#0072B2", "s"), ("#009E73", "^"), ("#CC79A7", "D"), ("#E69F00", "v"),
    ("#56B4E9", "P"),
]  # fmt: skip
_DASHES = ["--", ":", "-."]


@dataclass(frozen=True)
class Look:
    """How one estimator is drawn: colour, marker and line style of matplotlib."""

    colour: str
    marker: str
    line: str


def looks(drawn: Iterable[str], fixed: Iterable[str]) -> dict[str, Look]:
    """A look for each series: drawn ones (with sample counts) in colour, fixed ones in black, dashed.
    The same names get the same looks in every figure of a report."""
    found = {}
    for i, name in enumerate(drawn):
        colour, marker = _DRAWN[i % len(_DRAWN)]
        found[name] = Look(colour, marker, "-" if i < len(_DRAWN) else "--")
    for i, name in enumerate(fixed):
        found[name] = Look(BLACK, "x", _DASHES[i % len(_DASHES)])
    return found


def level(axes: Axes, loss: float, label: str) -> None:
    """A horizontal line for the loss before the step or of the zero-output student."""
    style = {"ls": "-", "lw": 1.8} if label == BEFORE else {"ls": (0, (1, 2)), "lw": 1.4}
    axes.axhline(loss, color=GREY, label=label, **style)  # type: ignore[arg-type]


def level_or_words(axes: Axes, near: Iterable[float], loss: float, label: str) -> None:
    """The same, or, where it is so far from what else is drawn (``near``) that it would flatten it,
    where it is in words."""
    shown = [value for value in near if math.isfinite(value)]
    if not shown or not math.isfinite(loss):
        return
    low, high = min(shown), max(shown)
    if 2 * low - high <= loss <= 2 * high - low:
        level(axes, loss, label)
        return
    above = loss > high
    axes.text(
        0.98, 0.97 if above else 0.03, f"{label} {loss:.3f} {'above' if above else 'below'}",
        transform=axes.transAxes, ha="right", va="top" if above else "bottom", fontsize="x-small",
        color=GREY,
    )  # fmt: skip


def shared_legend(figure: Figure, axes: Iterable[Axes]) -> None:
    """One legend below the figure for what its axes show."""
    entries: dict[str, Artist] = {}
    for one in axes:
        for handle, label in zip(*one.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    figure.legend(
        list(entries.values()), list(entries), loc="outside lower center",
        ncols=min(6, max(1, len(entries))), frameon=False,
    )  # fmt: skip


def save(figure: Figure, path: Path) -> list[Path]:
    """Writes the figure as PNG, 150 dots an inch, and as SVG beside it. Returns the files."""
    files = [path.with_name(f"{path.name}{ending}") for ending in (".png", ".svg")]
    with matplotlib.rc_context({"svg.hashsalt": "srste"}):  # the same figure, the same file
        figure.savefig(files[0], dpi=150)
        figure.savefig(files[1], dpi=150, metadata={"Date": None})
    return files
