"""Opening a store: whatever would keep it from taking runs is reported before any work."""

import logging
import os
import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import Experiment, ExperimentTag, LifecycleStage, ViewType
from mlflow.environment_variables import MLFLOW_ALLOW_FILE_STORE
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.utils.file_utils import local_file_uri_to_path
from mlflow.utils.uri import get_uri_scheme

from srste.errors import UserError, address_without_password, first_line
from srste.store.manifest import is_server
from srste.tracking.addresses import (
    is_database,
    refusal,
    resolved,
    sqlite_address,
    sqlite_file,
    tell_password,
)
from srste.tracking.artifacts import check_location
from srste.tracking.databases import ANOTHER, artifact_root, look_at_tables, sqlite_store
from srste.tracking.explained import EXPERIMENT_TAGS
from srste.tracking.writer import Store, StoreError

_ANSWER_WITHIN = "9"  # seconds
_KIND = "mlflow.experimentKind"


def open_store(tracking: Mapping[str, Any], patient: bool = False, launching: bool = False) -> Store:
    """Return the store of a launch's ``tracking``, opened once a launch: jobs may change the
    working directory.

    Args: patient: whether to retry for about a minute when it does not answer, rather than to give
        up within 10 s. launching: whether a launch begins; a notebook starts several.
    Raises: UserError.
    """
    if launching:
        _opened.cache_clear()
    return _opened(tracking["uri"], tracking["experiment"], patient)


def open_anew(given: str | None, name: str, patient: bool = False) -> Store:
    """Open a store as :func:`open_store` does, without its cache. given: the address."""
    for logger, level in (
        ("mlflow", logging.WARNING),
        ("mlflow.store.db.utils", logging.CRITICAL),  # it logs the traceback of what it raises
        ("alembic", logging.WARNING),
    ):
        logging.getLogger(logger).setLevel(level)
    try:
        uri = resolved(given)
        _refuse_files(uri)
    except (ValueError, MlflowException) as error:  # no address at all
        raise refusal(given or "", f"{first_line(error)}; {ANOTHER}") from error
    with sqlite_store(uri) if sqlite_file(uri) else nullcontext():
        try:
            with nullcontext() if patient else _impatiently():
                if is_database(uri) and sqlite_file(uri) is None:
                    look_at_tables(uri)
                client = mlflow.MlflowClient(uri)
                experiment = client.get_experiment_by_name(name)
                if experiment is not None and experiment.name != name:
                    raise MlflowException("its answer is not in a valid JSON format of MLflow")
        # ImportError: of a missing driver
        except (*StoreError, ValueError, ImportError, TypeError) as error:
            raise refusal(uri, _no_answer(uri, error)) from error
        try:
            if experiment is None:
                experiment_id = _new_experiment(client, uri, name)
            else:
                _check_experiment(client, uri, experiment)
                experiment_id = str(experiment.experiment_id)
        except (*StoreError, ValueError) as error:
            raise refusal(
                uri, f"does not take experiment {name!r} ({first_line(error, 2_000)}); {ANOTHER}"
            ) from error
    return Store(client, uri, experiment_id)


_opened = cache(open_anew)


def _refuse_files(uri: str) -> None:
    """Raise UserError if the address is a folder; older MLflows kept runs in folders."""
    allowed = MLFLOW_ALLOW_FILE_STORE.get()  # type: ignore[no-untyped-call]
    scheme = get_uri_scheme(uri)  # type: ignore[no-untyped-call]
    if scheme not in ("", "file") or uri in ("databricks", "databricks-uc", "uc") or allowed:
        return
    path = Path(local_file_uri_to_path(uri)).absolute()  # type: ignore[no-untyped-call]
    if path.is_file():
        raise refusal(uri, f"a SQLite file is written {shlex.quote(f'sqlite:///{uri}')}")
    reason = (
        f"MLflow {mlflow.__version__} keeps no runs in folders, as older ones did; with "
        "tracking.uri=sqlite:///mlflow.db they go to that file"
    )
    database = Path("mlflow.db").absolute()
    # MLflow's command does not work where the address would have to be quoted.
    quoted = sqlite_address(database) != f"sqlite:///{database}"
    if any(path.glob("*/meta.yaml")) and not database.exists() and not quoted:
        source = ["--source", str(path)]
        command = ["mlflow", "migrate-filestore", *source, "--target", "sqlite:///mlflow.db"]
        reason += f" (`{shlex.join(command)}` puts the old ones there, before)"
    raise refusal(uri, reason)


def _no_answer(uri: str, error: BaseException) -> str:
    """Return why a store did not return its experiment, and what to do."""
    message = _reason(first_line(error, 500))
    elsewhere = "name one that answers, or use tracking=none"
    if not is_server(uri) and not is_database(uri):
        return f"no answer ({message}); {ANOTHER}"
    if isinstance(error, ImportError):
        return f"needs a package that is not installed ({message}); {ANOTHER}"
    code = getattr(error, "error_code", "")
    if code in ("UNAUTHENTICATED", "PERMISSION_DENIED"):
        return (
            f"does not let in ({message}); set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, "
            "or use tracking=none"
        )
    if code == "ENDPOINT_NOT_FOUND" or "JSON format" in message or "with error code 3" in message:
        return f"what answers there is no MLflow server ({message}); {elsewhere}"
    return f"no answer ({message}); start that server, {elsewhere}"


def _reason(message: str) -> str:
    """Return what the operating system says in a message of Python's HTTP client, such as "Connection
    refused"; any other message as it is."""
    cause = re.search(r"\[Errno -?\d+\] ([^\"')(]+)", message)
    return cause[1].strip() if cause and "HTTPConnection" in message else message


def _new_experiment(client: mlflow.MlflowClient, uri: str, name: str) -> str:
    """Create the experiment and return its id. Its artifact location is checked first where it can
    be, since an unusable experiment would stay. Raises: UserError."""
    try:
        if not is_database(uri):
            new_id = client.create_experiment(name, tags=EXPERIMENT_TAGS)
            check_location(client.get_experiment(new_id).artifact_location, uri, name, used=False)
            return str(new_id)
        # For other databases MLflow's default place, as a URI that it need not decode.
        root = artifact_root((sqlite_file(uri) or Path("database").absolute()).resolve())
        check_location(root, uri, name, used=False)
        store = SqlAlchemyStore(uri, root)  # type: ignore[no-untyped-call]
        tags = [ExperimentTag(key, value) for key, value in EXPERIMENT_TAGS.items()]
        return str(store.create_experiment(name, tags=tags))  # type: ignore[no-untyped-call]
    except MlflowException as error:
        another_was_first = error.error_code == "RESOURCE_ALREADY_EXISTS"
        if not (another_was_first and (experiment := client.get_experiment_by_name(name))):
            raise
        return str(experiment.experiment_id)


def _check_experiment(client: mlflow.MlflowClient, uri: str, experiment: Experiment) -> None:
    """Raise UserError if the experiment takes no runs, or their files cannot be written."""
    name, number = experiment.name, experiment.experiment_id
    if experiment.lifecycle_stage != LifecycleStage.ACTIVE:
        command = (
            f"MLFLOW_TRACKING_URI={shlex.quote(address_without_password(uri))} "
            f"mlflow experiments restore --experiment-id {number}"
        )
        raise UserError(
            f"tracking.experiment={name}: is deleted in {address_without_password(uri)}; `{command}`"
            f"{tell_password(uri)} brings it back; or name another by tracking.experiment"
        )
    runs = client.search_runs([number], run_view_type=ViewType.ALL, max_results=1)
    check_location(experiment.artifact_location, uri, name, used=bool(runs))
    if sqlite_file(uri) is None:  # check that it can be written; a SQLite file's check is done
        client.set_experiment_tag(number, _KIND, experiment.tags.get(_KIND, EXPERIMENT_TAGS[_KIND]))


@contextmanager
def _impatiently() -> Iterator[None]:
    """Make MLflow ask a server only once and wait at most nine seconds."""
    patience = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": _ANSWER_WITHIN}
    before = {name: os.environ[name] for name in patience}
    os.environ.update(patience)
    try:
        yield
    finally:
        os.environ.update(before)
