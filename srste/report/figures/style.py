"""The style of all figures, with colours for colour-blind readers and markers for print, and how
they are written."""

import io
import math
import textwrap
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Bbox

from srste.report.palette import Look
from srste.store.files import write_atomically

GREY = "#777777"
BEFORE, ZERO = "loss before", "zero output"

_MISSING_GLYPH = r"Glyph .* missing from font"


def level(axes: Axes, loss: float, label: str) -> None:
    """Draw a horizontal line for the loss before the step or of a zero output."""
    style = {"ls": "-", "lw": 1.8} if label == BEFORE else {"ls": (0, (1, 2)), "lw": 1.4}
    axes.axhline(loss, color=GREY, label=label, **style)  # type: ignore[arg-type]


def level_or_words(axes: Axes, near: Iterable[float], loss: float, label: str) -> None:
    """Draw the line, or only say where it is if it would flatten the other values (``near``)."""
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
    """Return a label for the name; matplotlib omits labels with a leading underscore."""
    return f" {name}" if name.startswith("_") else name


def line(name: str, look: Look) -> dict[str, Any]:
    """Return matplotlib's options of a line of that name and look."""
    return {"color": look.colour, "ls": look.line, "label": in_legend(name)}


def shared_legend(figure: Figure, axes: Iterable[Axes]) -> None:
    """Add one legend for all axes below the figure, which grows by what a long one takes."""
    entries: dict[str, Artist] = {}
    for one in axes:
        for handle, label in zip(*one.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    for columns in range(min(6, max(1, len(entries))), 0, -1):
        legend = figure.legend(
            list(entries.values()), list(entries), loc="outside lower center", ncols=columns,
            frameon=False,
        )  # fmt: skip
        for text in legend.get_texts():
            text.set_parse_math(False)  # names of estimators are no formulas
        if columns == 1 or _width(figure, legend) <= figure.bbox.width:
            height = _extent(figure, legend).height / figure.dpi
            figure.set_figheight(figure.get_figheight() + max(0.0, height - _USUAL_LEGEND))
            return
        legend.remove()


_USUAL_LEGEND = 0.6
"""Inches, that the figures' sizes have room for."""


def set_title(figure: Figure, title: str, label: str) -> None:
    """Set the figure's title, with the label of its condition or setting below, in as many lines as it
    needs."""
    lines = [title, *([f"({label})"] if label else [])]
    longest = max(map(len, lines))
    for width in range(longest, min(longest, 20) - 1, -1):
        shown = figure.suptitle("\n".join(textwrap.fill(line, width) for line in lines))
        shown.set_parse_math(False)
        if _width(figure, shown) <= figure.bbox.width:
            return


def _width(figure: Figure, artist: Artist) -> float:
    """Return the width of an artist in pixels."""
    return float(_extent(figure, artist).width)


def _extent(figure: Figure, artist: Artist) -> Bbox:
    """Return where an artist is, in pixels."""
    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", _MISSING_GLYPH)
        return artist.get_window_extent(renderer)


def sample_axes(axes: Axes) -> None:
    """Style axes of losses against sample counts: whole numbers, no offset, a grid."""
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    low, high = axes.get_xlim()
    if high - low < 1:  # one sample count: its points in the middle, not at the edges
        axes.set_xlim((low + high) / 2 - 0.5, (low + high) / 2 + 0.5)
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.grid(alpha=0.25)


@contextmanager
def same_everywhere() -> Iterator[None]:
    """Use matplotlib's defaults, whatever a notebook or a settings file has changed: the same
    figure gives the same file."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams["svg.hashsalt"] = "srste"
        yield


_DPI = 150


def rendered(figure: Figure) -> dict[str, bytes]:
    """Return the figure as PNG, 150 dots per inch, and as SVG, by file name extension. It is empty
    afterwards."""
    files = {}
    for text in _texts(figure):
        text.set_parse_math(False)  # names of estimators and conditions are no formulas
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", _MISSING_GLYPH)
        figure.set_dpi(_DPI)
        if (engine := figure.get_layout_engine()) is not None:
            engine.execute(figure)  # once for both files: it takes as long as to draw one
            figure.set_layout_engine("none")
        for extension, metadata in ((".png", None), (".svg", {"Date": None})):
            buffer = io.BytesIO()
            figure.savefig(buffer, format=extension[1:], dpi=_DPI, metadata=metadata)
            files[extension] = buffer.getvalue()
    figure.clear()  # its parts refer to each other, and would stay for long
    return files


def _texts(figure: Figure) -> Iterator[Text]:
    """Yield the texts of the figure without tick labels: powers of ten on a log scale are formulas."""
    yield from figure.texts
    for legend in figure.legends:
        yield from legend.get_texts()
    for axes in figure.axes:
        yield from (axes.title, axes.xaxis.label, axes.yaxis.label, *axes.texts)


def save(figure: Figure, path: Path) -> list[Path]:
    """Write the figure as PNG and as SVG, ``path`` without extension. Returns the files."""
    written = []
    for extension, content in rendered(figure).items():
        written.append(path.with_name(f"{path.name}{extension}"))
        write_atomically(written[-1], content)
    return written
