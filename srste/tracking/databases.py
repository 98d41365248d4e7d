"""MLflow's databases: checked before MLflow changes them, and created atomically."""

import os
import shlex
import shutil
import socket
import sqlite3
import stat
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import mlflow
import sqlalchemy
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from filelock import FileLock
from mlflow.exceptions import MlflowException
from mlflow.store.db.utils import _get_alembic_config, _initialize_tables
from mlflow.store.tracking.dbmodels.initial_models import Base
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from sqlalchemy import Engine, NullPool, create_engine, event, inspect
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from srste.errors import UserError, address_without_password, first_line
from srste.store.files import temporary_beside
from srste.tracking.addresses import refusal, sqlite_address, sqlite_file, tell_password
from srste.user_cache import user_cache

ANOTHER = "name another by tracking.uri, as sqlite:///other.db, or use tracking=none"

_SQLITE = b"SQLite format 3\0"


@contextmanager
def sqlite_store(uri: str) -> Iterator[None]:
    """Lock a SQLite store against other processes of this machine, and create it if missing: MLflow
    migrates a new database table by table, unlocked.

    Raises: UserError if it cannot be used or written, before anything is changed.
    """
    path = sqlite_file(uri)
    assert path is not None
    try:
        _check_arguments(uri)
        path = path.resolve()  # SQLite's journal is beside the file that a link leads to
        new = _is_new(uri, path)
        if not new:
            look_at_tables(uri)
        check_writable(path.parent)
        lock = FileLock(path.with_name(f".{path.name}.srste.lock"))
        lock.acquire()
    except SQLAlchemyError as error:
        plain = getattr(error, "orig", None) or error  # without SQLAlchemy's additions
        raise refusal(uri, f"cannot be read ({first_line(plain)}); {ANOTHER}") from error
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: links in a circle
        raise refusal(uri, f"cannot be used ({first_line(error)}); {ANOTHER}") from error
    with lock:
        try:
            if new and _is_new(uri, path):  # still, now that it is locked
                make_database(path)
            _check_writes(path)
        except (OSError, sqlite3.Error) as error:
            raise refusal(uri, f"cannot be written ({first_line(error)}); {ANOTHER}") from error
        yield


def look_at_tables(uri: str) -> None:
    """Raise UserError if the database's tables are not this MLflow's, which would add its own.
    Raises: SQLAlchemyError where it does not answer."""
    engine = create_engine(uri, poolclass=NullPool)
    with engine.connect() as connection:
        tables = set(inspect(connection).get_table_names())
        revisions = MigrationContext.configure(connection).get_current_heads()
    if not tables or (not revisions and engine.dialect.name != "sqlite"):
        return  # on a server, a new database may have tables
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
            f"them MLflow {mlflow.__version__}'s; or {ANOTHER}",
        )
    raise refusal(uri, f"{reason}; {ANOTHER}")


def check_writable(folder: Path) -> None:
    """Raise OSError unless a file can be written there."""
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(bytes(4096))
        file.flush()


def make_folder(folder: Path) -> str:
    """Return the advice how to make the folder; "" where it cannot be made."""
    return f"`mkdir -p {shlex.quote(str(folder))}` makes it; or " if can_make(folder) else ""


def can_make(folder: Path) -> bool:
    """Return whether a folder that does not exist can be made."""
    existing = next(parent for parent in folder.parents if parent.exists())
    return existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)


def make_database(path: Path) -> None:
    """Create a database atomically: MLflow cannot use one whose creation was cut off."""
    # The caller has the lock: a file of that name was left by a process that ended.
    new = path.with_name(f".{path.name}.{socket.gethostname()}.srste.new")
    for suffix in ("", "-journal", "-wal", "-shm"):
        new.with_name(new.name + suffix).unlink(missing_ok=True)
    # Some hundred migrations need not each wait for the disk; one fsync before the rename is enough.
    event.listen(Engine, "connect", _disable_fsync)
    try:
        _copy_empty_database(new)
        store = SqlAlchemyStore(sqlite_address(new), artifact_root(path))  # type: ignore[no-untyped-call]
        store.engine.dispose()
    finally:
        event.remove(Engine, "connect", _disable_fsync)
    with new.open("rb") as file:
        os.fsync(file.fileno())
    if path.exists():  # an empty file, whose permissions are kept
        shutil.copymode(path, new)
    new.replace(path)


def _copy_empty_database(new: Path) -> None:
    """Copy this MLflow's tables from the user's cache to a new database, if possible: MLflow makes them
    by a hundred migrations, which take most of a second.

    They are in the cache from the first store that was made. There is no experiment yet in them: the
    default one's artifacts are beside the database.
    """
    versions = f"mlflow-{mlflow.__version__}-sqlalchemy-{sqlalchemy.__version__}"
    try:
        kept = user_cache() / f"{versions}.db"
        if not kept.exists():
            kept.parent.mkdir(parents=True, exist_ok=True)
            making = temporary_beside(kept)
            try:
                engine = create_engine(sqlite_address(making), poolclass=NullPool)
                _initialize_tables(engine)  # type: ignore[no-untyped-call]
                engine.dispose()
                with making.open("rb") as file:
                    os.fsync(file.fileno())
                making.replace(kept)
            finally:
                making.unlink(missing_ok=True)
        shutil.copyfile(kept, new)
        look_at_tables(sqlite_address(new))
    # No home, a full disk; a damaged copy, which is made anew the next time.
    except (OSError, RuntimeError, SQLAlchemyError, CommandError, MlflowException, UserError):
        new.unlink(missing_ok=True)
        with suppress(OSError, RuntimeError):
            (user_cache() / f"{versions}.db").unlink(missing_ok=True)


def artifact_root(path: Path) -> str:
    """Return the artifact location of a SQLite store: beside it, whatever the working directory."""
    return (path.parent / "mlruns").as_uri()


def _is_new(uri: str, path: Path) -> bool:
    """Return whether the file is missing or empty. Raises: UserError, OSError."""
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
    """Raise ValueError unless SQLite takes the arguments after the ``?``."""
    with warnings.catch_warnings(action="error"):
        try:
            create_engine(make_url(uri).set(database=":memory:"), poolclass=NullPool).connect().close()
        except (SQLAlchemyError, Warning, TypeError) as error:
            raise ValueError(first_line(error)) from error


def _check_writes(path: Path) -> None:
    """Raise sqlite3.Error unless SQLite can write to the file and its journal."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute('CREATE TABLE "srste looks whether it can write" (x)')
        connection.execute("ROLLBACK")


def _some(tables: set[str]) -> str:
    return ", ".join(sorted(tables)[:3]) + (", ..." if len(tables) > 3 else "")


def _disable_fsync(connection: sqlite3.Connection, _: object) -> None:
    connection.execute("PRAGMA synchronous = OFF")
