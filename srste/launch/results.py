"""The results of a launch, read from its records: report, MLflow runs, and lost jobs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

from srste.report.chapters import Chapter, chapters
from srste.report.conditions import Condition, conditions
from srste.report.report_files import NAME
from srste.store import records
from srste.store.manifest import Contents, JobContents, Launch, read_contents, read_launch
from srste.store.records import Record

if TYPE_CHECKING:
    from srste.report.report import Report

LOST_SHOWN = 20


@dataclass(frozen=True)
class LaunchResults:
    """A launch's records. records: by key, with their folders, in order of folder; damaged: the
    folders of damaged records."""

    root: Path
    launch: Launch
    contents: Contents
    records: dict[str, tuple[Path, Record]]
    damaged: list[Path]

    @cached_property
    def conditions(self) -> list[Condition]:
        """The records by condition, for tables and figures."""
        return conditions(record for _, record in self.records.values())

    @cached_property
    def chapters(self) -> list[Chapter]:
        """What there is to say of each setting."""
        return chapters(self.conditions)

    @property
    def lost(self) -> list[JobContents]:
        """The jobs that lack the record of a study."""
        return [job for job in self.contents.jobs if self.n_missing(job)]

    def n_missing(self, of: Contents | JobContents) -> int:
        """Return the number of studies without a record, of a job or of all."""
        return sum(key not in self.records for key in of.studies)


def read_results(root: Path) -> LaunchResults | None:
    """Read the launch of that folder and its records; None if there is none, or it is damaged."""
    launch, contents = read_launch(root), read_contents(root)
    return results_in(root, launch, contents) if launch and contents else None


def results_in(root: Path, launch: Launch, contents: Contents) -> LaunchResults:
    """Read the records of a launch. A record counts for each job that has its study."""
    damaged: list[Path] = []
    stored = records.find_studies(root, contents.studies, damaged)
    return LaunchResults(root, launch, contents, stored, damaged)


def show_lost(results: LaunchResults, reasons: Mapping[str, str], console: Console) -> None:
    """Print the lost jobs, the reasons, and the command that runs them again."""
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
        table.add_row(job.folder, f"{results.n_missing(job)} of {len(job.studies)}", why)
    console.print(table)
    if len(lost) > LOST_SHOWN:
        console.print(f"... and {len(lost) - LOST_SHOWN} more")
    console.print(
        f"The same command runs just those, and reuses the rest:\n  {results.launch.command}",
        soft_wrap=True,
    )  # fmt: skip


def report_on(results: LaunchResults, folder: Path) -> Report:
    """Write the launch's report, ``report.html`` and a folder of its figures and tables."""
    from srste.report.page import Facts
    from srste.report.report import write_report

    facts = Facts(results.launch.title, results.launch.command, results.n_missing(results.contents))
    return write_report(results.chapters, results.records, folder / NAME, facts)
