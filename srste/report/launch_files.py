"""What a launch ends with: tables for the terminal, files for its folder, words for its MLflow run."""

from __future__ import annotations

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
"""With more conditions than that, the terminal gets one line a condition instead of its table."""

FIGURES_DRAWN = 8
"""Of more conditions than that, only the first ones get a figure: each takes a second."""


def show(arranged: list[Condition], console: Console) -> None:
    """The tables, or their summary where they would scroll out of sight, and how to read them."""
    if len(arranged) > TABLES_SHOWN:
        print_summary(arranged, console)
    else:
        for condition in arranged:
            print_table(condition, console)
    marked = len(arranged) <= TABLES_SHOWN
    console.print(caveat(arranged, marked))


def write_files(arranged: list[Condition], root: Path) -> list[Path]:
    """Writes results.csv, and per condition the table, the note's log and, for the first
    ``FIGURES_DRAWN`` of them, the note's figure. Returns the files."""
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
    """The tables as Markdown, for the launch's page in MLflow."""
    # No name among the columns ends a block of tildes, and none in the lines is a link or a bullet.
    tables = "\n".join(f"~~~~~~\n{text_table(condition)}~~~~~~" for condition in arranged)
    lines = re.sub(r"[\\`*_\[\]<>#|~]", r"\\\g<0>", "\n\n".join(caveat(arranged).splitlines()))
    room = len(tables) + len(lines) < 7_800  # MLflow's limit is 8,000
    return f"{tables if room else 'Tables: see Artifacts.'}\n\n{lines}\n\nFigures: see Artifacts."


def names(arranged: list[Condition]) -> dict[str, str]:
    """A name for each study and each group of studies, by its key, that tells it from all others."""
    found = {}
    for condition in arranged:
        for (batch, column), record in condition.cells.items():
            words = [record.name.removesuffix(f" batch {batch}"), column.variant]
            of_batch = [*words, f"batch {batch}", condition.label]
            found[record.key] = " ".join(filter(None, of_batch))
            found[record.group] = " ".join(filter(None, [*words, condition.label]))
    return found


def front(arranged: list[Condition]) -> list[str]:
    """The keys of the studies to look at first, and of their groups: all columns on one batch."""
    if not arranged:
        return []
    first = arranged[0]
    found = [first.cells.get((first.batches[0], column)) for column in first.columns]
    return [record.key for record in found if record] + [record.group for record in found if record]
