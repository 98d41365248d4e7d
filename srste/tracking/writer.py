"""The MLflow store: writes the runs of a launch, each once.

Everything is idempotent: a run has the launch's id and its own key as tags, and runs that the store
has are not written again. Unfinished runs are replaced, duplicates deleted.
"""

import getpass
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mlflow
from alembic.util.exc import CommandError
from mlflow.entities import Metric, Param, RunStatus, RunTag
from mlflow.entities import Run as StoredRun
from mlflow.exceptions import MlflowException
from mlflow.utils import get_results_from_paginated_fn
from sqlalchemy.exc import SQLAlchemyError

from srste.errors import address_without_password
from srste.store import provenance
from srste.store.files import as_yaml
from srste.store.manifest import Launch, is_server
from srste.tracking.addresses import tell_password, ui_command
from srste.tracking.chart_view import TAG_PREFIX, Chart, chart_view
from srste.tracking.explained import DESCRIPTION, described
from srste.tracking.run_contents import Entry, Run, milliseconds
from srste.tracking.transactions import one_transaction

_ENTITIES, _PARAMS = 1_000, 100  # MLflow's limits of one request, the first of metrics and parameters

# Tags that begin with "mlflow." are not shown.
_LAUNCH, _KEY, _SIZE = "mlflow.srste.launch", "mlflow.srste.key", "mlflow.srste.size"
_FRONT, _PLACE, _SECONDS = "mlflow.srste.front", "mlflow.srste.place", "mlflow.srste.seconds"
_NOTE, _WRITTEN = "mlflow.note.content", "mlflow.srste.description"

StoreError = (MlflowException, SQLAlchemyError, CommandError, OSError)
"""The errors of a store that is gone, full or refuses."""


@dataclass(frozen=True)
class Synced:
    """The result of :meth:`Store.sync`. launch_run: the id of the launch's run. added: how many runs
    were written. runs: those of the launch by key, as they are in the store."""

    launch_run: str
    added: int
    runs: dict[str, StoredRun]


@dataclass(frozen=True)
class Outcome:
    """What a launch's own run says at the end.

    description: Markdown for its page. numbers: metrics by name. configs: of the jobs. files: tables,
    figures and reports, folders too. seconds: what the launch took, 0 if
    it ran elsewhere; studies_seconds: what its studies took together. complete: whether no job is
    missing. headline: the answer in one sentence. has_report: whether a report is among the files.
    names, tags: by key, of the launch's other runs: the tags are set besides their own. front: the keys
    of the runs that the chart view shows, in order. charts: of that view, see
    :mod:`srste.tracking.chart_view`.
    """

    description: str
    numbers: dict[str, float]
    configs: Sequence[dict[str, Any]]
    files: Sequence[Path]
    seconds: float
    studies_seconds: float
    complete: bool
    headline: str
    has_report: bool
    names: Mapping[str, str]
    tags: Mapping[str, Mapping[str, str]]
    front: Sequence[str]
    charts: Sequence[Chart]


class Store:
    """An MLflow tracking store and the experiment in it.

    Args: client: of the store; uri: its address, without a server's credentials; experiment_id: of
        an existing experiment. :func:`srste.tracking.open_store` makes one.
    """

    def __init__(self, client: mlflow.MlflowClient, uri: str, experiment_id: str) -> None:
        self._client, self.uri, self.experiment_id = client, uri, experiment_id

    def begin(self, launch: Launch) -> str:
        """Return the id of the launch's run, which from now on is shown as running. There is one a
        launch, however often its command is repeated, so that links to it stay good."""
        earlier = self._runs(f"tags.`{_LAUNCH}` = '{launch.id}' and tags.kind = 'launch'")
        if not earlier:
            run = Run(launch.title, {"kind": "launch", "command": launch.command}, {})
            tags = self._all_tags(launch, launch.id, 1, run)
            made = self._client.create_run(self.experiment_id, tags=tags, run_name=run.name)
            return str(made.info.run_id)
        *others, kept = earlier  # the oldest
        for other in others:
            self._client.delete_run(other.info.run_id)
        self._client.update_run(kept.info.run_id, status="RUNNING")
        return str(kept.info.run_id)

    def interrupt(self, launch_run: str, seconds: float) -> None:
        """Mark the launch's run as ended before its jobs were done, after so many seconds more."""
        self._end(launch_run, seconds, "KILLED")

    def add(self, launch: Launch, entries: Iterable[Entry]) -> None:
        """Write these runs, whether or not the store has them."""
        for entry in entries:
            self._write(launch, entry.key, entry.size, entry.make())

    def sync(
        self, launch: Launch, entries: Sequence[Entry], planned: frozenset[str], step: Callable[[], None]
    ) -> Synced:
        """Make the store have these runs, each once.

        The launch's writers must have ended: unterminated runs were left by ones that died.
        Args: planned: keys of all runs of the launch; others, of older code, are deleted.
            step: called after each entry.
        """
        launch_run = self.begin(launch)
        stored: dict[str, StoredRun] = {}
        # The first of each key is kept: the largest, and of those the newest.
        runs = self._runs(f"tags.`{_LAUNCH}` = '{launch.id}' and tags.kind != 'launch'")
        for earlier in sorted(runs, key=_size, reverse=True):
            key = earlier.data.tags[_KEY]
            terminated = RunStatus.is_terminated(RunStatus.from_string(earlier.info.status))
            if terminated and key in planned and key not in stored:
                stored[key] = earlier
            else:
                self._client.delete_run(earlier.info.run_id)
        added = 0
        for entry in entries:
            there = stored.get(entry.key)
            if there is None or _size(there) < entry.size:
                if there is not None:  # it is of fewer studies
                    self._client.delete_run(there.info.run_id)
                stored[entry.key] = self._write(launch, entry.key, entry.size, entry.make())
                added += 1
            step()
        return Synced(launch_run, added, stored)

    def finish(self, launch: Launch, synced: Synced, outcome: Outcome) -> None:
        """Write what the launch's run says, set the names and tags of its other runs, and make the
        view that its link opens."""
        for key, there in synced.runs.items():
            name, tags = outcome.names.get(key, there.info.run_name), dict(outcome.tags.get(key, {}))
            if there.data.tags["kind"] != "summary":  # which are to be seen while studies are folded
                tags["mlflow.parentRunId"] = synced.launch_run
            if key in outcome.front:
                tags |= {_FRONT: launch.id, _PLACE: f"{outcome.front.index(key):04d}"}
            with one_transaction():
                if name != there.info.run_name:
                    self._client.update_run(there.info.run_id, name=name)
                if not tags.items() <= there.data.tags.items():
                    values = [RunTag(*tag) for tag in tags.items()]
                    self._client.log_batch(there.info.run_id, tags=values)
        place = {_FRONT: launch.id, _PLACE: "9999"}
        now = milliseconds(None)
        run = Run(
            launch.title,
            {"kind": "launch", "command": launch.command, _NOTE: outcome.description} | place,
            params=dict(override.partition("=")[::2] for override in launch.overrides),
            metrics=[Metric(name, value, now, 0) for name, value in outcome.numbers.items()],
            files=outcome.files,
            contents={"config.yaml": _as_run(outcome.configs)},
        )
        former = self._client.get_run(synced.launch_run)
        self._client.update_run(synced.launch_run, name=run.name)
        tags = self._all_tags(launch, launch.id, 1, run)
        self._client.log_batch(synced.launch_run, tags=[RunTag(*tag) for tag in tags.items()])
        changed = [m for m in run.metrics if former.data.metrics.get(m.key) != m.value]
        params = {k: v for k, v in run.params.items() if k not in former.data.params}
        self._log_values(synced.launch_run, replace(run, metrics=changed, params=params))
        self._log_files(synced.launch_run, run)
        status = "FINISHED" if outcome.complete else "FAILED"
        self._end(synced.launch_run, outcome.seconds, status, outcome.studies_seconds)
        view = chart_view(f"tags.`{_FRONT}` = '{launch.id}'", f"tags.`{_PLACE}`", outcome.charts,
                          hidden=[synced.launch_run])  # fmt: skip
        self._client.set_experiment_tag(self.experiment_id, TAG_PREFIX + launch.id, view)
        self._describe(launch, synced.launch_run, outcome)

    def _describe(self, launch: Launch, launch_run: str, outcome: Outcome) -> None:
        """Let the experiment's description begin with the newest answer, unless someone wrote one."""
        tags = self._client.get_experiment(self.experiment_id).tags
        if tags.get(_NOTE, "") in ("", DESCRIPTION, tags.get(_WRITTEN)):
            links = self.run_link(launch_run), self.view_link(launch.id)
            newest = described(outcome.headline, *links, outcome.has_report)
            for tag in (_WRITTEN, _NOTE):
                self._client.set_experiment_tag(self.experiment_id, tag, newest)

    def run_link(self, run_id: str) -> str:
        """Return the link to a run's page, for a description in this store."""
        return f"#/experiments/{self.experiment_id}/runs/{run_id}"

    def view_link(self, launch_id: str) -> str:
        """Return the link to a launch's charts, likewise."""
        # MLflow opens in its GenAI mode unless told otherwise.
        query = "compareRunsMode=CHART&workflowType=machine_learning"
        return f"#/experiments/{self.experiment_id}/runs?viewStateShareKey={launch_id}&{query}"

    def charts_address(self, launch: Launch) -> str:
        """Return the address of the launch's charts, once the store is served."""
        server = self.uri if is_server(self.uri) else "http://127.0.0.1:5000"
        base = address_without_password(server).rstrip("/")
        return f"{base}/{self.view_link(launch.id)}"

    def charts(self, launch: Launch) -> str:
        """Return how to see the launch's charts: their address, and the command that serves the store
        if it is no server."""
        link = self.charts_address(launch)
        if is_server(self.uri):
            return link
        command = ui_command(self.uri)
        where = " in this folder" if command == "mlflow ui" else ""
        return f"run `{command}`{where}{tell_password(self.uri)}, then open {link}"

    def _runs(self, search: str) -> list[StoredRun]:
        """Return all runs of the experiment that match, the newest first."""

        def page(size: int, token: str | None) -> list[StoredRun]:
            return self._client.search_runs(
                [self.experiment_id], search, max_results=size, page_token=token
            )

        return list(get_results_from_paginated_fn(page, 1_000))  # type: ignore[no-untyped-call]

    def _all_tags(self, launch: Launch, key: str, size: int, run: Run) -> dict[str, str]:
        """Return the run's tags. The UI hides those that begin with "mlflow."."""
        return run.tags | {
            "launch": launch.name,
            _LAUNCH: launch.id,
            _KEY: key,
            _SIZE: str(size),
            "mlflow.user": _user(),
            "mlflow.source.name": "train.py",
            "mlflow.source.type": "LOCAL",
            "mlflow.source.git.commit": provenance.git_commit(),
        }

    def _write(self, launch: Launch, key: str, size: int, run: Run) -> StoredRun:
        """Write the run and return it as created; until it is terminated, it counts as unfinished."""
        start = milliseconds(run.start)
        tags = self._all_tags(launch, key, size, run)
        with one_transaction():
            made = self._client.create_run(
                self.experiment_id, start_time=start, tags=tags, run_name=run.name
            )
            run_id = str(made.info.run_id)
            self._log_values(run_id, run)
        self._log_files(run_id, run)
        end = start + round(1e3 * run.seconds)
        with one_transaction():
            self._client.set_terminated(run_id, "FAILED" if run.failed else "FINISHED", end_time=end)
        return made

    def _log_values(self, run_id: str, run: Run) -> None:
        """Log the run's parameters and metrics."""
        params = [Param(k, str(v)) for k, v in run.params.items() if v is not None]
        metrics = run.metrics
        while params or metrics:
            of_batch = params[:_PARAMS]
            room = _ENTITIES - len(of_batch)
            self._client.log_batch(run_id, metrics=metrics[:room], params=of_batch)
            metrics, params = metrics[room:], params[_PARAMS:]

    def _log_files(self, run_id: str, run: Run) -> None:
        """Log the run's artifacts."""
        for file in run.files:
            self._client.log_artifact(run_id, str(file))
        with tempfile.TemporaryDirectory() as folder:
            for name, content in run.contents.items():
                Path(folder, name).write_bytes(content.encode() if isinstance(content, str) else content)
            self._client.log_artifacts(run_id, folder)

    def _end(self, run_id: str, seconds: float, status: str, otherwise: float = 0.0) -> None:
        """End a launch's run, whose duration becomes that of all runs of its command together; if none
        of them is on record, as of a launch that ran elsewhere, ``otherwise``."""
        run = self._client.get_run(run_id)
        before = float(run.data.tags.get(_SECONDS, 0))
        self._client.set_tag(run_id, _SECONDS, f"{before + seconds:.3f}")
        end = int(run.info.start_time) + round(1e3 * (before + seconds or otherwise))
        self._client.set_terminated(run_id, status, end_time=end)


def _size(run: StoredRun) -> int:
    """Return the number of studies in a run of the store."""
    return int(run.data.tags.get(_SIZE, "1"))


def _as_run(configs: Sequence[dict[str, Any]]) -> str:
    """Return the configurations, versions and commit of a launch as YAML."""
    numbered = {f"configuration {number}": config for number, config in enumerate(configs, 1)}
    code = {"git_commit": provenance.git_commit(), "versions": dict(provenance.versions())}
    return as_yaml(numbered | code)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # an account without a name, as in some containers
        return str(os.getuid())
