"""Addresses of stores: as given, as passed to MLflow, as shown in commands."""

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

_credentials: list[str] = []
"""The environment variables with the credentials of the address that was opened last."""


def refusal(uri: str, reason: str) -> UserError:
    """Return the error for a store that cannot be used."""
    return UserError(f"tracking.uri={address_without_password(uri)}: {reason}")


def resolved(uri: str | None) -> str:
    """Return the address for MLflow to open; a SQLite file's is absolute, since jobs may change the
    working directory. uri: None: the environment's or MLflow's default. Raises: UserError."""
    address = _with_credentials(uri) or _get_default_tracking_uri()
    if address == DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH:  # an old store of files
        address = Path(address).absolute().as_uri()
    path = sqlite_file(address)
    return address if path is None else sqlite_address(path, address.partition("?")[2])


def is_database(uri: str) -> bool:
    """Return whether that is the address of a database, SQLite included."""
    return _dialect(uri) in ("sqlite", "postgresql", "mysql", "mssql")


def sqlite_file(uri: str) -> Path | None:
    """Return the absolute path of a SQLite address; None for another one. Raises: UserError."""
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
    """Return the address of that file for SQLAlchemy. query: what stands after the ``?``.

    MLflow makes the folder that it finds in the undecoded address. So only what must be is quoted,
    and then the slashes, too, so that it finds no folder.
    """
    text = str(path)
    quoted = "".join(c if c.isprintable() and c not in "%?" else urllib.parse.quote(c) for c in text)
    if quoted != text:
        quoted = quoted.replace("/", "%2F")
    return f"sqlite:///{quoted}{'?' if query else ''}{query}"


def ui_command(uri: str) -> str:
    """Return the command that serves a store, for a shell in this folder. Plain ``mlflow ui``
    ignores MLFLOW_TRACKING_URI."""
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
    """Return the hint that a command with the address needs its password, if it has one."""
    has_one = bool(_credentials) or address_without_password(uri) != uri
    return " (with user and password)" if has_one else ""


def _dialect(uri: str) -> str:
    """Return for example "sqlite" for "sqlite+pysqlite:///x.db"."""
    return uri.partition(":")[0].partition("+")[0].lower()


def _with_credentials(uri: str | None) -> str | None:
    """Return the address with the credentials that the environment's has: configurations have no
    passwords. A server's credentials go to MLflow by environment variables."""
    while _credentials:  # they are for the server that was opened last only
        os.environ.pop(_credentials.pop(), None)
    given = os.environ.get("MLFLOW_TRACKING_URI", "")
    if uri is not None and address_without_password(given) != uri:
        return uri
    if not is_server(given) or (parts := urllib.parse.urlsplit(given)).username is None:
        return given or None
    for name, value in (("USERNAME", parts.username), ("PASSWORD", parts.password or "")):
        _credentials.append(f"MLFLOW_TRACKING_{name}")
        os.environ[_credentials[-1]] = urllib.parse.unquote(value)
    return address_without_password(given)
