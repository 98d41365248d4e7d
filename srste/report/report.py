"""The report: a self-contained HTML page, and its tables and figures as files beside it."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from srste.analysis.alarms import DRIFT, BestStep
from srste.analysis.grouping import grouped
from srste.report import claims, league, tidy
from srste.report.chapters import Chapter
from srste.report.figures.curves import curves_figure
from srste.report.figures.drift import drift_figure
from srste.report.figures.gradients import depth_figure, gradients_figure
from srste.report.figures.league import profile_figure, ranks_figure
from srste.report.figures.networks import networks_figure
from srste.report.figures.scatter import angle_figure, heldout_figure
from srste.report.figures.style import rendered, same_everywhere
from srste.report.page import SETTINGS_DRAWN, Facts, Part, Picture, html
from srste.report.report_files import folder_of, refuse_foreign_report
from srste.report.study_alarms import steps_of
from srste.report.table import csv_table
from srste.store.files import csv_text, slug, write_atomically
from srste.store.records import RecordIndex

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LARGEST_SVG = 300_000  # bytes; beyond, the page shows the PNG


@dataclass(frozen=True)
class Report:
    """A written report. page: the HTML. files: its tables and figures."""

    page: Path
    files: list[Path]


def write_report(
    chapters: Sequence[Chapter],
    stored: RecordIndex,
    page: Path,
    facts: Facts,
    fixed: int | None = None,
    logs: Mapping[str, Sequence[BestStep]] | None = None,
) -> Report:
    """Write the page, and the tables (CSV, Markdown) and figures (PNG, SVG) into a folder beside it
    with its name without ``.html``.

    Args: fixed: the sample count that was fixed beforehand; by default the smallest. logs: the
        steps of logs, by name, whose drift is shown beside that of the studies.
    Raises: UserError where other files are in the way.
    """
    refuse_foreign_report(page)
    folder = folder_of(page)
    folders = {key: folder for key, (folder, _) in stored.items()}
    contents: dict[Path, bytes] = {}
    parts = [Part(chapter) for chapter in chapters]
    for chapter, pictures in ((part.chapter, part.pictures) for part in parts[:SETTINGS_DRAWN]):
        with same_everywhere():
            for name, caption, figure in _figures(chapter, folders, fixed, logs or {}):
                ending = f"_{slug(chapter.setting.label)}" if chapter.setting.label else ""
                images = rendered(figure)
                contents |= {folder / f"{name}{ending}{kind}": image for kind, image in images.items()}
                pictures.append(_picture(caption, images))
    contents |= _tables(chapters, folder)
    # The page first: it marks the files beside it as a report's.
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(page, html(parts, stored, folders, facts, fixed).encode())
    for path, content in contents.items():
        write_atomically(path, content)
    return Report(page, list(contents))


def _figures(
    chapter: Chapter,
    folders: Mapping[str, Path],
    fixed: int | None,
    logs: Mapping[str, Sequence[BestStep]],
) -> Iterator[tuple[str, str, Figure]]:
    """Yield (name, caption, figure) of the figures that the setting's studies allow."""
    setting = chapter.setting
    seed = min(setting.networks)
    first = setting.networks[seed]
    counts = [c.samples for c in first.columns if c.samples is not None]
    for place, ranking in enumerate(chapter.leagues):
        ending = "_at_equal_cost" if place else ""
        left_out = f" Left out, as they cost more: {', '.join(ranking.left_out)}." if place else ""
        if (figure := ranks_figure(ranking)) is not None:
            yield (
                f"ranks{ending}",
                f"The league {ranking.title}: mean ranks over networks. Bars join estimators that the "
                f"Nemenyi test does not tell apart at 5 %.{left_out}",
                figure,
            )
        yield (
            f"profiles{ending}",
            f"The league {ranking.title}: on which part of the batches an estimator has at least a "
            f"fraction of the largest decrease of the loss that any has there.{left_out}",
            profile_figure(ranking),
        )
    if counts:
        yield (
            "networks",
            "Means over networks, against the number of samples. Above: the gain, how much lower the "
            "loss after the best step is than the baseline's on the same batch; below: the loss itself.",
            networks_figure(setting),
        )
    if chapter.gradients:
        truths = " and ".join(dict.fromkeys(row.truth for row in chapter.gradients))
        yield (
            "gradients",
            "The gradients behind the directions, before their normalisation, against the true one: "
            f"{truths}. A cosine of 1 and an error of 0 are a perfect estimate.",
            gradients_figure(chapter.gradients, setting.label),
        )
        if (figure := depth_figure(chapter.gradients, setting.label)) is not None:
            yield (
                "gradients_by_depth",
                "By layer: the length of the estimated and of the true gradient, the signal to noise of "
                "draws and examples together, and which fraction of the signs the best step flips.",
                figure,
            )
    samples = (fixed if fixed in counts else min(counts)) if counts else None
    evaluated = any(record.not_exact for record in first.cells.values())
    at = f" Estimators with sample counts at N = {samples}." if counts else ""
    yield (
        "curves",
        f"The loss curves of network {seed}: the loss after a step{'' if evaluated else ', exactly'}, "
        f"against its learning rate. The lower row is the part around the minima.{at}",
        curves_figure(first, folders, samples),
    )
    if (figure := angle_figure(setting)) is not None:
        yield (
            "angle",
            "Gain over the baseline against the angle between the two directions, one point a study.",
            figure,
        )
    if (figure := heldout_figure(setting)) is not None:
        yield (
            "heldout",
            "Held-out against in-batch: the decrease of the loss by the same step. Points below zero "
            "are steps that make held-out data worse.",
            figure,
        )
    rings = any(alarm.kind == DRIFT for alarm in chapter.alarms)
    sampled = [step for step in steps_of(first) if step.samples is not None and rings]
    series = grouped(sampled, key=lambda step: step.series)
    if (figure := drift_figure({**series, **logs}, first.label)) is not None:
        yield (
            "drift",
            "The loss after a small step whose learning rate stays the same (in a log, its own where it "
            f"repeats), against N(N+1)/2, of the first network (seed {seed}). Gradients that are never "
            "zeroed give the dashed line.",
            figure,
        )


def _picture(caption: str, images: Mapping[str, bytes]) -> Picture:
    small = len(images[".svg"]) <= LARGEST_SVG
    kind, image = ("svg+xml", images[".svg"]) if small else ("png", images[".png"])
    data = base64.b64encode(image).decode()
    return Picture(caption, f"data:image/{kind};base64,{data}")


def _tables(chapters: Sequence[Chapter], folder: Path) -> dict[Path, bytes]:
    """Return the tables as numbers, by their paths in the folder."""
    arranged = [one for chapter in chapters for one in chapter.setting.networks.values()]
    texts = {
        "verdicts.csv": tidy.as_csv(tidy.verdicts(chapters)),
        "verdicts.json": tidy.as_json(chapters),
        "gains.csv": tidy.as_csv(tidy.gains(chapters)),
        "note.csv": tidy.as_csv(tidy.note_counts(chapters)),
        "alarms.csv": tidy.as_csv(tidy.alarms(chapters)),
        "studies.csv": csv_table(arranged),
    }
    if diagnosed := tidy.gradients(chapters):
        texts["gradients.csv"] = tidy.as_csv(diagnosed)
    for name, (columns, rows) in (
        ("verdicts", claims.rows([claim for chapter in chapters for claim in chapter.claims])),
        ("note", claims.count_rows([count for chapter in chapters for count in chapter.counts])),
        ("league", league.rows([one for chapter in chapters for one in chapter.leagues])),
    ):
        if name == "league":
            if not rows:
                continue
            texts["league.csv"] = csv_text([columns, *rows])
        texts[f"{name}.md"] = markdown(columns, rows)
    return {folder / name: text.encode() for name, text in texts.items()}


def markdown(columns: list[str], rows: list[list[str]]) -> str:
    """Return a table in Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |\n" for line in lines)
