"""`python -m srste report`: the report of records that are there, wherever they were computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from srste.analysis.alarms import BestStep
from srste.commands.audit.findings import Log
from srste.errors import UserError
from srste.launch.results import results_in
from srste.report.report import Facts, Report, write_report
from srste.report.terminal import print_alarms, print_verdicts
from srste.store import records
from srste.store.files import find_files
from srste.store.manifest import LAUNCH, read_contents, read_launch
from srste.store.records import Record

SUFFIX = ".html"


@dataclass(frozen=True)
class Gathered:
    """Records from some folders. records: by key, with their folders. damaged: folders of those that
    cannot be trusted. facts: what stands at the top of their report."""

    records: dict[str, tuple[Path, Record]]
    damaged: list[Path]
    facts: Facts


def gather(folders: Sequence[Path]) -> Gathered:
    """All records at or below these folders. Raises: UserError for a folder without any."""
    gathered: dict[str, tuple[Path, Record]] = {}
    damaged: list[Path] = []
    missing, titles, commands = 0, [], []
    for folder in folders:
        count = 0
        for root in [path.parent for path in find_files(folder, LAUNCH)] or [folder]:
            launch, contents = read_launch(root), read_contents(root)
            if launch is None or contents is None:  # a part of a launch, or what is left of one
                results = {r.key: (f, r) for f, r in records.find(root, damaged)}
                titles.append(str(root))
            else:
                of_launch = results_in(root, launch, contents)
                results, damaged = of_launch.found, damaged + of_launch.damaged
                missing += len(contents.keys) - len(results)
                titles.append(launch.title)
                commands.append(launch.command)
            gathered |= results
            count += len(results)
        if not count:
            raise UserError(f"{folder}: must hold records of studies, at any depth")
    facts = Facts("; ".join(titles), commands[0] if len(commands) == 1 else None, missing)
    return Gathered(gathered, damaged, facts)


def write(
    gathered: Gathered, page: Path, samples: int | None, drifts: Mapping[str, Sequence[BestStep]]
) -> Report:
    """Writes the report of these records.

    Args: page: its HTML. samples: that was fixed beforehand; None: the smallest. drifts: the steps of
        logs by their names.
    Raises: UserError for another ending of the page, a sample count that there is not, or where
        something else than a report is there.
    """
    if page.suffix != SUFFIX:
        raise UserError(f"--out={page}: must end in {SUFFIX}")
    if samples is not None:
        counts = sorted({r.samples or 0 for _, r in gathered.records.values()})
        if samples not in counts:
            allowed = ", ".join(str(n) for n in counts if n)
            raise UserError(f"--samples={samples}: must be one of {allowed}")
    return write_report(gathered.records, page, gathered.facts, samples, drifts)


def report(
    folders: Sequence[Path],
    out: Path | None,
    samples: int | None,
    logs: Sequence[Path],
    console: Console,
) -> None:
    """Writes the report of all records at or below these folders and prints its verdicts.

    Args: out: the page; by default ``report.html`` in the one folder, or here for several. samples:
        that was fixed beforehand; None: the smallest. logs: whose drift is shown beside that of the
        studies.
    Raises: UserError for a folder without records, and what else cannot be.
    """
    if out is not None and out.suffix != SUFFIX:
        raise UserError(f"--out={out}: must end in {SUFFIX}")
    if samples is not None and samples < 1:
        raise UserError(f"--samples={samples}: must be a whole number >= 1")
    names = [log.name for log in logs]
    drifts = {log.name if names.count(log.name) == 1 else str(log): Log.read(log).steps for log in logs}
    gathered = gather(folders)
    if gathered.damaged:
        console.print(
            "Damaged or of another version, and passed over: "
            f"{len(gathered.damaged)} records, the first in {gathered.damaged[0]}",
            soft_wrap=True,
        )  # fmt: skip
    page = out or (folders[0] if len(folders) == 1 else Path()) / f"report{SUFFIX}"
    written = write(gathered, page, samples, drifts)
    print_verdicts(written.chapters, console)
    print_alarms([alarm for chapter in written.chapters for alarm in chapter.alarms], console)
    console.print(
        f"Report: {page}; its figures and tables in {page.with_suffix('')}",
        soft_wrap=True,
    )
