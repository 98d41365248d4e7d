"""The results of a launch: tables in the terminal, files in its folder, texts of its MLflow run."""

import re
from pathlib import Path
from textwrap import fill

from rich.console import Console

from srste.note2021.log import write_note_log
from srste.report.conditions import Condition
from srste.report.legend import caveat
from srste.report.table import csv_table, print_summary, print_table, text_table
from srste.store.files import slug, write_atomically

TABLES_SHOWN = 3
"""Of more conditions than that, the terminal gets a line each instead of a table."""

FIGURES_DRAWN = 8
"""Only the first conditions get a figure: each takes a second."""


def show(arranged: list[Condition], console: Console) -> None:
    """Print the tables, or a summary of many, and their legend."""
    tables = len(arranged) <= TABLES_SHOWN
    if tables:
        for condition in arranged:
            print_table(condition, console)
    else:
        print_summary(arranged, console)
    console.print(caveat(arranged, marked=tables))


def write_files(arranged: list[Condition], root: Path) -> list[Path]:
    """Write results.csv, and per condition the table, the note's log and, for the first
    ``FIGURES_DRAWN``, the note's figure. Returns the files."""
    from srste.report.figures.note import note_figure
    from srste.report.figures.style import same_everywhere, save

    files = [root / "results.csv"]
    write_atomically(files[0], csv_table(arranged).encode())
    for place, condition in enumerate(arranged):
        ending = f"_{slug(condition.label)}" if condition.label else ""
        table, note = root / f"table{ending}.txt", root / f"note{ending}.log"
        legend = "\n".join(fill(line, 100) for line in caveat([condition]).splitlines())
        write_atomically(table, f"{text_table(condition)}\n{legend}\n".encode())
        variants = {record.key: column.variant for (_, column), record in condition.cells.items()}
        write_note_log(condition.cells.values(), note, variants)
        files += [table, note]
        if place < FIGURES_DRAWN:
            with same_everywhere():
                files += save(note_figure(condition), root / f"figure{ending}")
    return files


def description(arranged: list[Condition]) -> str:
    """Return the tables as Markdown, for the launch's run in MLflow."""
    # Column names cannot end a block of tildes; the lines are escaped.
    tables = "\n".join(f"~~~~~~\n{text_table(condition)}~~~~~~" for condition in arranged)
    lines = re.sub(r"[\\`*_\[\]<>#|~]", r"\\\g<0>", "\n\n".join(caveat(arranged).splitlines()))
    room = len(tables) + len(lines) < 7_800  # MLflow's limit is 8,000
    return f"{tables if room else 'Tables: see Artifacts.'}\n\n{lines}\n\nFigures: see Artifacts."


def names(arranged: list[Condition]) -> dict[str, str]:
    """Return a unique name for each study and each group of studies, by its key."""
    by_key = {}
    for condition in arranged:
        for (batch, column), record in condition.cells.items():
            words = [record.name.removesuffix(f" batch {batch}"), column.variant]
            of_batch = [*words, f"batch {batch}", condition.label]
            by_key[record.key] = " ".join(filter(None, of_batch))
            by_key[record.group] = " ".join(filter(None, [*words, condition.label]))
    return by_key


def front(arranged: list[Condition]) -> list[str]:
    """Return the keys of the studies on the first batch, and of their groups, to show first."""
    if not arranged:
        return []
    first = arranged[0]
    cells = [first.cells.get((first.batches[0], column)) for column in first.columns]
    return [record.key for record in cells if record] + [record.group for record in cells if record]
