"""The address of a store: as it is given, as MLflow is told it, as a command shows it."""

from __future__ import annotations

import os
import shlex
import urllib.parse
from pathlib import Path

from mlflow.store.tracking import DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH, DEFAULT_TRACKING_URI
from mlflow.tracking._tracking_service.utils import _get_default_tracking_uri
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from srste.errors import UserError, address_without_password
from srste.store.manifest import is_server

_lent: list[str] = []
"""The variables by which MLflow was told what lets in to the address that was opened last."""


def refusal(uri: str, reason: str) -> UserError:
    """What is said of a store that cannot be used."""
    return UserError(f"tracking.uri={address_without_password(uri)}: {reason}")


def resolved(uri: str | None) -> str:
    """The address that MLflow is to open. None: of the environment, or where MLflow looks by default.
    A SQLite file's is absolute: jobs may change the working directory. Raises: UserError."""
    address = _with_credentials(uri) or _get_default_tracking_uri()
    if address == DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH:  # an old store of files
        address = Path(address).absolute().as_uri()
    path = sqlite_file(address)
    return address if path is None else sqlite_address(path, address.partition("?")[2])


def is_database(uri: str) -> bool:
    """Whether that is the address of a database, SQLite's included."""
    return _dialect(uri) in ("sqlite", "postgresql", "mysql", "mssql")


def sqlite_file(uri: str) -> Path | None:
    """The file behind an address, absolute; None where it is not SQLite's. Raises: UserError."""
    if _dialect(uri) != "sqlite":
        return None
    try:
        url = make_url(uri)
    except (SQLAlchemyError, ValueError) as error:
        raise refusal(uri, "must be sqlite:/// and the name of a file") from error
    if url.host:
        raise refusal(uri, f"must have three slashes, as sqlite:///{url.host}")
    if url.database in (None, "", ":memory:"):
        raise refusal(uri, "a store in memory ends with the process; name a file, sqlite:///mlflow.db")
    if "uri" in url.query or url.database.startswith("file:"):
        raise refusal(uri, "must name the file itself, as sqlite:///mlflow.db, not by a URI of SQLite")
    path = Path(url.database).absolute()
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        name = ascii(str(path))[1:-1]
        raise UserError(
            f"tracking.uri=sqlite:///{name}: MLflow keeps artifacts only under names that are UTF-8; "
            "rename that folder, name a file elsewhere by tracking.uri, or use tracking=none"
        ) from error
    return path


def sqlite_address(path: Path, query: str = "") -> str:
    """The address that SQLAlchemy reads as that file. query: what stands after the ``?``.

    MLflow makes the folder that it finds in the address as it stands there. So nothing is quoted that
    need not be, and where something must be, the slashes are too: then it finds none.
    """
    text = str(path)
    quoted = "".join(c if c.isprintable() and c not in "%?" else urllib.parse.quote(c) for c in text)
    if quoted != text:
        quoted = quoted.replace("/", "%2F")
    return f"sqlite:///{quoted}{'?' if query else ''}{query}"


def ui_command(uri: str) -> str:
    """The command that shows a store that is no server, for a shell in this folder. Plain ``mlflow ui``
    does not look at MLFLOW_TRACKING_URI."""
    path = sqlite_file(uri)
    if (
        path is not None
        and path == Path("mlflow.db").absolute()
        and not os.environ.get("MLFLOW_BACKEND_STORE_URI")
        and _get_default_tracking_uri() == DEFAULT_TRACKING_URI  # not so beside an old store of files
    ):
        return "mlflow ui"
    return f"mlflow ui --backend-store-uri {shlex.quote(address_without_password(uri))}"


def tell_password(uri: str) -> str:
    """What is to be added to a command that holds the address without its password."""
    return "" if address_without_password(uri) == uri and not _lent else " (with user and password)"


def _dialect(uri: str) -> str:
    """For example "sqlite", of "sqlite+pysqlite:///x.db"."""
    return uri.partition(":")[0].partition("+")[0].lower()


def _with_credentials(uri: str | None) -> str | None:
    """The address with what lets in, as the environment has it: configurations, which are written to
    disk, hold addresses without passwords. A server's go to MLflow beside the address."""
    while _lent:  # to that server, and to no other
        os.environ.pop(_lent.pop(), None)
    own = os.environ.get("MLFLOW_TRACKING_URI", "")
    if uri is not None and address_without_password(own) != uri:
        return uri
    if not is_server(own) or (parts := urllib.parse.urlsplit(own)).username is None:
        return own or None
    for name, value in (("USERNAME", parts.username), ("PASSWORD", parts.password or "")):
        _lent.append(f"MLFLOW_TRACKING_{name}")
        os.environ[_lent[-1]] = urllib.parse.unquote(value)
    return address_without_password(own)
