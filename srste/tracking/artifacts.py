"""The artifact location of an experiment."""

import shlex
from pathlib import Path

from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

from srste.errors import UserError, first_line
from srste.store.manifest import is_server
from srste.tracking.addresses import sqlite_file
from srste.tracking.databases import can_make, check_writable


def check_location(location: str, uri: str, experiment: str, used: bool) -> None:
    """Raise UserError unless files can be written where the experiment keeps its artifacts.
    Locations on servers and clouds are not checked.

    Args: used: whether the experiment may have files there already. A missing folder is then made
        only beside the SQLite file: elsewhere it was moved away, or is on another machine, and new
        files would be apart from the rest.
    """
    other = "name another experiment by tracking.experiment"
    if is_server(uri):
        other = f"have the server keep artifacts (mlflow server --artifacts-destination), and {other}"
    where = f"tracking.experiment={experiment}: its artifacts go to {location}"
    try:
        folder = local_folder(location, uri)
    except (MlflowException, ImportError, OSError, ValueError) as error:
        raise UserError(f"{where}, which cannot be used here ({first_line(error)}); {other}") from error
    if folder is None:
        return
    where = f"tracking.experiment={experiment}: its artifacts go to {folder}"
    if not folder.is_absolute():
        raise UserError(f"{where}, which is a folder of another machine; {other}")
    database = sqlite_file(uri)
    try:
        if used and not folder.exists() and not _is_beside(folder, database):
            raise UserError(f"{where}, which is not there; {_moved(folder, database)}{other}")
        if (original := _original_of(folder, database)) is not None:
            raise UserError(f"{where}, with those of {original}, of which {database} is a copy; {other}")
        folder.mkdir(parents=True, exist_ok=True)
        check_writable(folder)
    except OSError as error:
        raise UserError(f"{where}, which cannot be written ({first_line(error)}); {other}") from error


def local_folder(location: str, uri: str) -> Path | None:
    """Return the local folder of an artifact location; None if it is not local. Raises: MLflow's
    errors for the location."""
    repository = get_artifact_repository(location, tracking_uri=uri)
    return Path(repository.artifact_dir) if isinstance(repository, LocalArtifactRepository) else None


def _is_beside(folder: Path, database: Path | None) -> bool:
    return database is not None and folder.resolve().is_relative_to(database.resolve().parent)


def _original_of(folder: Path, database: Path | None) -> Path | None:
    """Return the SQLite file beside the artifacts, if ``database`` is a copy of it elsewhere."""
    if database is None or _is_beside(folder, database):
        return None
    original = folder.parent.parent / database.name
    return original if original.is_file() and not original.samefile(database) else None


def _moved(folder: Path, database: Path | None) -> str:
    """Return the advice how a store that was moved finds its files again; "" where it cannot."""
    if database is None:
        return ""
    before, now = folder.parent, database.resolve().parent / folder.parent.name
    moved = (now / folder.name).is_dir() and not (before.exists() or before.is_symlink())
    if not moved or not can_make(before):
        return ""
    make = shlex.join(["mkdir", "-p", str(before.parent)])
    link = shlex.join(["ln", "-s", str(now), str(before)])
    return f"if this folder was moved, `{make} && {link}` leads to them; or "
