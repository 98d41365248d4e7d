"""What all figures share: colours that colour-blind readers tell apart, markers and dashes that tell in
print, and how a figure is written."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import matplotlib
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from srste.store.files import write_atomically

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


def in_legend(name: str) -> str:
    """The name as a label; matplotlib leaves those that begin with an underscore out of legends."""
    return f" {name}" if name.startswith("_") else name


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


@contextmanager
def same_everywhere() -> Iterator[None]:
    """Within it, figures are made and written by matplotlib's defaults, whatever a notebook or a file of
    settings has made of them: the same figure is the same file."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams["svg.hashsalt"] = "srste"
        yield


def rendered(figure: Figure) -> dict[str, bytes]:
    """The figure as PNG, 150 dots an inch, and as SVG, by the ending of their names."""
    files = {}
    for text in _texts(figure):
        text.set_parse_math(False)  # names of estimators and conditions are no formulas
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph .* missing from font")
        for ending, options in (
            (".png", {"dpi": 150}),
            (".svg", {"dpi": 150, "metadata": {"Date": None}}),
        ):
            buffer = io.BytesIO()
            figure.savefig(buffer, format=ending[1:], **options)
            files[ending] = buffer.getvalue()
    return files


def _texts(figure: Figure) -> Iterator[Text]:
    """What was written into the figure, without the numbers at its ticks."""
    yield from figure.texts
    for legend in figure.legends:
        yield from legend.get_texts()
    for axes in figure.axes:
        yield from (axes.title, axes.xaxis.label, axes.yaxis.label, *axes.texts)


def save(figure: Figure, path: Path) -> list[Path]:
    """Writes the figure as PNG and as SVG beside it. Returns the files."""
    written = []
    for ending, content in rendered(figure).items():
        written.append(path.with_name(f"{path.name}{ending}"))
        write_atomically(written[-1], content)
    return written
