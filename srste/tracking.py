"""MLflow: one flat run a study, one a pretraining, one a launch, all made from records.

The only module that imports mlflow (more than a second, so others import this one where they need
it). Everything is idempotent: a run carries the launch's id and the record's key as tags, and what
the store already holds is not written again.
"""

from __future__ import annotations

import datetime
import getpass
import json
import logging
import os
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

# Before the import: no usage data to anyone, and a dead server is given up within seconds.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")

import mlflow
import numpy as np
import yaml
from filelock import FileLock
from mlflow.entities import Metric, Param, Run, RunStatus
from mlflow.exceptions import MlflowException
from numpy.typing import NDArray

from srste import provenance, records
from srste.chart_view import TAG_PREFIX, chart_view
from srste.errors import UserError, first_line, without_password
from srste.manifest import Launch
from srste.records import Record
from srste.report.summary import flat
from srste.sampling import Trials

log = logging.getLogger(__name__)

CURVE_POINTS = 320
"""The most points of a curve that MLflow's charts show; beyond, they drop some by stride."""

WHOLE_UP_TO = 1_000
"""Studies of up to that many trials are logged point by point."""

_EXPERIMENT_TAGS = {
    "mlflow.experimentKind": "custom_model_development",
    "mlflow.note.content": (
        "One run a study: one estimator, one number of samples, one batch.\n\n"
        "- `best/pre_loss`, `best/post_loss`: loss before the step and after the best one\n"
        "- `best/lr`, `best/decrease`: its learning rate, and by how much the loss fell\n"
        "- `baseline/gain`: how much lower than the baseline's (STE's) on the batch; > 0 is better\n"
        "- `trial/...`: the trials, step = number of the trial; all of them in `trials.parquet`\n"
        "- `replay/...`: the same step made by the real float32 model\n\n"
        "Tags to filter and group by: `estimator`, `samples`, `batch`, `pretraining`, `sampling`, "
        "`seed`, `kind` (study, pretraining, launch)."
    ),
}

_PER_CALL = 1_000  # MLflow's own limit on metrics in one request
_PARAMS_PER_CALL = 100
_ANSWER_WITHIN = "9"  # seconds

StoreError = (MlflowException, OSError)
"""What a store that is gone, full or refusing raises."""


class Store:
    """An MLflow tracking store and the experiment in it.

    Args:
        uri: of the store; None: where MLflow looks by default.
        experiment: its name; made if missing.
    Raises: UserError when the store cannot be opened or does not answer within 10 s.
    """

    def __init__(self, uri: str | None, experiment: str) -> None:
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        logging.getLogger("alembic").setLevel(logging.WARNING)
        self.uri = uri or mlflow.get_tracking_uri()
        self._known: dict[str, set[str]] = {}
        try:
            # A new database is migrated table by table, unlocked: one process at a time.
            with _one_at_a_time(self.uri), _impatiently():
                self._client = mlflow.MlflowClient(self.uri)
                known = self._client.get_experiment_by_name(experiment)
                self.experiment_id: str = (
                    known.experiment_id
                    if known
                    else self._client.create_experiment(experiment, tags=_EXPERIMENT_TAGS)
                )
        except Exception as error:  # stores raise what their drivers raise
            why = without_password(first_line(error))
            raise UserError(
                f"tracking.uri={without_password(self.uri)}: no answer ({why}); start that server, "
                "name one that answers, or use tracking=none"
            ) from error

    def sync(self, launch: Launch, studies: Iterable[Path], pretrainings: Iterable[Path]) -> int:
        """Puts into the store what it does not hold yet of these records.

        Args: studies: folders of study records. pretrainings: files that `srste.run` left of them.
        Returns: how many runs were added.
        """
        known = self._known_of(launch)
        before = len(known)
        for path in pretrainings:
            note = json.loads(path.read_bytes())
            if note["key"] not in known:
                self._track_pretraining(launch, note)
                known.add(note["key"])
        for folder in studies:
            record = records.read(folder)
            if record and record.key not in known:
                self._track_study(launch, folder, record)
                known.add(record.key)
        return len(known) - before

    def track_launch(
        self,
        launch: Launch,
        configs: Sequence[dict[str, Any]],
        description: str,
        files: Sequence[Path],
        studies: Mapping[str, str],
        front: Sequence[str],
    ) -> None:
        """The launch's own run, made anew: its tables and figures, and the view its link opens.

        Runs of the launch that are of none of its studies any more (older code wrote them) are
        deleted, which in MLflow means that they can be restored.

        Args: configs: of the jobs; what differs between them stands side by side in the parameters.
            description: Markdown for the run's page. studies: the name that tells each study's run
            from the launch's others, by key. front: keys of the studies that the chart view shows at
            first, in order; MLflow's charts have room for some twenty runs.
        """
        run_of: dict[str, str] = {}
        for run in self._runs(f"tags.`srste.launch` = '{launch.id}'"):
            key, kind = run.data.tags["srste.key"], run.data.tags["kind"]
            if kind == "launch" or (kind == "study" and (key not in studies or key in run_of)):
                self._client.delete_run(run.info.run_id)
                self._known_of(launch).discard(key)
            elif kind == "study":
                run_of[key] = run.info.run_id
                if run.info.run_name != studies[key]:
                    self._client.update_run(run.info.run_id, name=studies[key])

        tags = self._tags(launch, "launch", launch.id) | {"command": launch.command}
        tags |= _code_tags(provenance.git_commit(), provenance.versions())
        # Created now and not at the launch's start, so that it tops the list of its studies.
        run_id = self._create(launch.title, tags | {"mlflow.note.content": description}, None)
        self._log_params(run_id, _side_by_side([flat(config) for config in configs]))
        whole = {f"job {number}": config for number, config in enumerate(configs)}
        self._client.log_text(run_id, yaml.safe_dump(whole, sort_keys=False), "config.yaml")
        for file in files:
            self._client.log_artifact(run_id, str(file))
        self._client.set_terminated(run_id)

        for place, front_id in enumerate([run_id, *(run_of[key] for key in front)]):
            self._client.set_tag(front_id, "srste.front", launch.id)
            self._client.set_tag(front_id, "srste.place", f"{place:04d}")
        view = chart_view(f"tags.`srste.front` = '{launch.id}'", order_by="tags.`srste.place`")
        self._client.set_experiment_tag(self.experiment_id, TAG_PREFIX + launch.id, view)

    def link(self, launch: Launch) -> str:
        """The address of the launch's charts in MLflow, where a server shows the store."""
        remote = urllib.parse.urlsplit(self.uri).scheme in ("http", "https")
        base = without_password(self.uri).rstrip("/") if remote else "http://127.0.0.1:5000"
        # MLflow opens in its GenAI mode unless told otherwise.
        query = "compareRunsMode=CHART&workflowType=machine_learning"
        return f"{base}/#/experiments/{self.experiment_id}/runs?viewStateShareKey={launch.id}&{query}"

    def _runs(self, search: str) -> list[Run]:
        """All runs of the experiment that match, page by page."""
        found: list[Run] = []
        token: str | None = None
        while True:
            page = self._client.search_runs(
                [self.experiment_id], search, max_results=1_000, page_token=token
            )
            found += page
            token = page.token
            if not token:
                return found

    def _known_of(self, launch: Launch) -> set[str]:
        """Keys of the launch's finished runs, asked for once and then kept up to date here."""
        if launch.id not in self._known:
            self._known[launch.id] = self._ask_for_known(launch)
        return self._known[launch.id]

    def _ask_for_known(self, launch: Launch) -> set[str]:
        """The keys as the store has them. Runs that were cut off are deleted, to be made anew."""
        known: set[str] = set()
        for run in self._runs(f"tags.`srste.launch` = '{launch.id}'"):
            if RunStatus.is_terminated(RunStatus.from_string(run.info.status)):
                known.add(run.data.tags["srste.key"])
            else:
                self._client.delete_run(run.info.run_id)
        return known

    def _tags(self, launch: Launch, kind: str, key: str) -> dict[str, str]:
        return {
            "kind": kind,
            "launch": launch.name,
            "srste.launch": launch.id,
            "srste.key": key,
            "mlflow.user": _user(),
            "mlflow.source.name": "train.py",
            "mlflow.source.type": "LOCAL",
        }

    def _create(self, name: str, tags: dict[str, str], created: str | None) -> str:
        run = self._client.create_run(
            self.experiment_id, start_time=_milliseconds(created), tags=tags, run_name=name
        )
        return str(run.info.run_id)

    def _log_params(self, run_id: str, config: dict[str, Any]) -> None:
        params = [Param(k, str(v)) for k, v in config.items() if v is not None]
        for start in range(0, len(params), _PARAMS_PER_CALL):
            self._client.log_batch(run_id, params=params[start : start + _PARAMS_PER_CALL])

    def _log_metrics(self, run_id: str, metrics: list[Metric]) -> None:
        for start in range(0, len(metrics), _PER_CALL):
            self._client.log_batch(run_id, metrics[start : start + _PER_CALL])

    def _track_study(self, launch: Launch, folder: Path, record: Record) -> None:
        tags = self._tags(launch, "study", record.key) | _code_tags(record.git_commit, record.versions)
        tags |= {
            "estimator": record.estimator,
            "samples": "-" if record.samples is None else str(record.samples),
            "batch": str(record.batch),
            "pretraining": str(record.identity["pretraining"]["name"]),
            "sampling": str(record.identity["sampling"]["name"]),
            "seed": str(record.identity["seed"]),
            "condition": record.condition,
        }
        if record.reason:
            tags["failure"] = f"{record.failed} of {record.trials} trials: {record.reason}"
        if record.best and not record.best.explained:
            tags["warning"] = "the replayed loss differs from the curve's by more than rounding"
        run_id = self._create(record.name, tags, record.created)
        time = _milliseconds(record.created)
        scalars = [Metric(k, v, time, 0) for k, v in _scalars(record).items()]
        points = _curve(records.read_trials(folder), time)
        config = record.config | {"batch": record.batch}
        self._log_params(run_id, flat(config))
        self._log_metrics(run_id, scalars + points)
        self._client.log_artifact(run_id, str(folder / records.TRIALS))
        self._client.log_artifact(run_id, str(folder / records.RECORD))
        self._client.log_text(run_id, yaml.safe_dump(config, sort_keys=False), "config.yaml")
        status = "FINISHED" if record.best else "FAILED"
        self._client.set_terminated(run_id, status, end_time=time + round(1e3 * record.seconds))

    def _track_pretraining(self, launch: Launch, note: dict[str, Any]) -> None:
        identity, losses = note["identity"], note["losses"]
        name, seed = str(identity["pretraining"]["name"]), str(identity["seed"])
        tags = self._tags(launch, "pretraining", note["key"])
        tags |= _code_tags(note["git_commit"], note["versions"])
        tags |= {"pretraining": name, "seed": seed}
        if note["still_falling"]:
            tags["warning"] = "the loss was still falling at the end"
        run_id = self._create(f"pretraining {name} seed {seed}", tags, note["created"])
        time = _milliseconds(note["created"])
        self._log_params(run_id, flat(identity))
        curve = [Metric("pretraining/loss", loss, time, step) for step, loss in enumerate(losses)]
        self._log_metrics(run_id, curve)
        self._client.log_text(run_id, yaml.safe_dump(note["config"], sort_keys=False), "config.yaml")
        self._client.set_terminated(run_id)


@cache
def connect(uri: str | None, experiment: str) -> Store:
    """The store, opened once a process. Raises: UserError."""
    return Store(uri, experiment)


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
        yield


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


def _side_by_side(configs: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Each key with its value, or its values where the configurations differ."""
    found: dict[str, str] = {}
    for key in dict.fromkeys(key for config in configs for key in config):
        values = dict.fromkeys(str(config[key]) for config in configs if config.get(key) is not None)
        found[key] = ", ".join(values)[:6_000]  # MLflow's limit
    return {key: value for key, value in found.items() if value}


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # an account without a name, as in some containers
        return str(os.getuid())


def _code_tags(commit: str, versions: dict[str, str]) -> dict[str, str]:
    return {"mlflow.source.git.commit": commit} | {f"version.{k}": v for k, v in versions.items()}


def _milliseconds(created: str | None) -> int:
    when = datetime.datetime.fromisoformat(created) if created else datetime.datetime.now()
    return round(1e3 * when.timestamp())


def _scalars(record: Record) -> dict[str, float]:
    found: dict[str, float] = {
        "best/pre_loss": record.pre_loss,
        "study/trials": record.trials,
        "study/failed_trials": record.failed,
        "study/seconds": record.seconds,
    }
    if best := record.best:
        found |= {
            "best/post_loss": best.post_loss,
            "best/lr": best.lr,
            "best/decrease": record.pre_loss - best.post_loss,
            "replay/pre_loss": best.replayed_pre_loss,
            "replay/post_loss": best.replayed_post_loss,
        }
    if record.baseline and record.baseline.post_loss is not None:
        found["baseline/post_loss"] = record.baseline.post_loss
        if record.best:
            found["baseline/gain"] = record.baseline.post_loss - record.best.post_loss
    return found


def curve_points(trials: Trials) -> NDArray[np.intp]:
    """The numbers of the trials that are logged as points, ascending: all of up to 1,000, otherwise
    at most 320 by stride, the best among them. Failed trials are left out."""
    usable = np.flatnonzero(~trials.failed)
    if len(trials) <= WHOLE_UP_TO or usable.size <= CURVE_POINTS:
        return usable
    by_stride = usable[np.linspace(0, usable.size - 1, CURVE_POINTS - 1).round().astype(np.intp)]
    best = trials.best()
    assert best is not None
    return np.union1d(by_stride, [best])


def _curve(trials: Trials, time: int) -> list[Metric]:
    points = curve_points(trials)
    columns: list[tuple[str, Callable[[int], float]]] = [
        ("trial/pre_loss", lambda i: trials.pre_loss),
        ("trial/post_loss", lambda i: float(trials.post_loss[i])),
        ("trial/lr", lambda i: float(trials.lr[i])),
    ]
    return [Metric(name, value(i), time, int(i)) for name, value in columns for i in points]
