"""`python -m srste optuna`: the studies of launches in a storage of Optuna's, or in its dashboard."""

import importlib.util
import shlex
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from srste.commands.optuna_writing import write_studies
from srste.errors import UserError, address_without_password
from srste.launch.signals import raise_terminated
from srste.store import records
from srste.store.files import find_files
from srste.store.manifest import LAUNCH, read_contents
from srste.store.optuna_database import OptunaDatabase
from srste.store.records import StoredRecord, no_records

PORT = 8080
"""The dashboard's own default."""

_HOST = "127.0.0.1"


def optuna(folders: Sequence[Path], storage: str | None, trials: str | None, port: int | None) -> None:
    """Write the studies at or below these folders into an Optuna storage, or serve a dashboard of them
    until Ctrl-C.

    Args: storage: its address; None: a temporary one, which is served. trials: how many of each study,
        or "all"; None: all of up to 1,000, 320 of more. port: of the dashboard; 0: any.
    Raises: UserError.
    """
    most = _most(trials)
    if storage is None:
        _serve(folders, most, PORT if port is None else port)
        return
    if port is not None:
        raise UserError(f"--port={port}: must be left out with --storage, which serves nothing")
    print(write_studies(OptunaDatabase(storage), _stored(folders), most))
    shown = address_without_password(storage)
    hint = "" if shown == storage else " (with user and password)"
    print(f"optuna-dashboard {shlex.quote(shown)}{hint}{_how_to_install()}")


def _most(trials: str | None) -> int | None:
    """Return the number of trials of a study that are written; None: as many as a chart shows."""
    if trials is None:
        return None
    if trials == "all":
        return _ALL
    if not (trials.isdecimal() and int(trials) >= 1):
        raise UserError(f"--trials={trials}: must be a whole number >= 1, or all")
    return int(trials)


_ALL = 2**63


def _stored(folders: Sequence[Path]) -> list[StoredRecord]:
    """Return the records at or below these folders: of launches those that they ask for. Damaged ones
    are named and passed over. Raises: UserError for a folder without any."""
    stored: dict[str, StoredRecord] = {}
    damaged: list[Path] = []
    for folder in folders:
        of_folder: dict[str, StoredRecord] = {}
        for root in [path.parent for path in find_files(folder, LAUNCH)] or [folder]:
            contents = read_contents(root)
            if contents is None:  # a part of a launch, or a damaged manifest
                of_folder |= {record.key: (path, record) for path, record in records.find(root, damaged)}
            else:
                of_folder |= records.find_studies(root, contents.studies, damaged)
        if not of_folder:
            raise no_records(folder)
        stored |= of_folder
    for path in damaged:
        print(f"{path}: the record is damaged and passed over; the launch's command runs it again")
    return list(stored.values())


def _serve(folders: Sequence[Path], most: int | None, port: int) -> None:
    if how := _how_to_install():
        raise UserError(f"without --storage: optuna-dashboard must be installed{how}")
    import optuna_dashboard

    with raise_terminated(), _listening(port) as server, tempfile.TemporaryDirectory() as folder:
        stored = _stored(folders)
        database = OptunaDatabase(f"sqlite:///{folder}/studies.db")
        print(write_studies(database, stored, most, where="temporary storage"))
        server.set_app(optuna_dashboard.wsgi(database.storage))
        print(f"Dashboard: http://{_HOST}:{server.server_port}/ until Ctrl-C", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()
        finally:
            database.storage.engine.dispose()


class _Server(ThreadingMixIn, WSGIServer):
    """Answers several requests at a time, as the dashboard's own command does."""

    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: a page asks every few seconds."""


@contextmanager
def _listening(port: int) -> Iterator[_Server]:
    """Yield a server on that port, which is taken before any work. Raises: UserError."""
    if not 0 <= port < 2**16:
        raise UserError(f"--port={port}: must be from 1 to 65535, or 0 for any that is free")
    try:
        server = _Server((_HOST, port), _Quiet)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(f"--port={port}: {reason}; name another, or 0 for any that is free") from error
    with server:
        yield server


def _how_to_install() -> str:
    """Return how the dashboard is installed; "" where it is."""
    if importlib.util.find_spec("optuna_dashboard"):
        return ""
    return " (`pip install optuna-dashboard` installs it)"
