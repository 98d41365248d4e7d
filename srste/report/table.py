"""The table of a condition as text, and that of all studies as CSV."""

import io
import math
import statistics
from collections import Counter
from functools import partial

from rich import box
from rich.table import Table

from srste.report.conditions import Column, Condition
from srste.report.console import console
from srste.report.legend import mark
from srste.store.files import csv_text
from srste.store.quantities import CERTIFIED, quantity

ZERO_HEADING = "zero\noutput"


def _heading(columns: list[Column], column: Column) -> str:
    """Return a column's heading, a line per word; of an estimator's columns only the first in the
    table has its name."""
    first = next(c for c in columns if c[:2] == column[:2])
    words = [*column.series.split(" "), *([] if column.samples is None else [f"N={column.samples}"])]
    return "\n".join(words if column == first else words[-1:])


def _wins(condition: Condition, batch: int) -> str:
    winners = condition.winners(batch)
    return winners[0].title if len(winners) == 1 else f"tie of {len(winners)}" if winners else "-"


def _decimals(condition: Condition) -> int:
    """Return the decimals that show a hundredth of the typical decrease of the loss, 4 to 7."""
    decreases = [d for r in condition.cells.values() if (d := r.decrease) is not None]
    typical = statistics.median(map(abs, decreases)) if decreases else 0.0
    return min(7, max(4, math.ceil(2 - math.log10(typical)))) if typical else 4


def text_table(condition: Condition) -> str:
    """Return a row per batch and a column per estimator and sample count as plain text, in its full
    width; the winner is the lowest of all columns."""
    decimals = _decimals(condition)
    padding = " " * max(len(mark(record)) for record in condition.cells.values())  # to align digits
    rivals = len(condition.columns) > 1
    table = Table(
        title=f"Loss after the best step{': ' + condition.label if condition.label else ''}",
        title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0),
    )  # fmt: skip
    headings = (_heading(condition.columns, column) for column in condition.columns)
    for heading in ("batch", "before", ZERO_HEADING, *headings):
        table.add_column(heading, justify="right", no_wrap=True)
    if rivals:
        table.add_column("wins", no_wrap=True)
    for batch in condition.batches:
        losses = (condition.pre_loss(batch), condition.zero_loss(batch))
        cells = [str(batch), *(f"{loss:.{decimals}f}" for loss in losses)]
        for column in condition.columns:
            loss = condition.post_loss(batch, column)
            record = condition.cells.get((batch, column))
            text = "failed" if record else "-"
            if record and loss is not None:
                text = f"{loss:.{decimals}f}{mark(record).ljust(len(padding))}"
            cells.append(text)
        table.add_row(*cells, *([_wins(condition, batch)] if rivals else []))
    if len(condition.batches) > 1:
        table.add_section()
        means = _means(condition, decimals, padding)
        table.add_row("mean", *means, *([_wins_count(condition)] if rivals else []))
    buffer = io.StringIO()
    console(buffer).print(table, crop=False)
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n"


def _means(condition: Condition, decimals: int, padding: str) -> list[str]:
    """Return the means over the batches: before the step, of a zero output, of every column."""
    losses = [condition.mean(condition.pre_loss), condition.mean(condition.zero_loss)]
    means = [condition.mean(partial(condition.post_loss, column=c)) for c in condition.columns]
    shown = ["-" if mean is None else f"{mean:.{decimals}f}{padding}" for mean in means]
    return [*(f"{loss:.{decimals}f}" for loss in losses), *shown]


def _wins_count(condition: Condition) -> str:
    """Return which series won how often, for example "sr-STE 9 of 10"."""
    winners = [condition.winners(batch) for batch in condition.batches]
    counts = Counter(columns[0].series for columns in winners if len(columns) == 1)
    if not counts:
        return "-"
    series, count = counts.most_common(1)[0]
    return f"{series} {count} of {len(condition.batches)}"


_OF_THE_NOTE = ("pre_loss", "lr", "post_loss")
_SETTINGS = ("model", "data", "loss", "pretraining", "sampling")
_QUANTITIES = (
    "zero_loss", "angle", "forward_passes", "backward_passes", "heldout_pre_loss", "heldout_post_loss",
    "heldout_best_lr", "heldout_best_loss", "heldout_zero_loss", "drawn_pre_loss", "drawn_post_loss",
    "drawn_lr", *CERTIFIED,
)  # fmt: skip
CSV_COLUMNS = [
    "condition", "batch", "estimator", "samples", *_OF_THE_NOTE, "seed", *_SETTINGS, *_QUANTITIES,
]  # fmt: skip


def csv_table(arranged: list[Condition]) -> str:
    """Return a line per study, in full precision; the note's columns come first."""
    rows: list[list[object]] = [[*CSV_COLUMNS]]
    for condition in arranged:
        for batch in condition.batches:
            for column in condition.columns:
                if record := condition.cells.get((batch, column)):
                    estimator = " ".join(column[:2]).strip()
                    rows.append([
                        condition.label, batch, estimator, column.samples,
                        *(quantity(name, record) for name in _OF_THE_NOTE), record.identity["seed"],
                        *(record.identity.get(part, {}).get("name", "") for part in _SETTINGS),
                        *(quantity(name, record) for name in _QUANTITIES),
                    ])  # fmt: skip
    return csv_text(rows)
