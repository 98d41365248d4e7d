"""What a launch may touch in its folder, which other files may share.

A launch removes, moves, overwrites and sets aside nothing but what its own manifest names: the records
of its studies, in the folders where it puts them, and the files that a launch itself leaves. A folder
that holds such files and no manifest is refused before any work. Of what was left half written, only
what the writers of :mod:`srste.store.files` and :mod:`srste.store.records` have named is removed, and
only in folders that the launch writes to.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from filelock import FileLock, Timeout

from srste.errors import UserError
from srste.launch.job_runner import PRETRAINING
from srste.note2021.log import NOTE_LOG
from srste.report.page import NAME, folder_of, refuse_foreign_report
from srste.store import records
from srste.store.files import remove_temporaries
from srste.store.manifest import CONTENTS, LAUNCH, Contents, read_launch

LOCK = ".srste.lock"

_OF_A_LAUNCH = (
    LAUNCH, CONTENTS, "results.csv", "table.txt", "table_*.txt", "figure.png", "figure_*.png",
    "figure.svg", "figure_*.svg", "note_*.log", "multirun.yaml",
)  # fmt: skip
_OF_A_JOB = (NOTE_LOG, "train.log", ".hydra/*.yaml")


def alone_in(root: Path) -> AbstractContextManager[object]:
    """Holds the launch's folder, so that the same command does not run there twice at once; the
    system lets go of it however the process ends. Raises: UserError if another process holds it."""
    try:
        return FileLock(root / LOCK).acquire(timeout=0)
    except Timeout as error:
        raise UserError(
            f"{root}: another process is running this command there; wait for it, or name another "
            "folder by hydra.run.dir or, with -m, hydra.sweep.dir"
        ) from error


def refuse_foreign_files(key: str, root: Path, contents: Contents, report: bool) -> None:
    """Raises: UserError where the launch would write over files that no launch has left there.

    Args: key: of the setting that names the folder. report: whether the launch ends with one.
    """
    if not _is_of_a_launch(root):
        for folder, patterns in [(root, _OF_A_LAUNCH), *((f, _OF_A_JOB) for f in _jobs(root, contents))]:
            for path in (path for pattern in patterns for path in _matching(folder, pattern)):
                raise UserError(
                    f"{key}={root}: holds {path.relative_to(root)}, over which a launch would "
                    "write, and which none has left there; name another folder"
                )
    for folder in _jobs(root, contents) - {root}:
        if (folder / LAUNCH).exists():
            raise UserError(f"{key}={root}: {folder.relative_to(root)} is another launch's folder there")
    for folder in (root / below for below in contents.studies.values()):
        try:
            foreign = records.foreign_in(folder)
        except FileNotFoundError:
            continue
        if foreign:
            raise UserError(
                f"{key}={root}: {folder.relative_to(root)} is for a record, and holds {foreign[0]}, "
                "which is not srste's; move it elsewhere"
            )
    if report:
        refuse_foreign_report(root / NAME)


def tidy(root: Path, contents: Contents) -> None:
    """Removes what writers of this launch that were killed left half written."""
    for folder in _written_to(root, contents):
        remove_temporaries(folder, records.FILES)


def _is_of_a_launch(root: Path) -> bool:
    # A manifest that was damaged is made anew.
    return read_launch(root) is not None or all((root / name).exists() for name in (LAUNCH, CONTENTS))


def _matching(folder: Path, pattern: str) -> Iterator[Path]:
    """What is there of that name or pattern, links that lead nowhere included."""
    path = folder / pattern
    yield from [path] if path.is_symlink() else folder.glob(pattern)


def _jobs(root: Path, contents: Contents) -> set[Path]:
    return {root / job.folder for job in contents.jobs}


def _written_to(root: Path, contents: Contents) -> Iterator[Path]:
    studies = {(root / below).parent for below in contents.studies.values()}
    yield from {root, folder_of(root / NAME), root / PRETRAINING, *_jobs(root, contents), *studies}
    yield from (root / ".reports").glob("*")
