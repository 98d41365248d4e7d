"""`python -m srste report`: writes the report of stored records."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from srste.analysis.alarms import BestStep
from srste.commands.audit.findings import Log
from srste.errors import UserError
from srste.launch.results import read_results
from srste.report.chapters import Chapter, chapters
from srste.report.conditions import conditions
from srste.report.page import Facts
from srste.report.report import Report, write_report
from srste.report.terminal import print_alarms, print_answers
from srste.store import records
from srste.store.files import find_files
from srste.store.manifest import LAUNCH
from srste.store.records import Record, no_records

SUFFIX = ".html"


@dataclass(frozen=True)
class Gathered:
    """The records of some folders. records: by key, with their folders. damaged: the folders of
    damaged records. facts: for the top of their report."""

    records: dict[str, tuple[Path, Record]]
    damaged: list[Path]
    facts: Facts

    def chapters(self, samples: int | None = None) -> list[Chapter]:
        """Return what there is to say of each setting.

        Args: samples: the sample count that was fixed beforehand; None: the smallest.
        Raises: UserError for a sample count that no record has.
        """
        counts = sorted({r.samples for _, r in self.records.values() if r.samples is not None})
        if samples is not None and samples not in counts:
            raise UserError(f"--samples={samples}: must be one of {', '.join(map(str, counts))}")
        return chapters(conditions(record for _, record in self.records.values()), samples)


def gather(folders: Sequence[Path]) -> Gathered:
    """Read all records at or below these folders. Raises: UserError for a folder without any."""
    gathered: dict[str, tuple[Path, Record]] = {}
    damaged: list[Path] = []
    missing, titles, commands = 0, [], []
    for folder in folders:
        count = 0
        for root in [path.parent for path in find_files(folder, LAUNCH)] or [folder]:
            results = read_results(root)
            if results is None:  # a part of a launch, or a damaged manifest
                stored = {r.key: (f, r) for f, r in records.find(root, damaged)}
                titles.append(str(root))
            else:
                stored, damaged = results.records, damaged + results.damaged
                missing += results.n_missing(results.contents)
                titles.append(results.launch.title)
                commands.append(results.launch.command)
            gathered |= stored
            count += len(stored)
        if not count:
            raise no_records(folder)
    facts = Facts("; ".join(titles), commands[0] if len(commands) == 1 else None, missing)
    return Gathered(gathered, damaged, facts)


def write(
    gathered: Gathered,
    said: Sequence[Chapter],
    page: Path,
    samples: int | None,
    drifts: Mapping[str, Sequence[BestStep]],
) -> Report:
    """Write the report of these records.

    Args: said: their chapters for ``samples``, the sample count that was fixed beforehand. page: its
        HTML. drifts: the steps of logs, by name.
    Raises: UserError for another suffix of the page, or one that would overwrite another file.
    """
    _check_suffix(page)
    return write_report(said, gathered.records, page, gathered.facts, samples, drifts)


def _check_suffix(page: Path) -> None:
    if page.suffix != SUFFIX:
        raise UserError(f"--out={page}: must end in {SUFFIX}")


def report(
    folders: Sequence[Path],
    out: Path | None,
    samples: int | None,
    logs: Sequence[Path],
    console: Console,
) -> None:
    """Write the report of all records at or below these folders and print its verdicts.

    Args: out: the page; by default ``report.html`` in the one folder, or in the working folder for
        several. samples: as for :func:`write`. logs: whose drift is shown, too.
    Raises: UserError, see :func:`gather` and :func:`write`.
    """
    if samples is not None and samples < 1:
        raise UserError(f"--samples={samples}: must be a whole number >= 1")
    page = out or (folders[0] if len(folders) == 1 else Path()) / f"report{SUFFIX}"
    _check_suffix(page)
    names = [log.name for log in logs]
    drifts = {log.name if names.count(log.name) == 1 else str(log): Log.read(log).steps for log in logs}
    gathered = gather(folders)
    if gathered.damaged:
        console.print(
            "Damaged or of another version, and passed over: "
            f"{len(gathered.damaged)} records, the first in {gathered.damaged[0]}",
            soft_wrap=True,
        )  # fmt: skip
    said = gathered.chapters(samples)
    write(gathered, said, page, samples, drifts)
    print_answers(said, console)
    print_alarms([alarm for chapter in said for alarm in chapter.alarms], console)
    console.print(
        f"Report: {page}; its figures and tables in {page.with_suffix('')}",
        soft_wrap=True,
    )
