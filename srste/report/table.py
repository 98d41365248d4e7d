"""The table at the end of a launch, for the terminal, and the same figures as CSV."""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections import Counter

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from srste.report.conditions import Column, Condition, ordered
from srste.report.console import AS_WIDE_AS_IT_IS, console
from srste.report.legend import mark
from srste.store.quantities import CERTIFIED, quantity

ZERO_HEADING = "zero\noutput"


def _heading(columns: list[Column], column: Column) -> str:
    """A column's heading, a line for each of its words; of an estimator's sample counts only the
    first one in the table carries the name."""
    first = next(c for c in columns if c[:2] == column[:2])
    words = [*column.series.split(" "), *([] if column.samples is None else [f"N={column.samples}"])]
    return "\n".join(words if column == first else words[-1:])


def _wins(condition: Condition, batch: int) -> str:
    winners = condition.winners(batch)
    return winners[0].title if len(winners) == 1 else f"tie of {len(winners)}" if winners else "-"


def _decimals(condition: Condition) -> int:
    """Enough to show a hundredth of the typical decrease of the loss; 4 to 7."""
    decreases = [r.pre_loss - r.best.post_loss for r in condition.cells.values() if r.best]
    typical = statistics.median(map(abs, decreases)) if decreases else 0.0
    return min(7, max(4, math.ceil(2 - math.log10(typical)))) if typical else 4


def _table(condition: Condition, columns: list[Column], part: str) -> Table:
    """The table of some of the columns; the winner is the one among *all* of them."""
    decimals = _decimals(condition)
    marks = max(len(mark(record)) for record in condition.cells.values())  # keep the digits aligned
    title = f"Loss after the best step{': ' + condition.label if condition.label else ''}{part}"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("batch", "before", ZERO_HEADING):
        table.add_column(heading, justify="right", no_wrap=True)
    for column in columns:
        table.add_column(_heading(columns, column), justify="right", no_wrap=True)
    rivals = len(condition.columns) > 1
    if rivals:
        table.add_column("wins", no_wrap=True)
    for batch in condition.batches:
        winners = condition.winners(batch)
        lines = (condition.pre_loss(batch), condition.zero_loss(batch))
        cells: list[Text | str] = [str(batch), *(f"{loss:.{decimals}f}" for loss in lines)]
        for column in columns:
            loss = condition.post_loss(batch, column)
            record = condition.cells.get((batch, column))
            missing = "failed" if record else "-"
            of = mark(record).ljust(marks) if record else ""
            text = missing if loss is None else f"{loss:.{decimals}f}{of}"
            cells.append(Text(text, style="bold green" if column in winners else ""))
        table.add_row(*cells, *([_wins(condition, batch)] if rivals else []))
    if len(condition.batches) > 1:
        table.add_section()
        means = [condition.mean_post_loss(column) for column in columns]
        shown = ["-" if mean is None else f"{mean:.{decimals}f}{' ' * marks}" for mean in means]
        lines = (condition.mean_pre_loss(), condition.mean_zero_loss())
        before = [f"{loss:.{decimals}f}" for loss in lines]
        table.add_row("mean", *before, *shown, *([_wins_count(condition)] if rivals else []))
    return table


def _wins_count(condition: Condition) -> str:
    """Which series won how often, for example "sr-STE 9 of 10"."""
    winners = [condition.winners(batch) for batch in condition.batches]
    counts = Counter(found[0].series for found in winners if len(found) == 1)
    if not counts:
        return "-"
    series, count = counts.most_common(1)[0]
    return f"{series} {count} of {len(condition.batches)}"


def _in_parts(condition: Condition, console: Console) -> list[Table]:
    """As few tables as fit the console's width, one or two deterministic columns in each."""
    fixed = [c for c in condition.columns if c.samples is None]
    if len(fixed) > 2 or len(fixed) == len(condition.columns):
        fixed = []
    moving = [c for c in condition.columns if c not in fixed]
    tables: list[Table] = []
    for count in range(1, max(len(moving), 1) + 1):
        size = max(1, math.ceil(len(moving) / count))
        parts = [moving[i : i + size] for i in range(0, len(moving), size)] or [[]]
        several = len(parts) > 1
        tables = [
            _table(condition, fixed + part, f" ({i} of {len(parts)})" if several else "")
            for i, part in enumerate(parts, 1)
        ]
        if max(_width(table, console) for table in tables) <= console.width:
            break
    return tables


def print_summary(arranged: list[Condition], console: Console) -> None:
    """One line a condition: the mean over its batches of every column."""
    columns = ordered(column for condition in arranged for column in condition.columns)
    decimals = max(_decimals(condition) for condition in arranged)
    table = Table(
        title=f"Loss after the best step, mean over the batches of each of {len(arranged)} conditions",
        title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0),
    )  # fmt: skip
    table.add_column("condition", no_wrap=True)
    for heading in ("before", ZERO_HEADING):
        table.add_column(heading, justify="right", no_wrap=True)
    for column in columns:
        table.add_column(_heading(columns, column), justify="right", no_wrap=True)
    table.add_column("wins", no_wrap=True)
    for condition in arranged:
        means = [condition.mean_post_loss(column) for column in columns]
        shown = ["-" if mean is None else f"{mean:.{decimals}f}" for mean in means]
        lines = (condition.mean_pre_loss(), condition.mean_zero_loss())
        before = [f"{loss:.{decimals}f}" for loss in lines]
        table.add_row(condition.label, *before, *shown, _wins_count(condition))
    _print_whole(table, console)


def _width(table: Table, console: Console) -> int:
    return console.measure(table, options=console.options.update(max_width=AS_WIDE_AS_IT_IS)).maximum


def print_table(condition: Condition, console: Console) -> None:
    """Prints it, in several parts where the console is too narrow for one."""
    for table in _in_parts(condition, console):
        _print_whole(table, console)


def _print_whole(table: Table, console: Console) -> None:
    """Prints it as wide as it is: lines that a terminal wraps can be read, cut ones cannot."""
    needed = max(_width(table, console), console.width)
    narrow, console.width = console.width, needed
    console.print(table)
    console.width = narrow


def text_table(condition: Condition) -> str:
    """The table as plain text, as wide as it is."""
    buffer = io.StringIO()
    print_table(condition, console(buffer))
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n"


CSV_COLUMNS = [
    "condition",
    "batch",
    "estimator",
    "samples",
    "pre_loss",
    "lr",
    "post_loss",
    "zero_loss",
    "angle",
    "heldout_pre_loss",
    "heldout_post_loss",
    "heldout_best_lr",
    "heldout_best_loss",
    "heldout_zero_loss",
    *CERTIFIED,
]


def csv_table(conditions: list[Condition]) -> str:
    """One line a study, full precision; the first columns are the note's own table of figures."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for condition in conditions:
        for batch in condition.batches:
            for column in condition.columns:
                if record := condition.cells.get((batch, column)):
                    best = record.best
                    found = [best.lr, best.post_loss] if best else ["", ""]
                    name = " ".join(column[:2]).strip()
                    samples = "" if column.samples is None else column.samples
                    out = record.heldout
                    held = (
                        [out.pre_loss, out.post_loss, out.best_lr, out.best_loss, out.zero_loss]
                        if out
                        else [""] * 5
                    )
                    angle = record.angles.get("")
                    writer.writerow(
                        [condition.label, batch, name, samples, record.pre_loss, *found,
                         record.zero_loss, angle, *held,
                         *(quantity(name, record) for name in CERTIFIED)]
                    )  # fmt: skip
    return buffer.getvalue()
