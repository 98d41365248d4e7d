"""The files of a launch: its table of studies, and the note's table, log and figure."""

from pathlib import Path
from textwrap import fill

from srste.note2021.log import write_note_log
from srste.report.conditions import Condition
from srste.report.legend import caveat
from srste.report.table import csv_table, text_table
from srste.store.files import slug, write_atomically

FIGURES_DRAWN = 8
"""Only the first conditions get a figure: each takes a second."""


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
