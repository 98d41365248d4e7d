"""Tracking servers that jobs log to, and that die: nothing is lost, nothing doubled."""

from __future__ import annotations

import time
from pathlib import Path

import mlflow
import pytest

from srste.store.trial_tables import unpacked
from tests.support import (
    SMALL,
    a_store,
    eventually,
    free_port,
    mlflow_server,
    runs_in,
    start,
    studies,
    tracked_once,
    train,
    wait_for,
)

LOCAL = ["hydra/launcher=local_parallel", "hydra.launcher.jobs_per_task=2"]
IN_ONE = ["hydra/launcher=local_parallel", "hydra.launcher.jobs_per_task=4"]


def test_a_server_that_dies_in_mid_run_loses_nothing(tmp_path):
    port = free_port()
    uri = f"http://127.0.0.1:{port}"
    arguments = ["-m", "samples=1,2,...,6", f"tracking.uri={uri}", *SMALL]
    with mlflow_server(tmp_path / "server", port):
        process = start(tmp_path, *arguments)
        wait_for(process, tmp_path, "note.log", 2)  # two jobs are through
    out, err = process.communicate(timeout=240)
    assert process.returncode == 2, err
    assert "MLflow did not take everything" in err
    assert "the records are kept in multirun/" in err
    assert "Traceback" not in err + out
    assert len(studies(tmp_path)) == 2 * 6 + 2

    with mlflow_server(tmp_path / "server", port):
        done = train(tmp_path, *arguments)
        assert done.returncode == 0, done.stderr
        assert "14 reused" in done.stdout
        tracked_once(uri, studies(tmp_path / "multirun"))
        assert f"Charts: {uri}/#/experiments/1/runs?" in done.stdout


def test_jobs_in_processes_of_their_own_log_directly(tmp_path):
    port = free_port()
    uri = f"http://127.0.0.1:{port}"
    arguments = ["-m", *IN_ONE, "samples=1,2,...,4", f"tracking.uri={uri}", *SMALL]
    with mlflow_server(tmp_path / "server", port):
        process = start(tmp_path, *arguments)
        # Killed before it could ingest anything: what is there, the jobs have logged.
        wait_for(process, tmp_path, "record.json", 5)  # which costs less than asking the server
        eventually(lambda: len(_finished(uri)) >= 4, 90)
        process.kill()
        process.communicate()
        running = [r for r in runs_in(uri) if r.data.tags["kind"] != "study"]
        assert [(r.data.tags["kind"], r.info.status) for r in running] == [("launch", "RUNNING")]
        done = train(tmp_path, *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        found = studies(tmp_path / "multirun")
        assert len(found) == 4 * 2 + 2
        tracked_once(uri, found)


def test_a_server_started_again_is_waited_for(tmp_path):
    """Killed in mid-run and started again: jobs try again, and the end makes good what they missed."""
    port = free_port()
    uri = f"http://127.0.0.1:{port}"
    with mlflow_server(tmp_path / "server", port):
        process = start(tmp_path, "-m", *LOCAL, "samples=1,2,...,4", f"tracking.uri={uri}", *SMALL)
        wait_for(process, tmp_path, "record.json", 4)
        eventually(lambda: len(_finished(uri)) >= 3, 90)
    before = 0
    time.sleep(1)
    with mlflow_server(tmp_path / "server", port):
        while process.poll() is None:
            runs = _finished(uri)
            if not any(r.data.tags["kind"] == "launch" for r in runs):
                before = len(runs)
            time.sleep(0.5)
        out, err = process.communicate()
        assert process.returncode == 0, out + err
        assert before >= 6, "jobs gave up the server, and the end made all of it good"
        found = studies(tmp_path / "multirun")
        assert len(found) == 4 * 2 + 2
        tracked_once(uri, found)


def _finished(uri):
    try:
        return [r for r in runs_in(uri) if r.info.status == "FINISHED"]
    except AttributeError:  # there is no experiment yet
        return []


@pytest.mark.parametrize("granularity", ["study", "job"])
def test_one_run_a_study_or_one_a_job(tmp_path, granularity):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    a_store(tmp_path)
    arguments = ["-m", "samples=1,2,3", f"tracking.granularity={granularity}", *SMALL]
    for _ in range(2):
        done = train(tmp_path, *arguments)
        assert done.returncode == 0, done.stderr
        runs = {r.info.run_name: r for r in runs_in(uri)}
        assert len(runs) == len(runs_in(uri)) == (8 + 3 if granularity == "study" else 4 + 3)
    if granularity == "job":
        found = studies(tmp_path / "multirun")
        run = runs["sr_ste N=2"]
        losses = [found[f"sr_ste N=2 batch {b}"][0].best.post_loss for b in (1, 2)]
        assert run.data.metrics["loss after the best step"] == pytest.approx(sum(losses) / 2, rel=1e-15)
        assert run.data.tags["batches"] == "2"
        client = mlflow.MlflowClient(uri)
        history = client.get_metric_history(run.info.run_id, "batch/loss after the best step")
        assert [(m.step, m.value) for m in history] == list(enumerate(losses, 1))
        tables = Path(client.download_artifacts(run.info.run_id, "")).glob(
            "batch-0[12]/trials.packed.parquet"
        )
        assert sorted(unpacked(table.read_bytes()).post_loss.min() for table in tables) == (
            pytest.approx(sorted(losses), rel=0)
        )
        rows = client.download_artifacts(run.info.run_id, "studies.csv")
        lines = Path(rows).read_text().splitlines()
        assert [line.split(",")[0] for line in lines] == ["batch", "1", "2"]
