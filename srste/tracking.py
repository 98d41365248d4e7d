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
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Sequence
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
_ANSWER_WITHIN = 8.0  # seconds; with the imports before it a refusal takes ten

StoreError = (MlflowException, OSError)
"""What a store that is gone, full or refusing raises."""


class Store:
    """An MLflow tracking store and the experiment in it.

    Args:
        uri: of the store; None: where MLflow looks by default.
        experiment: its name; made if missing.
        lock_folder: where processes of this machine queue up to initialise a local store.
    Raises: UserError when the store cannot be opened or does not answer within 10 s.
    """

    def __init__(self, uri: str | None, experiment: str, lock_folder: Path) -> None:
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        logging.getLogger("alembic").setLevel(logging.WARNING)
        self.uri = uri or mlflow.get_tracking_uri()
        self._known: dict[str, set[str]] = {}
        shown = without_password(self.uri)
        try:
            if urllib.parse.urlsplit(self.uri).scheme in ("http", "https"):
                _ask_for_health(self.uri)
            lock_folder.mkdir(parents=True, exist_ok=True)
            # A new database is migrated table by table, unlocked: one process at a time.
            with FileLock(lock_folder / "mlflow-store.lock"):
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
                f"tracking.uri={shown}: no answer ({why}); start that server, name one that "
                "answers, or use tracking=none"
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
        metrics: dict[str, float],
        files: Sequence[Path],
        description: str,
        front: Sequence[str],
        configs: Sequence[dict[str, Any]],
    ) -> None:
        """The launch's own run, found again by its id: its tables and figures, and the chart view
        that its link opens.

        Args: description: Markdown for the run's page. front: keys of the studies that the chart
            view shows at first, in order; MLflow's charts have room for some twenty runs.
            configs: of the jobs; what differs between them stands side by side in the parameters.
        """
        known = self._runs(f"tags.`srste.key` = '{launch.id}'")
        if known:
            run_id = known[0].info.run_id
        else:
            tags = self._tags(launch, "launch", launch.id) | {"command": launch.command}
            tags |= _code_tags(provenance.git_commit(), provenance.versions())
            # Created now and not at the launch's start, so that it tops the list of its studies.
            run_id = self._create(f"multirun: {launch.name}", tags, None)
            self._log_params(run_id, _side_by_side([flat(config) for config in configs]))
            whole = {f"job {number}": config for number, config in enumerate(configs)}
            self._client.log_text(run_id, yaml.safe_dump(whole, sort_keys=False), "config.yaml")
        now = _milliseconds(None)
        self._client.log_batch(run_id, [Metric(k, v, now, 0) for k, v in metrics.items()])
        self._client.set_tag(run_id, "mlflow.note.content", description)
        for file in files:
            self._client.log_artifact(run_id, str(file))
        self._client.set_terminated(run_id)

        of_launch = self._runs(f"tags.`srste.launch` = '{launch.id}'")
        run_of = {run.data.tags["srste.key"]: run.info.run_id for run in of_launch}
        for place, key in enumerate([launch.id, *front]):
            self._client.set_tag(run_of[key], "srste.front", launch.id)
            self._client.set_tag(run_of[key], "srste.place", f"{place:04d}")
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
def connect(uri: str | None, experiment: str, lock_folder: Path) -> Store:
    """The store, opened once a process. Raises: UserError."""
    return Store(uri, experiment, lock_folder)


def _ask_for_health(uri: str) -> None:
    """Raises: OSError when the server does not answer in time; any answer at all will do."""
    try:
        urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=_ANSWER_WITHIN).close()
    except urllib.error.HTTPError:
        pass  # behind a proxy /health may be closed; it did answer
    except urllib.error.URLError as error:
        raise OSError(str(error.reason)) from error


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
