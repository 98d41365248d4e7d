"""The MLflow store: opened once, and made to hold what the records say.

Everything is idempotent: a run carries the launch's id and its own key as tags, and what the store
already holds is not written again. Runs that a writer left unfinished are made anew, duplicates
deleted (in MLflow they can be restored).
"""

from __future__ import annotations

import getpass
import logging
import os
import sqlite3
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

# Before the import: no usage data to anyone, and a dead server is given up within seconds.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
# Its links, with the password that the address may hold, are not for logs.
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")

import mlflow
import yaml
from filelock import FileLock
from mlflow.entities import Param, RunStatus
from mlflow.entities import Run as StoredRun
from mlflow.exceptions import MlflowException
from mlflow.store.tracking import DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from sqlalchemy import Engine, event
from sqlalchemy.exc import SQLAlchemyError

from srste import provenance
from srste.chart_view import TAG_PREFIX, chart_view
from srste.errors import UserError, address_without_password, first_line
from srste.files import temporary_beside
from srste.manifest import Launch, is_server
from srste.tracking.runs import Entry, Run, code_tags, milliseconds, side_by_side

_EXPERIMENT_TAGS = {
    "mlflow.experimentKind": "custom_model_development",
    "mlflow.note.content": (
        "One run a study: one estimator, one number of samples, one batch.\n\n"
        "- `best/pre_loss`, `best/post_loss`: loss before the step and after the best one\n"
        "- `best/lr`, `best/decrease`: its learning rate, and by how much the loss fell\n"
        "- `best/exact_lr`, `best/exact_loss`: of the minimum over all learning rates up to lr_max; "
        "`best/attained`: 0 where it is only approached; `best/exact_error`: no loss is lower by more, "
        "rounding aside; `best/regret`: how far above it the best trial "
        "is, `best/regret_fraction`: as a part of the decrease that can be had\n"
        "- `descent/exists`: 0 where no learning rate lowers the loss, which is certified; "
        "`descent/intervals`, `descent/total`: how many ranges of learning rates do, and their length "
        "together; `descent/first_lo`, `descent/first_hi`: the one of the smallest learning rates, "
        "`descent/smallest_...`, `descent/largest_...`: the shortest and the longest\n"
        "- `baseline/gain`: how much lower than the baseline's (STE's) on the batch; > 0 is better\n"
        "- `trial/...`: the trials, step = number of the trial; all of them in `trials.parquet`\n"
        "- `replay/...`: the same step made by the real float32 model\n"
        "- `heldout/pre_loss`, `heldout/post_loss`: the same step on held-out data; `heldout/best_lr`, "
        "`heldout/best_loss`: the best one there\n"
        "- `zero/loss`: of a zero output; `baseline/angle`: to STE's direction, degrees\n\n"
        "With `tracking.granularity=job` one run holds all batches of an estimator at a sample count: "
        "`mean/...` over them, `batch/...` with the batch as the step, `studies.csv`.\n\n"
        "Tags to filter and group by: `estimator`, `samples`, `batch`, `model`, `loss`, `pretraining`, "
        "`sampling`, `seed`, `kind` (study, job, pretraining, launch), `curve`: exact, or evaluated by "
        "forward passes, without `best/exact_...` and `descent/...`, for the reason in `not_exact`."
    ),
}

_PER_CALL = 1_000  # MLflow's own limit on what one request logs
_PARAMS_PER_CALL = 100
_ANSWER_WITHIN = "9"  # seconds

StoreError = (MlflowException, SQLAlchemyError, OSError)
"""What a store that is gone, full or refusing raises."""


@dataclass(frozen=True)
class Synced:
    """What a store held after :meth:`Store.sync`. added: how many runs that was. runs: (id, name) by
    key. former: ids of the launch's own earlier runs."""

    added: int
    runs: dict[str, tuple[str, str]]
    former: list[str]


class Store:
    """An MLflow tracking store and the experiment in it.

    Args:
        uri: of the store; None: where MLflow looks by default.
        experiment: its name; made if missing.
        patient: as in :func:`open_store`.
    Raises: UserError when the store cannot be opened or does not answer.
    """

    def __init__(self, uri: str | None, experiment: str, patient: bool) -> None:
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        logging.getLogger("alembic").setLevel(logging.WARNING)
        self.uri = uri or mlflow.get_tracking_uri()
        try:
            # A new database is migrated table by table, unlocked: one process at a time.
            with _one_at_a_time(self.uri), nullcontext() if patient else _impatiently():
                self._client = mlflow.MlflowClient(self.uri)
                known = self._client.get_experiment_by_name(experiment)
                self.experiment_id: str = (
                    known.experiment_id
                    if known
                    else self._client.create_experiment(experiment, tags=_EXPERIMENT_TAGS)
                )
        except (*StoreError, ValueError, ImportError) as error:  # ImportError: a missing driver
            uri = address_without_password(self.uri)
            raise UserError(
                f"tracking.uri={uri}: no answer ({first_line(error)}); start that server, name one that "
                "answers, or use tracking=none"
            ) from error

    def add(self, launch: Launch, entries: Iterable[Entry]) -> None:
        """Writes these runs, without asking what is there."""
        for entry in entries:
            self._write(launch, entry.key, entry.size, entry.make())

    def sync(
        self,
        launch: Launch,
        entries: Sequence[Entry],
        planned: frozenset[str],
        step: Callable[[], None],
    ) -> Synced:
        """Makes the store hold these runs, each once.

        The launch's writers must have ended: what is still running there was left by one that died.
        Args: planned: keys of all runs that the launch is about; others, of older code, are deleted.
            step: called after each entry.
        """
        held: dict[str, tuple[str, str, int]] = {}
        former: list[str] = []
        for run in self._runs(f"tags.`srste.launch` = '{launch.id}'"):
            run_id, tags = run.info.run_id, run.data.tags
            key, size = tags["srste.key"], int(tags.get("srste.size", "1"))
            if not RunStatus.is_terminated(RunStatus.from_string(run.info.status)):
                self._client.delete_run(run_id)
            elif tags["kind"] == "launch":
                former.append(run_id)
            elif key not in planned or (key in held and held[key][2] >= size):
                self._client.delete_run(run_id)
            else:
                if key in held:
                    self._client.delete_run(held[key][0])
                held[key] = (run_id, run.info.run_name, size)
        added = 0
        for entry in entries:
            there = held.get(entry.key)
            if there is None or there[2] < entry.size:
                if there is not None:
                    self._client.delete_run(there[0])  # it was of fewer studies
                made = entry.make()
                run_id = self._write(launch, entry.key, entry.size, made)
                held[entry.key] = (run_id, made.name, entry.size)
                added += 1
            step()
        return Synced(added, {key: (run_id, name) for key, (run_id, name, _) in held.items()}, former)

    def track_launch(
        self,
        launch: Launch,
        synced: Synced,
        configs: Sequence[dict[str, Any]],
        description: str,
        files: Sequence[Path],
        folders: Sequence[Path],
        names: Mapping[str, str],
        front: Sequence[str],
        complete: bool,
    ) -> None:
        """The launch's own run, made anew: its tables and figures, and the view its link opens.

        Args: configs: of the jobs; what differs between them stands side by side in the parameters.
            description: Markdown for the run's page. names: what tells each run from the launch's
            others, by key. front: keys of the runs that the chart view shows at first, in order;
            MLflow's charts have room for some twenty. complete: whether nothing is missing.
        """
        for key, (run_id, name) in synced.runs.items():
            if names.get(key, name) != name:
                self._client.update_run(run_id, name=names[key])
        for run_id in synced.former:
            self._client.delete_run(run_id)
        tags = {"kind": "launch", "command": launch.command, "mlflow.note.content": description}
        whole = {f"configuration {number}": config for number, config in enumerate(configs, 1)}
        run = Run(
            name=launch.title,
            tags=tags | code_tags(provenance.git_commit(), provenance.versions()),
            params=side_by_side(configs),
            start=None,  # now and not at the launch's start, so that it tops the list of its studies
            files=files,
            folders=folders,
            texts={"config.yaml": yaml.safe_dump(whole, sort_keys=False)},
            failed=not complete,
        )
        own = self._write(launch, launch.id, 1, run)
        shown = [own, *(synced.runs[key][0] for key in front if key in synced.runs)]
        for place, run_id in enumerate(shown):
            self._client.set_tag(run_id, "srste.front", launch.id)
            self._client.set_tag(run_id, "srste.place", f"{place:04d}")
        view = chart_view(
            f"tags.`srste.front` = '{launch.id}'",
            order_by="tags.`srste.place`",
            granularity=launch.tracking["granularity"],
        )
        self._client.set_experiment_tag(self.experiment_id, TAG_PREFIX + launch.id, view)

    def link(self, launch: Launch) -> str:
        """The address of the launch's charts in MLflow, where a server shows the store."""
        base = (
            address_without_password(self.uri).rstrip("/")
            if is_server(self.uri)
            else "http://127.0.0.1:5000"
        )
        # MLflow opens in its GenAI mode unless told otherwise.
        query = "compareRunsMode=CHART&workflowType=machine_learning"
        return f"{base}/#/experiments/{self.experiment_id}/runs?viewStateShareKey={launch.id}&{query}"

    def _runs(self, search: str) -> list[StoredRun]:
        """All runs of the experiment that match, page by page, the newest first."""
        found: list[StoredRun] = []
        token: str | None = None
        while True:
            page = self._client.search_runs(
                [self.experiment_id], search, max_results=1_000, page_token=token
            )
            found += page
            token = page.token
            if not token:
                return found

    def _write(self, launch: Launch, key: str, size: int, run: Run) -> str:
        """Writes the run; until it is terminated, it counts as unfinished. Returns its id."""
        own = {
            "launch": launch.name,
            "srste.launch": launch.id,
            "srste.key": key,
            "srste.size": str(size),
            "mlflow.user": _user(),
            "mlflow.source.name": "train.py",
            "mlflow.source.type": "LOCAL",
        }
        start = milliseconds(run.start)
        created = self._client.create_run(
            self.experiment_id, start_time=start, tags=own | run.tags, run_name=run.name
        )
        run_id = str(created.info.run_id)
        params = [Param(k, str(v)) for k, v in run.params.items() if v is not None]
        first, rest = params[:_PARAMS_PER_CALL], params[_PARAMS_PER_CALL:]
        room = _PER_CALL - len(first)
        self._client.log_batch(run_id, metrics=run.metrics[:room], params=first)
        for i in range(0, len(rest), _PARAMS_PER_CALL):
            self._client.log_batch(run_id, params=rest[i : i + _PARAMS_PER_CALL])
        for i in range(room, len(run.metrics), _PER_CALL):
            self._client.log_batch(run_id, metrics=run.metrics[i : i + _PER_CALL])
        for file in run.files:
            self._client.log_artifact(run_id, str(file))
        for folder in run.folders:
            self._client.log_artifacts(run_id, str(folder), folder.name)
        for name, text in run.texts.items():
            self._client.log_text(run_id, text, name)
        end = start + round(1e3 * run.seconds)
        self._client.set_terminated(run_id, "FAILED" if run.failed else "FINISHED", end_time=end)
        return run_id


def open_store(tracking: Mapping[str, Any], patient: bool = False) -> Store:
    """The store of a launch's ``tracking``, opened once a process. patient: whether to try again when
    it does not answer, for about a minute, rather than to give up within 10 s. Raises: UserError."""
    return _connect(_with_credentials(tracking["uri"]), tracking["experiment"], patient)


@cache
def _connect(uri: str | None, experiment: str, patient: bool) -> Store:
    return Store(uri, experiment, patient)


_lent: list[str] = []
"""The variables by which MLflow was told what lets in to the address that was opened last."""


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


@contextmanager
def _one_at_a_time(uri: str) -> Iterator[None]:
    """For a store in a file, a lock beside it that all processes of this machine queue up at."""
    parts = urllib.parse.urlsplit(uri)
    if parts.scheme != "sqlite":
        yield
        return
    path = Path(parts.path.removeprefix("/"))
    with path.open("ab"):  # refused at once where MLflow would try again for minutes
        pass
    with FileLock(path.with_name(f"{path.name}.lock")):
        if path.stat().st_size == 0:
            _make_database(path)
        yield


def _make_database(path: Path) -> None:
    """A new database, which appears whole: one whose making was cut off would serve nobody again."""
    for left in path.parent.glob(f".{path.name}.*.tmp*"):
        left.unlink(missing_ok=True)
    made = temporary_beside(path)
    # Each of some hundred migrations would wait for the disk; once, before it has its name, is enough.
    event.listen(Engine, "connect", _without_waiting)
    try:
        store = SqlAlchemyStore(f"sqlite:///{made}", DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH)  # type: ignore[no-untyped-call]
        store.engine.dispose()
    finally:
        event.remove(Engine, "connect", _without_waiting)
    with made.open("rb") as file:
        os.fsync(file.fileno())
    made.replace(path)


def _without_waiting(connection: sqlite3.Connection, _: object) -> None:
    connection.execute("PRAGMA synchronous = OFF")


@contextmanager
def _impatiently() -> Iterator[None]:
    """While it lasts, MLflow asks a server once and for at most nine seconds."""
    patience = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": _ANSWER_WITHIN}
    before = {name: os.environ[name] for name in patience}
    os.environ.update(patience)
    try:
        yield
    finally:
        os.environ.update(before)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # an account without a name, as in some containers
        return str(os.getuid())
