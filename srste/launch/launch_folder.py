"""Protects other files in a launch's folder.

A launch removes, moves, overwrites and sets aside only what its own manifest names: the records of
its studies, in their folders, and the files that every launch writes. A folder that contains such
files and no manifest is refused before any work. Of incomplete files, only those with the temporary
names of :mod:`srste.store.files` and :mod:`srste.store.records` are removed, and only in folders
that the launch writes to.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from filelock import FileLock, Timeout

from srste.errors import UserError
from srste.note2021.log import NOTE_LOG
from srste.report.report_files import NAME, folder_of, refuse_foreign_report
from srste.store import records
from srste.store.files import remove_temporaries
from srste.store.manifest import CONTENTS, LAUNCH, Contents, read_launch
from srste.store.pretraining_file import PRETRAINING

LOCK = ".srste.lock"
TRACKING_LOCK = ".srste.tracking.lock"
"""Of the process that writes the launch's runs, which may outlive the launching one by a run."""

_LAUNCH_FILES = (
    LAUNCH, CONTENTS, "results.csv", "table.txt", "table_*.txt", "figure.png", "figure_*.png",
    "figure.svg", "figure_*.svg", NOTE_LOG, "note_*.log", "multirun.yaml",
)  # fmt: skip
_JOB_FILES = (NOTE_LOG, "train.log", ".hydra/*.yaml")


def locked(root: Path) -> AbstractContextManager[object]:
    """Lock the launch's folder within the block, so that the same command does not run there twice
    at once; the lock ends with the process. Raises: UserError if another process has locked it."""
    try:
        return FileLock(root / LOCK).acquire(timeout=0)
    except Timeout as error:
        raise UserError(
            f"{root}: another process is running this command there; wait for it, or name another "
            "folder by hydra.run.dir or, with -m, hydra.sweep.dir"
        ) from error


def refuse_foreign_files(key: str, root: Path, contents: Contents, report: bool) -> None:
    """Refuse (UserError) to write over files that no launch has written.

    Args: key: of the setting that names the folder. report: whether the launch ends with a report.
    """
    job_folders = _job_folders(root, contents)
    if not _is_launch(root):
        for folder, patterns in [(root, _LAUNCH_FILES), *((f, _JOB_FILES) for f in job_folders)]:
            for path in (path for pattern in patterns for path in _matching(folder, pattern)):
                raise UserError(
                    f"{key}={root}: holds {path.relative_to(root)}, over which a launch would "
                    "write, and which none has left there; name another folder"
                )
    for folder in job_folders - {root}:
        if (folder / LAUNCH).exists():
            raise UserError(f"{key}={root}: {folder.relative_to(root)} is another launch's folder there")
    for folder in (root / below for below in contents.studies.values()):
        if foreign := records.foreign_in(folder):
            raise UserError(
                f"{key}={root}: {folder.relative_to(root)} is for a record, and holds {foreign[0]}, "
                "which is not srste's; move it elsewhere"
            )
    if report:
        refuse_foreign_report(root / NAME)


def tidy(root: Path, contents: Contents) -> None:
    """Remove the incomplete files of earlier processes of this launch that were killed."""
    studies = {(root / below).parent for below in contents.studies.values()}
    folders = {root, folder_of(root / NAME), root / PRETRAINING, *_job_folders(root, contents), *studies}
    for folder in (*folders, *(root / ".reports").glob("*")):
        remove_temporaries(folder, records.FILES)


def _is_launch(root: Path) -> bool:
    # With both files there, one of them is damaged, and is written again.
    return read_launch(root) is not None or all((root / name).exists() for name in (LAUNCH, CONTENTS))


def _matching(folder: Path, pattern: str) -> Iterator[Path]:
    """Yield the files of that name or pattern, broken links included."""
    path = folder / pattern
    yield from [path] if path.is_symlink() else folder.glob(pattern)


def _job_folders(root: Path, contents: Contents) -> set[Path]:
    return {root / job.folder for job in contents.jobs}
