"""The MLflow store: writes the runs of a launch, each once.

Everything is idempotent: a run has the launch's id and its own key as tags, and runs that the store
has are not written again. Unfinished runs are replaced, duplicates deleted.
"""

import getpass
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import yaml
from alembic.util.exc import CommandError
from mlflow.entities import Param, RunStatus, RunTag
from mlflow.entities import Run as StoredRun
from mlflow.exceptions import MlflowException
from mlflow.utils import get_results_from_paginated_fn
from sqlalchemy.exc import SQLAlchemyError

from srste.errors import address_without_password
from srste.store import provenance
from srste.store.manifest import Launch, is_server
from srste.tracking.addresses import tell_password, ui_command
from srste.tracking.artifacts import remove_artifacts
from srste.tracking.chart_view import TAG_PREFIX, chart_view
from srste.tracking.run_contents import Entry, Run, code_tags, milliseconds, side_by_side

_METRICS, _PARAMS = 900, 100  # of one request; MLflow's limits are 100 parameters and 1,000 in all

StoreError = (MlflowException, SQLAlchemyError, CommandError, OSError)
"""The errors of a store that is gone, full or refuses."""


@dataclass(frozen=True)
class Synced:
    """The result of :meth:`Store.sync`. added: how many runs were written. runs: the (id, name) of
    each run by key. former: the launch's earlier own runs, the newest first."""

    added: int
    runs: dict[str, tuple[str, str]]
    former: list[StoredRun]


class Store:
    """An MLflow tracking store and the experiment in it.

    Args: client: of the store; uri: its address, without a server's credentials; experiment_id: of
        an existing experiment. :func:`srste.tracking.open_store` makes one.
    """

    def __init__(self, client: mlflow.MlflowClient, uri: str, experiment_id: str) -> None:
        self._client, self.uri, self.experiment_id = client, uri, experiment_id

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
        stored: dict[str, tuple[str, str, int]] = {}
        former: list[StoredRun] = []
        # The first of each key is kept: the largest, and of those the newest.
        runs = self._runs(f"tags.`srste.launch` = '{launch.id}'")
        for earlier in sorted(runs, key=_size, reverse=True):
            key, run_id = earlier.data.tags["srste.key"], earlier.info.run_id
            terminated = RunStatus.is_terminated(RunStatus.from_string(earlier.info.status))
            if terminated and earlier.data.tags["kind"] == "launch":
                former.append(earlier)
            elif terminated and key in planned and key not in stored:
                stored[key] = (run_id, earlier.info.run_name, _size(earlier))
            else:
                self._client.delete_run(run_id)
        added = 0
        for entry in entries:
            run_id, _, size = stored.get(entry.key, ("", "", 0))
            if size < entry.size:
                if run_id:  # it is of fewer studies
                    self._client.delete_run(run_id)
                run = entry.make()
                run_id = self._write(launch, entry.key, entry.size, run)
                stored[entry.key] = (run_id, run.name, entry.size)
                added += 1
            step()
        return Synced(added, {key: (run_id, name) for key, (run_id, name, _) in stored.items()}, former)

    def track_launch(
        self,
        launch: Launch,
        synced: Synced,
        configs: Sequence[dict[str, Any]],
        description: str,
        files: Sequence[Path],
        names: Mapping[str, str],
        front: Sequence[str],
        complete: bool,
    ) -> None:
        """Write the launch's own run, with its tables and figures, and the view that its link
        opens. An earlier one is overwritten, or replaced where it no longer tops the list of runs.

        Args: configs: of the jobs; their parameters list the values in which they differ.
            description: Markdown for the run's page. names: a name by key that tells each run from
            the launch's others. front: keys of the runs that the chart view shows at first, in
            order; MLflow's charts have room for some twenty. complete: whether no job is missing.
        """
        for key, (run_id, name) in synced.runs.items():
            if names.get(key, name) != name:
                self._client.update_run(run_id, name=names[key])
        tags = {"kind": "launch", "command": launch.command, "mlflow.note.content": description}
        numbered = {f"configuration {number}": config for number, config in enumerate(configs, 1)}
        run = Run(
            name=launch.title,
            tags=tags | code_tags(provenance.git_commit(), provenance.versions()),
            params=side_by_side(configs),
            start=None,  # now, not the launch's start, so that it tops the list of its studies
            files=files,
            texts={"config.yaml": yaml.safe_dump(numbered, sort_keys=False)},
            failed=not complete,
        )
        reused = self._reused(synced.former, run)
        parts = [(part, file.parent) for file in files for part in (file, *file.rglob("*"))]
        logged = [*run.texts, *(str(part.relative_to(root)) for part, root in parts if part.is_file())]
        for former in synced.former:
            if former is not reused:
                self._client.delete_run(former.info.run_id)
                remove_artifacts(former.info.artifact_uri, self.uri, logged)
        launch_run = self._write(launch, launch.id, 1, run, reused)
        shown = [launch_run, *(synced.runs[key][0] for key in front if key in synced.runs)]
        for place, run_id in enumerate(shown):
            self._client.set_tag(run_id, "srste.front", launch.id)
            self._client.set_tag(run_id, "srste.place", f"{place:04d}")
        view = chart_view(
            f"tags.`srste.front` = '{launch.id}'",
            order_by="tags.`srste.place`",
            granularity=launch.tracking["granularity"],
        )
        self._client.set_experiment_tag(self.experiment_id, TAG_PREFIX + launch.id, view)

    def charts(self, launch: Launch) -> str:
        """Return how to see the launch's charts: its link, and the command that serves the store if
        it is no server."""
        server = self.uri if is_server(self.uri) else "http://127.0.0.1:5000"
        base = address_without_password(server).rstrip("/")
        # MLflow opens in its GenAI mode unless told otherwise.
        query = "compareRunsMode=CHART&workflowType=machine_learning"
        link = f"{base}/#/experiments/{self.experiment_id}/runs?viewStateShareKey={launch.id}&{query}"
        if server == self.uri:
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

    def _reused(self, former: Sequence[StoredRun], run: Run) -> StoredRun | None:
        """Return the launch's earlier run if it can become this one: neither its parameters nor its
        start, by which MLflow orders the list, can be changed."""
        newest = self._client.search_runs([self.experiment_id], max_results=1)
        if not former or not newest or newest[0].info.run_id != former[0].info.run_id:
            return None
        return former[0] if former[0].data.params == run.params else None

    def _write(
        self, launch: Launch, key: str, size: int, run: Run, reused: StoredRun | None = None
    ) -> str:
        """Write the run and return its id; until it is terminated, it counts as unfinished. reused:
        a run to overwrite instead of creating one."""
        tags = run.tags | {
            "launch": launch.name,
            "srste.launch": launch.id,
            "srste.key": key,
            "srste.size": str(size),
            "mlflow.user": _user(),
            "mlflow.source.name": "train.py",
            "mlflow.source.type": "LOCAL",
        }
        if reused is None:
            start = milliseconds(run.start)
            reused = self._client.create_run(
                self.experiment_id, start_time=start, tags=tags, run_name=run.name
            )
            run_id = str(reused.info.run_id)
        else:
            start, run_id = int(reused.info.start_time), str(reused.info.run_id)
            self._client.update_run(run_id, status="RUNNING", name=run.name)
            self._client.log_batch(run_id, tags=[RunTag(name, value) for name, value in tags.items()])
        params = [Param(k, str(v)) for k, v in run.params.items() if v is not None]
        metrics = run.metrics
        while params or metrics:
            self._client.log_batch(run_id, metrics=metrics[:_METRICS], params=params[:_PARAMS])
            metrics, params = metrics[_METRICS:], params[_PARAMS:]
        for file in run.files:
            self._client.log_artifact(run_id, str(file))
        for name, text in run.texts.items():
            self._client.log_text(run_id, text, name)
        end = start + round(1e3 * run.seconds)
        self._client.set_terminated(run_id, "FAILED" if run.failed else "FINISHED", end_time=end)
        return run_id


def _size(run: StoredRun) -> int:
    """Return the number of studies in a run of the store."""
    return int(run.data.tags.get("srste.size", "1"))


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # an account without a name, as in some containers
        return str(os.getuid())
