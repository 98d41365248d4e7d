"""What a launch ends with, made from its records: tables, figures, MLflow, and what was lost."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

from srste.launch.job_runner import read_note
from srste.launch.progress import counting
from srste.report.conditions import Condition, conditions
from srste.report.launch_files import description, front, names
from srste.report.page import NAME
from srste.store import records
from srste.store.manifest import Contents, JobContents, Launch
from srste.store.records import Record

if TYPE_CHECKING:
    from srste.report.report import Report
    from srste.tracking import Store

LOST_SHOWN = 20


@dataclass(frozen=True)
class Results:
    """A launch's records. found: by key, with their folders; damaged: folders of those that cannot be
    trusted."""

    root: Path
    launch: Launch
    contents: Contents
    found: dict[str, tuple[Path, Record]]
    damaged: list[Path]

    @property
    def studies(self) -> list[Record]:
        """The records, in order of folder."""
        return [record for _, record in self.found.values()]

    @property
    def lost(self) -> list[JobContents]:
        """The jobs of which a study lacks its record."""
        return [job for job in self.contents.jobs if not self.found.keys() >= set(job.keys)]

    def missing(self, job: JobContents) -> int:
        """How many of the job's studies lack their record."""
        return sum(key not in self.found for key in job.keys)


def results_in(root: Path, launch: Launch, contents: Contents) -> Results:
    """What there is of a launch: the records that its contents name. Two jobs may have asked for the
    same study; one record counts for each that it is about."""
    damaged: list[Path] = []
    stored = records.find_studies(root, contents.studies, damaged)
    return Results(root, launch, contents, stored, damaged)


def track(results: Results, store: Store, arranged: list[Condition], files: list[Path]) -> int:
    """Makes the store hold all of it, files and folders of files included. Returns how many runs were
    added. Raises: StoreError."""
    from srste.tracking import entries

    launch, contents = results.launch, results.contents
    notes = [note for key in contents.pretrainings if (note := read_note(results.root, key))]
    wanted = entries(results.found.values(), notes, launch.tracking["granularity"])
    with counting("MLflow", len(wanted)) as step:
        synced = store.sync(launch, wanted, contents.everything, step)
    lost = results.lost
    complaint = f"**{len(lost)} of {len(contents.jobs)} jobs are missing.**\n\n" if lost else ""
    store.track_launch(
        launch,
        synced,
        configs=_configurations(arranged),
        description=complaint + description(arranged),
        files=[path for path in files if not path.is_dir()],
        folders=[path for path in files if path.is_dir()],
        names=names(arranged),
        front=front(arranged),
        complete=not lost,
    )
    return synced.added


def _configurations(arranged: list[Condition]) -> list[dict[str, object]]:
    """The jobs' configurations, each once."""
    configs = {}
    for condition in arranged:
        for record in condition.cells.values():
            configs[json.dumps(record.config, sort_keys=True)] = record.config
    return list(configs.values())


def show_lost(results: Results, reasons: Mapping[str, str], console: Console) -> None:
    """Names the jobs that are missing, why, and the command that runs just those."""
    lost, jobs = results.lost, results.contents.jobs
    if not lost:
        return
    console.print(f"\n{len(lost)} of {len(jobs)} jobs did not get through", style="bold red")
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("job", no_wrap=True)
    table.add_column("studies missing", justify="right", no_wrap=True)
    table.add_column("why", overflow="fold")
    for job in lost[:LOST_SHOWN]:
        why = reasons.get(job.folder, "did not run")
        table.add_row(job.folder, f"{results.missing(job)} of {len(job.keys)}", why)
    console.print(table)
    if len(lost) > LOST_SHOWN:
        console.print(f"... and {len(lost) - LOST_SHOWN} more")
    console.print(
        f"The same command runs just those, and reuses the rest:\n  {results.launch.command}",
        soft_wrap=True,
    )  # fmt: skip


def report_on(results: Results, folder: Path) -> Report:
    """Writes the launch's report, ``report.html`` and a folder of its figures and tables."""
    from srste.report.report import Facts, write_report

    launch = results.launch
    missing = len(results.contents.keys) - len(results.found)
    return write_report(results.found, folder / NAME, Facts(launch.title, launch.command, missing))


def arranged_in(results: Results) -> list[Condition]:
    """The records arranged for looking at."""
    return conditions(results.studies)
