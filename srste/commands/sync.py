"""`python -m srste sync`: logs the records of launches to MLflow, at any later time."""

import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import replace
from pathlib import Path

from filelock import FileLock

from srste.errors import UserError, address_without_password, first_line
from srste.launch.launch_folder import TRACKING_LOCK, locked
from srste.launch.progress import doing
from srste.launch.results import LaunchResults, read_results, report_on
from srste.launch.tracked import synced, write_outcome
from srste.report.launch_files import write_files
from srste.store.files import find_files
from srste.store.manifest import LAUNCH
from srste.tracking import StoreError, open_store


def sync(
    folders: Sequence[Path], uri: str | None, experiment: str | None, granularity: str | None
) -> bool:
    """Log to MLflow what it lacks of the launches at or below these folders, which are only read.
    The failure of a launch is printed, and does not end the others.

    Args: uri, experiment, granularity: None: as the launch itself was tracked.
    Returns: whether all of them succeeded. Raises: UserError for a folder without launch.
    """
    if uri is not None and address_without_password(uri) != uri:
        os.environ["MLFLOW_TRACKING_URI"], uri = uri, address_without_password(uri)
    given = {"uri": uri, "experiment": experiment, "granularity": granularity}
    changes = {key: value for key, value in given.items() if value is not None}
    succeeded = True
    for root in _launches(folders):
        try:
            with _locked_if_writable(root):
                _sync(_results(root, changes))
        except UserError as error:
            print(f"srste: {error}", file=sys.stderr)
            succeeded = False
    return succeeded


def _results(root: Path, changes: dict[str, str]) -> LaunchResults:
    results = read_results(root)
    if results is None:
        raise UserError(f"{root}: the launch there is not legible; its command makes it anew")
    if not results.records:
        raise UserError(f"{root}: no records of this launch's studies are there")
    tracking = results.launch.tracking | {"name": "mlflow"} | changes
    return replace(results, launch=replace(results.launch, tracking=tracking))


def _launches(folders: Sequence[Path]) -> list[Path]:
    roots: list[Path] = []
    for folder in folders:
        of_folder = [path.parent for path in find_files(folder, LAUNCH)]
        if not of_folder:
            wrong = "must be the folder of a launch, or one above it"
            raise UserError(f"{folder}: {wrong if folder.is_dir() else 'there is no such folder'}")
        roots += of_folder
    return roots


def _locked_if_writable(root: Path) -> AbstractContextManager[object]:
    """Lock the folder against a launch that would write there, and against one's MLflow process, if
    files can be locked there."""
    locks = ExitStack()
    with suppress(OSError):  # a read-only folder
        locks.enter_context(locked(root))
        if (root / TRACKING_LOCK).exists():  # nothing is added to a folder that is only read
            locks.enter_context(FileLock(root / TRACKING_LOCK))
    return locks


def _sync(results: LaunchResults) -> None:
    root, launch = results.root, results.launch
    for folder in results.damaged:
        print(f"{folder}: the record is damaged and passed over; the launch's command runs it again")
    store = open_store(launch.tracking)
    with tempfile.TemporaryDirectory() as scratch:
        files = write_files(results.conditions, Path(scratch))
        if launch.multirun:
            page = report_on(results, Path(scratch)).page
            files += [page, page.with_suffix("")]
        try:
            with doing("Writing runs to MLflow") as activity:

                def step(done: int, total: int) -> None:
                    activity.update(f"Writing runs to MLflow: {done} of {total}")

                tracked = synced(results, store, step)
            write_outcome(tracked, store, files, seconds=0.0)
        except StoreError as error:
            raise UserError(f"{root}: MLflow did not take everything ({first_line(error)})") from error
    missing = results.n_missing(results.contents)
    lacking = f", {missing} studies are missing" if missing else ""
    print(f"{root}: {tracked.synced.added} runs added, {len(results.records)} studies there{lacking}")
    print(f"Charts: {store.charts(launch)}")
