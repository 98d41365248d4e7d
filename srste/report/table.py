"""The table of a condition, for the terminal and as CSV."""

import io
import math
import statistics
from collections import Counter
from functools import partial

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from srste.report.conditions import Column, Condition, ordered
from srste.report.console import UNLIMITED, console
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


def _table(condition: Condition, columns: list[Column], part: str) -> Table:
    """Return the table of some of the columns; the winner is the one among *all* of them."""
    decimals = _decimals(condition)
    padding = " " * max(len(mark(record)) for record in condition.cells.values())  # to align digits
    title = f"Loss after the best step{': ' + condition.label if condition.label else ''}{part}"
    rivals = len(condition.columns) > 1
    table = _headed(title, "batch", columns, rivals)
    for batch in condition.batches:
        winners = condition.winners(batch)
        losses = (condition.pre_loss(batch), condition.zero_loss(batch))
        cells: list[Text | str] = [str(batch), *(f"{loss:.{decimals}f}" for loss in losses)]
        for column in columns:
            loss = condition.post_loss(batch, column)
            record = condition.cells.get((batch, column))
            text = "failed" if record else "-"
            if record and loss is not None:
                text = f"{loss:.{decimals}f}{mark(record).ljust(len(padding))}"
            cells.append(Text(text, style="bold green" if column in winners else ""))
        table.add_row(*cells, *([_wins(condition, batch)] if rivals else []))
    if len(condition.batches) > 1:
        table.add_section()
        means = _means(condition, columns, decimals, padding)
        table.add_row("mean", *means, *([_wins_count(condition)] if rivals else []))
    return table


def _headed(title: str, first: str, columns: list[Column], wins: bool) -> Table:
    """Return an empty table: ``first``, losses before and of a zero output, the columns."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column(first, justify="right" if first == "batch" else "left", no_wrap=True)
    for heading in ("before", ZERO_HEADING, *(_heading(columns, column) for column in columns)):
        table.add_column(heading, justify="right", no_wrap=True)
    if wins:
        table.add_column("wins", no_wrap=True)
    return table


def _means(condition: Condition, columns: list[Column], decimals: int, padding: str = "") -> list[str]:
    """Return the means over the batches: before the step, of a zero output, of every column."""
    losses = [condition.mean(condition.pre_loss), condition.mean(condition.zero_loss)]
    means = [condition.mean(partial(condition.post_loss, column=column)) for column in columns]
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


def _in_parts(condition: Condition, console: Console) -> list[Table]:
    """Return the condition in as few tables as fit the console's width, with the columns of the one
    or two deterministic estimators in each."""
    fixed = [c for c in condition.columns if c.samples is None]
    if len(fixed) > 2 or len(fixed) == len(condition.columns):
        fixed = []
    moving = [c for c in condition.columns if c not in fixed]
    tables: list[Table] = []
    for count in range(1, len(moving) + 1):
        size = math.ceil(len(moving) / count)
        parts = [moving[i : i + size] for i in range(0, len(moving), size)]
        numbers = [f" ({i} of {len(parts)})" if len(parts) > 1 else "" for i in range(1, len(parts) + 1)]
        tables = [_table(condition, fixed + p, n) for p, n in zip(parts, numbers, strict=True)]
        if max(_width(table, console) for table in tables) <= console.width:
            break
    return tables


def print_summary(arranged: list[Condition], console: Console) -> None:
    """Print a line per condition: the mean over its batches of every column."""
    columns = ordered(column for condition in arranged for column in condition.columns)
    decimals = max(_decimals(condition) for condition in arranged)
    title = f"Loss after the best step, mean over the batches of each of {len(arranged)} conditions"
    table = _headed(title, "condition", columns, wins=True)
    for condition in arranged:
        means = _means(condition, columns, decimals)
        table.add_row(condition.label, *means, _wins_count(condition))
    _print_uncut(table, console)


def _width(table: Table, console: Console) -> int:
    return console.measure(table, options=console.options.update(max_width=UNLIMITED)).maximum


def print_table(condition: Condition, console: Console) -> None:
    """Print the table, in several parts where the console is too narrow for one."""
    for table in _in_parts(condition, console):
        _print_uncut(table, console)


def _print_uncut(table: Table, console: Console) -> None:
    """Print the table in its full width: wrapped lines can be read, cut ones cannot."""
    table.width = _width(table, console)
    console.print(table, crop=False)


def text_table(condition: Condition) -> str:
    """Return the table as plain text in its full width."""
    buffer = io.StringIO()
    print_table(condition, console(buffer))
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n"


_QUANTITIES = (
    "pre_loss", "lr", "post_loss", "zero_loss", "angle", "heldout_pre_loss", "heldout_post_loss",
    "heldout_best_lr", "heldout_best_loss", "heldout_zero_loss", *CERTIFIED,
)  # fmt: skip
CSV_COLUMNS = ["condition", "batch", "estimator", "samples", *_QUANTITIES]


def csv_table(arranged: list[Condition]) -> str:
    """Return a line per study, in full precision; the note's columns come first."""
    rows: list[list[object]] = [[*CSV_COLUMNS]]
    for condition in arranged:
        for batch in condition.batches:
            for column in condition.columns:
                if record := condition.cells.get((batch, column)):
                    estimator = " ".join(column[:2]).strip()
                    numbers = (quantity(name, record) for name in _QUANTITIES)
                    rows.append([condition.label, batch, estimator, column.samples, *numbers])
    return csv_text(rows)
