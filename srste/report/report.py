"""The report: a self-contained HTML page, and its tables and figures as files beside it."""

from __future__ import annotations

import base64
import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import jinja2

from srste.analysis.alarms import MEANING, Alarm, BestStep, by_kind
from srste.analysis.grouping import grouped
from srste.analysis.statistics.paired import FEWEST_NETWORKS
from srste.report import claims
from srste.report.certificate_text import overview, placed
from srste.report.claims import Claim, Count
from srste.report.conditions import Condition, conditions
from srste.report.figures.curves import curves_figure
from srste.report.figures.drift import drift_figure
from srste.report.figures.networks import networks_figure
from srste.report.figures.note import note_figure
from srste.report.figures.scatter import angle_figure, heldout_figure
from srste.report.figures.style import rendered, same_everywhere
from srste.report.formatting import loss_words, signed
from srste.report.legend import caveat
from srste.report.panels import Measure, Setting, measures, settings
from srste.report.report_files import folder_of, refuse_foreign_report
from srste.report.study_alarms import alarms_of, steps_of
from srste.report.table import csv_table, text_table
from srste.store.files import csv_text, slug, write_atomically
from srste.store.records import RecordIndex

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LARGEST_SVG = 300_000  # bytes; beyond, the page shows the PNG
ALARMS_SHOWN = 10
TABLES_SHOWN = 6
SETTINGS_DRAWN = 6
"""Only the first settings get figures: each takes some seconds."""


@dataclass(frozen=True)
class Picture:
    """A figure of the page. caption: what it shows. source: as a data URI."""

    caption: str
    source: str


@dataclass
class Chapter:
    """What the page says of one setting."""

    setting: Setting
    claims: list[Claim]
    counts: list[Count]
    alarms: list[Alarm]
    pictures: list[Picture] = field(default_factory=list)

    @property
    def measures(self) -> list[Measure]:
        """The measures that its studies have."""
        return measures(self.setting)

    @property
    def over_all(self) -> list[str]:
        """Sentences on all learning rates, tried or not."""
        return overview(placed(self.setting.networks.values()))


@dataclass(frozen=True)
class Facts:
    """The head of the page. title: the launch, or the folders. command: the launch's, if there is
    one. missing: the number of studies without a record."""

    title: str
    command: str | None = None
    missing: int = 0


@dataclass(frozen=True)
class Report:
    """A written report. page: the HTML. files: its tables and figures. chapters: its content."""

    page: Path
    files: list[Path]
    chapters: list[Chapter]


def write_report(
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
    arranged = conditions(record for _, record in stored.values())
    folders = {key: folder for key, (folder, _) in stored.items()}
    contents: dict[Path, bytes] = {}
    chapters = []
    for setting in settings(arranged):
        chapter = Chapter(
            setting,
            claims.claims(setting, fixed),
            claims.counts(setting),
            [alarm for condition in setting.networks.values() for alarm in alarms_of(condition)],
        )
        chapters.append(chapter)
        if len(chapters) > SETTINGS_DRAWN:
            continue
        with same_everywhere():
            for name, caption, figure in _figures(setting, folders, fixed, logs or {}):
                ending = f"_{slug(setting.label)}" if setting.label else ""
                images = rendered(figure)
                contents |= {folder / f"{name}{ending}{kind}": image for kind, image in images.items()}
                chapter.pictures.append(_picture(caption, images))
    contents |= _tables(chapters, arranged, folder)
    # The page first: it marks the files beside it as a report's.
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(page, _html(chapters, arranged, stored, facts, fixed).encode())
    for path, content in contents.items():
        write_atomically(path, content)
    return Report(page, list(contents), chapters)


def _figures(
    setting: Setting,
    folders: Mapping[str, Path],
    fixed: int | None,
    logs: Mapping[str, Sequence[BestStep]],
) -> Iterator[tuple[str, str, Figure]]:
    """Yield (name, caption, figure) of the figures that the setting's studies allow."""
    seed = min(setting.networks)
    first = setting.networks[seed]
    counts = [c.samples for c in first.columns if c.samples is not None]
    if counts:
        yield (
            "networks",
            "Mean over networks against the number of samples. Above: the loss after the step; below: "
            "how much lower it is than the baseline's on the same batch.",
            networks_figure(setting),
        )
    yield (
        "batches",
        f"Each batch of the first network (seed {seed}), as in the note of June 2021: the loss after "
        "the best step against the number of samples.",
        note_figure(first),
    )
    samples = (fixed if fixed in counts else min(counts)) if counts else None
    evaluated = any(record.not_exact for record in first.cells.values())
    at = f" Estimators with sample counts at N = {samples}." if counts else ""
    yield (
        "curves",
        f"The loss curves of that network: the loss after a step{'' if evaluated else ', exactly'}, "
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
    sampled = [step for step in steps_of(first) if step.samples is not None]
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


def _tables(chapters: list[Chapter], arranged: list[Condition], folder: Path) -> dict[Path, bytes]:
    """Return the tables as CSV and Markdown, by their paths in the folder."""
    verdicts = claims.rows([claim for chapter in chapters for claim in chapter.claims])
    counts = claims.count_rows([count for chapter in chapters for count in chapter.counts])
    alarms = (
        ["setting", "alarm", "where", "what"],
        [[c.setting.title, a.kind, a.where, a.detail] for c in chapters for a in c.alarms],
    )
    first, *others = csv.reader(csv_table(arranged).splitlines())
    tables = {"verdicts": verdicts, "note": counts, "alarms": alarms, "studies": (first, others)}
    contents = {}
    for name, (columns, rows) in tables.items():
        contents[folder / f"{name}.csv"] = csv_text([columns, *rows]).encode()
        contents[folder / f"{name}.md"] = markdown(columns, rows).encode()
    return contents


def markdown(columns: list[str], rows: list[list[str]]) -> str:
    """Return a table in Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |\n" for line in lines)


def _html(
    chapters: list[Chapter],
    arranged: list[Condition],
    stored: RecordIndex,
    facts: Facts,
    fixed: int | None,
) -> str:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("srste", "report"), undefined=jinja2.StrictUndefined,
        autoescape=True, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    records = [record for _, record in stored.values()]
    return environment.get_template("page.html").render(
        facts=facts,
        chapters=chapters,
        claims=claims,
        signed=signed,
        fewest=FEWEST_NETWORKS,
        tables=[(text_table(c), caveat([c]).splitlines()) for c in arranged[:TABLES_SHOWN]],
        drawn=SETTINGS_DRAWN,
        tables_left=max(0, len(arranged) - TABLES_SHOWN),
        alarms_by_kind=by_kind,
        meaning=MEANING,
        alarms_shown=ALARMS_SHOWN,
        studies=len(records),
        trials=sum(record.trials for record in records),
        commits=sorted({record.git_commit for record in records}),
        versions=sorted({f"{name} {v}" for record in records for name, v in record.versions.items()}),
        superseded=len(records) - sum(len(condition.cells) for condition in arranged),
        heldout=sorted({record.heldout.examples for record in records if record.heldout}),
        fixed=fixed,
        losses=list(dict.fromkeys(loss_words(condition.common) for condition in arranged)),
    )
