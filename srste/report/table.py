"""The table at the end of a launch, for the terminal, and the same figures as CSV."""

from __future__ import annotations

import csv
import io
import math
import statistics

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from srste.report.summary import Column, Condition

NOTE = (
    "Loss after the best step, on the batch the step was computed from; the lowest in bold.\n"
    "Not yet evidence: where several sample counts face one STE step, the lowest of many tries\n"
    "often wins by chance alone, and a lower loss on this batch need not be one on fresh data."
)


def _heading(columns: list[Column], column: Column) -> str:
    """A column's heading; only the first of an estimator's sample counts carries its name."""
    if column.samples is None:
        return column.series if len(columns) == 1 else f"\n{column.series}"
    first = next(c for c in columns if c[:2] == column[:2])
    return (f"{column.series}\n" if column == first else "\n") + f"N={column.samples}"


def _wins(condition: Condition, batch: int) -> str:
    winners = condition.winners(batch)
    return winners[0].title if len(winners) == 1 else f"tie of {len(winners)}" if winners else "-"


def _decimals(condition: Condition) -> int:
    """Enough to show a hundredth of the typical decrease of the loss; 4 to 7."""
    decreases = [r.pre_loss - r.best.post_loss for r in condition.cells.values() if r.best]
    typical = statistics.median(map(abs, decreases)) if decreases else 0.0
    return min(7, max(4, math.ceil(2 - math.log10(typical)))) if typical else 4


def _table(condition: Condition, columns: list[Column], last: bool) -> Table:
    """The table of some of the columns; the winner among *all* of them stands in the last one."""
    decimals = _decimals(condition)
    title = f"Loss after the best step{': ' + condition.label if condition.label else ''}"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("batch", "before"):
        table.add_column(heading, justify="right", no_wrap=True)
    for column in columns:
        table.add_column(_heading(columns, column), justify="right", no_wrap=True)
    last = last and len(condition.columns) > 1  # one column has no rival
    if last:
        table.add_column("wins", no_wrap=True)
    for batch in condition.batches:
        winners = condition.winners(batch)
        cells: list[Text | str] = [str(batch), f"{condition.pre_loss(batch):.{decimals}f}"]
        for column in columns:
            loss = condition.post_loss(batch, column)
            missing = "failed" if (batch, column) in condition.cells else "-"
            text = missing if loss is None else f"{loss:.{decimals}f}"
            cells.append(Text(text, style="bold green" if column in winners else ""))
        table.add_row(*cells, *([_wins(condition, batch)] if last else []))
    return table


def _in_parts(condition: Condition, console: Console) -> list[Table]:
    """As few tables as fit the console's width, the deterministic columns in each."""
    fixed = [c for c in condition.columns if c.samples is None]
    moving = [c for c in condition.columns if c.samples is not None]
    for count in range(1, max(len(moving), 1) + 1):
        size = max(1, math.ceil(len(moving) / count))
        parts = [moving[i : i + size] for i in range(0, len(moving), size)] or [[]]
        tables = [_table(condition, fixed + part, part is parts[-1]) for part in parts]
        widest = max(_width(table, console) for table in tables)
        if widest <= console.width:
            break
    return tables


def _width(table: Table, console: Console) -> int:
    return console.measure(table, options=console.options.update(max_width=10_000)).maximum


def print_table(condition: Condition, console: Console) -> None:
    """Prints it, in several parts where the console is too narrow for one."""
    for table in _in_parts(condition, console):
        console.print(table)


def text_table(condition: Condition) -> str:
    """The table as plain text, as wide as it is."""
    buffer = io.StringIO()
    print_table(condition, Console(file=buffer, width=10_000, force_terminal=False))
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n"


CSV_COLUMNS = ["condition", "batch", "estimator", "samples", "pre_loss", "lr", "post_loss"]


def csv_table(conditions: list[Condition]) -> str:
    """One line a study, full precision, in the columns of the note's own table of figures."""
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
                    writer.writerow([condition.label, batch, name, samples, record.pre_loss, *found])
    return buffer.getvalue()
