"""Databases of MLflow: looked at before it changes them, and made whole or not at all."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import sqlite3
import stat
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import mlflow
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from filelock import FileLock
from mlflow.store.db.utils import _get_alembic_config
from mlflow.store.tracking.dbmodels.initial_models import Base
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from sqlalchemy import Engine, NullPool, create_engine, event, inspect
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from srste.errors import address_without_password, first_line
from srste.tracking.addresses import refusal, sqlite_address, sqlite_file, tell_password

ANOTHER = "name another by tracking.uri, as sqlite:///other.db, or use tracking=none"

_SQLITE = b"SQLite format 3\0"


@contextmanager
def sqlite_store(uri: str) -> Iterator[None]:
    """While it lasts, no other process of this machine opens that SQLite store, which is there and can
    be written: made if there was none. MLflow migrates a new database table by table, unlocked.

    Raises: UserError, before anything was changed.
    """
    path = sqlite_file(uri)
    assert path is not None
    try:
        _check_arguments(uri)
        path = path.resolve()  # of a link, the file that it leads to: there SQLite has its journal
        new = _is_new(uri, path)
        if not new:
            look_at_tables(uri)
        check_writable(path.parent)
        lock = FileLock(path.with_name(f".{path.name}.srste.lock"))
        lock.acquire()
    except SQLAlchemyError as error:
        raise refusal(uri, f"cannot be read ({_plain(error)}); {ANOTHER}") from error
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: links in a circle
        raise refusal(uri, f"cannot be used ({first_line(error)}); {ANOTHER}") from error
    with lock:
        try:
            if new and _is_new(uri, path):  # still
                make_database(path)
            _check_writes(path)
        except (OSError, sqlite3.Error) as error:
            raise refusal(uri, f"cannot be written ({first_line(error)}); {ANOTHER}") from error
        yield


def look_at_tables(uri: str) -> None:
    """Raises: UserError where the database's tables are not those of this MLflow, which would add its
    own to them; SQLAlchemyError where it does not answer."""
    engine = create_engine(uri, poolclass=NullPool)
    with engine.connect() as connection:
        tables = set(inspect(connection).get_table_names())
        revisions = MigrationContext.configure(connection).get_current_heads()
    if not tables or (not revisions and engine.dialect.name != "sqlite"):
        return  # on a server, a database may have tables from its beginning
    if not tables >= set(Base.metadata.tables):
        raise refusal(uri, f"holds tables of another program ({_some(tables)}); {ANOTHER}")
    scripts = ScriptDirectory.from_config(_get_alembic_config(""))  # type: ignore[no-untyped-call]
    if set(revisions) == set(scripts.get_heads()):
        return
    if not revisions:
        reason = "its making by MLflow was cut off, or another program made it"
    elif not set(revisions) <= {script.revision for script in scripts.walk_revisions()}:
        reason = (
            f"its tables are of a version ({', '.join(revisions)}) that MLflow {mlflow.__version__} "
            "does not know: a newer MLflow's, or another program's"
        )
    else:
        command = f"mlflow db upgrade {shlex.quote(address_without_password(uri))}"
        raise refusal(
            uri,
            f"its tables are of an older MLflow; copy it, then `{command}`{tell_password(uri)} makes "
            f" them MLflow {mlflow.__version__}'s; or {ANOTHER}",
        )
    raise refusal(uri, f"{reason}; {ANOTHER}")


def check_writable(folder: Path) -> None:
    """Raises: OSError unless a file can be written there."""
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(bytes(4096))
        file.flush()


def make_folder(folder: Path) -> str:
    """The command that makes it, for an advice that goes on; empty where it would not."""
    there = next(parent for parent in folder.parents if parent.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        return ""
    return f"`mkdir -p {shlex.quote(str(folder))}` makes it; or "


def make_database(path: Path) -> None:
    """A new database, which appears whole: one whose making was cut off would serve nobody again."""
    # One process of this machine at a time comes here: what bears that name was left by one that ended.
    made = path.with_name(f".{path.name}.{socket.gethostname()}.srste.new")
    for suffix in ("", "-journal", "-wal", "-shm"):
        made.with_name(made.name + suffix).unlink(missing_ok=True)
    # Each of some hundred migrations would wait for the disk; once, before it has its name, is enough.
    event.listen(Engine, "connect", _without_waiting)
    try:
        store = SqlAlchemyStore(sqlite_address(made), artifact_root(path))  # type: ignore[no-untyped-call]
        store.engine.dispose()
    finally:
        event.remove(Engine, "connect", _without_waiting)
    with made.open("rb") as file:
        os.fsync(file.fileno())
    if path.exists():  # empty, with the permissions that its owner gave it
        shutil.copymode(path, made)
    made.replace(path)


def artifact_root(path: Path) -> str:
    """Where a SQLite store's artifacts go: beside it, whatever the working directory is."""
    return (path.parent / "mlruns").as_uri()


def _is_new(uri: str, path: Path) -> bool:
    """Whether there is no database yet in that file. Raises: UserError, OSError."""
    if not path.parent.is_dir():
        raise refusal(uri, f"there is no folder {path.parent}; {make_folder(path.parent)}{ANOTHER}")
    if not path.exists():
        return True
    if not stat.S_ISREG(path.stat().st_mode):
        raise refusal(uri, f"is {'a folder' if path.is_dir() else 'no file'}; {ANOTHER}")
    with path.open("rb") as file:
        beginning = file.read(len(_SQLITE))
    if beginning not in (b"", _SQLITE):
        raise refusal(uri, f"that file is no SQLite database; {ANOTHER}")
    return not beginning


def _check_arguments(uri: str) -> None:
    """Raises: ValueError unless what stands after the ``?`` is something that SQLite takes."""
    with warnings.catch_warnings(action="error"):
        try:
            create_engine(make_url(uri).set(database=":memory:"), poolclass=NullPool).connect().close()
        except (SQLAlchemyError, Warning, TypeError) as error:
            raise ValueError(first_line(error)) from error


def _check_writes(path: Path) -> None:
    """Raises: sqlite3.Error unless SQLite can write to the file and its journal beside it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute('CREATE TABLE "srste looks whether it can write" (x)')
        connection.execute("ROLLBACK")


def _plain(error: SQLAlchemyError) -> str:
    """What the database said, without SQLAlchemy's own words around it."""
    return first_line(getattr(error, "orig", None) or error)


def _some(tables: set[str]) -> str:
    return ", ".join(sorted(tables)[:3]) + (", ..." if len(tables) > 3 else "")


def _without_waiting(connection: sqlite3.Connection, _: object) -> None:
    connection.execute("PRAGMA synchronous = OFF")
