"""The page of a report: HTML that needs nothing but itself."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import jinja2
from plotly.offline import get_plotlyjs

from srste.analysis.alarms import MEANING, by_kind
from srste.analysis.statistics.paired import FEWEST_NETWORKS
from srste.report import claims, gradients
from srste.report.chapters import Chapter
from srste.report.conditions import Condition
from srste.report.curves import curves_json
from srste.report.formatting import duration, loss_words, with_interval
from srste.report.next_step import next_step
from srste.store.records import RecordIndex

ALARMS_SHOWN = 10
BATCHES_SHOWN = 20
SETTINGS_DRAWN = 6
"""Only the first settings get figures: each takes some seconds."""


@dataclass(frozen=True)
class Picture:
    """A figure of the page. caption: what it shows. source: as a data URI."""

    caption: str
    source: str


@dataclass(frozen=True)
class Facts:
    """The head of the page. title: the launch, or the folders. command: the launch's, if there is
    one. missing: the number of studies without a record."""

    title: str
    command: str | None = None
    missing: int = 0


class Cell(NamedTuple):
    """A loss in a table; lowest: whether it is its column's."""

    text: str
    lowest: bool


class BatchRow(NamedTuple):
    """The losses of an estimator at one number of samples, and their mean."""

    title: str
    samples: int | str
    cells: list[Cell]


class Batches(NamedTuple):
    """The losses of a network by batch."""

    numbers: list[int]
    rows: list[BatchRow]


@dataclass(frozen=True)
class Part:
    """What the page shows of one setting."""

    chapter: Chapter
    pictures: list[Picture] = field(default_factory=list)

    @cached_property
    def loss(self) -> str:
        """The name of the loss."""
        return loss_words(next(iter(self.chapter.setting.networks.values())).common)

    @cached_property
    def batches(self) -> Batches:
        """The table of the first network's batches."""
        return _batches(self.chapter.setting.networks[min(self.chapter.setting.networks)])


def html(
    parts: Sequence[Part],
    stored: RecordIndex,
    folders: Mapping[str, Path],
    facts: Facts,
    fixed: int | None,
) -> str:
    """Return the page.

    Args: folders: of the records, by key. fixed: the sample count that was fixed beforehand.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("srste.report", ""),
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    chapters = [part.chapter for part in parts]
    arranged = [one for chapter in chapters for one in chapter.setting.networks.values()]
    records = [record for _, record in stored.values()]
    shown = sum(len(condition.cells) for condition in arranged)
    return environment.get_template("page.html").render(
        facts=facts,
        parts=parts,
        gradients=gradients,
        claims=claims,
        next=next_step(facts.command, chapters),
        duration=duration,
        with_interval=with_interval,
        fewest=FEWEST_NETWORKS,
        drawn=SETTINGS_DRAWN,
        alarms_by_kind=by_kind,
        meaning=MEANING,
        alarms_shown=ALARMS_SHOWN,
        studies=len(records),
        trials=sum(record.trials for record in records),
        written=max((record.created for record in records), default="")[:10],
        machine=f"{platform.machine()} {platform.system()}",
        commits=sorted({record.git_commit for record in records}),
        versions=sorted({f"{name} {v}" for record in records for name, v in record.versions.items()}),
        superseded=len(records) - shown,
        heldout=sorted({record.heldout.examples for record in records if record.heldout}),
        fixed=fixed,
        losses=list(dict.fromkeys(loss_words(condition.common) for condition in arranged)),
        curves=curves_json(chapters, folders),
        plotly=get_plotlyjs(),
        script=files("srste.report").joinpath("page.js").read_text(encoding="utf-8"),
    )


def _batches(condition: Condition) -> Batches:
    numbers = condition.batches[:BATCHES_SHOWN]
    losses = {c: [condition.post_loss(b, c) for b in numbers] for c in condition.columns}
    means = {c: condition.mean(partial(condition.post_loss, column=c)) for c in condition.columns}
    columns = [[*losses[c], means[c]] for c in condition.columns]
    lowest = [
        min((loss for loss in of_batch if loss is not None), default=None)
        for of_batch in zip(*columns, strict=True)
    ]
    rows = []
    for column, values in zip(condition.columns, columns, strict=True):
        cells = [
            Cell("-" if loss is None else f"{loss:.5f}", loss is not None and loss == low)
            for loss, low in zip(values, lowest, strict=True)
        ]
        rows.append(BatchRow(column.series, column.samples or "", cells))
    return Batches(numbers, rows)
