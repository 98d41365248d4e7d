"""`python -m srste sync`: records put into MLflow later, from anywhere, as often as one likes."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from unittest.mock import patch

import pytest
from filelock import FileLock
from sqlalchemy.engine import make_url

import srste.tracking  # noqa: F401  now, so that what it sets in the environment outlives a test
from srste.commands.main import main
from tests.support import SMALL, only, runs_in, studies, tracked_once, train


def sync(cwd, *arguments):
    """Runs the command in this process, whose imports are made; returns what it printed and its code."""
    out, err = io.StringIO(), io.StringIO()
    uri = [] if "--uri" in arguments else ["--uri", f"sqlite:///{cwd}/mlflow.db"]
    environment = patch.dict(os.environ)  # as it was, afterwards
    with environment, contextlib.chdir(cwd), redirect_stdout(out), redirect_stderr(err):
        try:
            code = main(["sync", *map(str, arguments), *uri])
        except SystemExit as exit_:
            code = exit_.code
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


def test_as_a_command(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "srste", "sync", "nowhere"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == "srste: nowhere: there is no such folder\n"


@pytest.fixture(scope="module")
def untracked(tmp_path_factory):
    """A sweep that left records only."""
    folder = tmp_path_factory.mktemp("untracked")
    done = train(folder, "-m", "samples=1,2", "pretraining=adam", "pretraining.steps=20",
                 "pretraining.batch_size=50", "tracking=none", *SMALL)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def copied(untracked, tmp_path):
    """As it would be copied from a cluster: the sweep's folder alone."""
    folder = tmp_path / "from the cluster"
    shutil.copytree(only(untracked / "multirun"), folder)
    return folder


def files_of(folder):
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != ".srste.lock"}


def test_twice_gives_no_double_run_and_the_folder_is_only_read(copied, tmp_path):
    before = files_of(copied)
    first = sync(tmp_path, copied)
    assert first.returncode == 0, first.stderr
    assert "9 runs added, 6 studies there" in first.stdout  # with the pretraining's and two summaries
    assert "Charts: run `mlflow ui` in this folder" in first.stdout
    second = sync(tmp_path, copied)
    assert "0 runs added, 6 studies there" in second.stdout
    tracked_once(f"sqlite:///{tmp_path}/mlflow.db", studies(copied))
    assert files_of(copied) == before


def test_the_launch_s_run_carries_its_table_and_figure(copied, tmp_path):
    import mlflow

    assert sync(tmp_path, copied).returncode == 0
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    (launch,) = (r for r in runs_in(uri) if r.data.tags["kind"] == "launch")
    names = {f.path for f in mlflow.MlflowClient(uri).list_artifacts(launch.info.run_id)}
    assert {"results.csv", "table.txt", "figure.png", "note.log", "config.yaml"} <= names
    assert launch.data.params["samples"] == "1,2"
    seconds = sum(record.seconds for record, _ in studies(copied).values())
    assert launch.info.end_time - launch.info.start_time == pytest.approx(1e3 * seconds, abs=1)


def test_a_store_and_a_working_directory_of_any_name(copied, tmp_path):
    cwd = tmp_path / "it's a? %20b"
    cwd.mkdir()
    done = sync(cwd, copied, "--uri", "sqlite:///my%20db%3F.db")
    assert done.returncode == 0, done.stderr
    (command,) = re.findall("run `(.*)`, then open", done.stdout)
    *words, address = shlex.split(command)
    assert words == ["mlflow", "ui", "--backend-store-uri"]
    assert make_url(address).database == str(cwd / "my db?.db")
    tracked_once(address, studies(copied))
    names = sorted(path.name for path in cwd.iterdir())
    assert names == [".my db?.db.srste.lock", "mlruns", "my db?.db"]


def test_a_launch_that_lacks_studies_is_completed_later(copied, tmp_path):
    away = tmp_path / "away"
    shutil.move(copied / "samples=2", away)
    first = sync(tmp_path, copied, "--granularity", "job")
    assert "2 studies are missing" in first.stdout
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    (launch,) = (r for r in runs_in(uri) if r.data.tags["kind"] == "launch")
    assert launch.info.status == "FAILED"
    assert "1 of 2 jobs are missing" in launch.data.tags["mlflow.note.content"]
    shutil.move(away, copied / "samples=2")
    # Half of a job that is known is not taken for the whole of it.
    shutil.move(copied / "samples=2" / "studies" / "batch-02", away)
    assert sync(tmp_path, copied, "--granularity", "job").returncode == 0
    shutil.move(away, copied / "samples=2" / "studies" / "batch-02")
    assert sync(tmp_path, copied, "--granularity", "job").returncode == 0
    jobs = {r.info.run_name: r for r in runs_in(uri) if r.data.tags["kind"] == "job"}
    assert {name: int(r.data.tags["batches"]) for name, r in jobs.items()} == {
        "ste": 2, "sr_ste N=1": 2, "sr_ste N=2": 2,
    }  # fmt: skip
    assert len(runs_in(uri)) == 3 + 1 + 1 + 2  # the pretraining's, the launch's, and two summaries


def test_several_launches_and_one_that_is_not_legible(copied, untracked, tmp_path):
    other = copied.parent / "other"
    shutil.copytree(copied, other)
    (other / "contents.json").write_text("{")
    done = sync(tmp_path, copied.parent, "--experiment", "mine")
    assert done.returncode == 2
    assert f"{other}: the launch there is not legible" in done.stderr
    assert f"{copied}: 9 runs added" in done.stdout


def test_a_damaged_record_is_named_and_passed_over(copied, tmp_path):
    folder = copied / "samples=1" / "studies" / "batch-01"
    (folder / "trials.packed.parquet").write_bytes(b"")
    done = sync(tmp_path, copied)
    assert done.returncode == 0
    assert f"{folder}: the record is damaged and passed over" in done.stdout
    assert "5 studies there, 1 studies are missing" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere"], "nowhere: there is no such folder"),
        ([], "the following arguments are required: FOLDER"),
        (["x", "--granularity", "trial"], "invalid choice: 'trial'"),
    ],
)
def test_refused(tmp_path, arguments, says):
    done = sync(tmp_path, *arguments)
    assert done.returncode == 2
    assert says in done.stderr


def test_a_launch_that_runs_is_left_alone(copied, tmp_path):
    with FileLock(copied / ".srste.lock"):
        done = sync(tmp_path, copied)
    assert done.returncode == 2
    assert "another process is running this command there" in done.stderr


def test_a_server_that_does_not_answer(copied, tmp_path):
    done = sync(tmp_path, copied, "--uri", "http://user:hunter2@127.0.0.1:9")
    assert done.returncode == 2
    assert "tracking.uri=http://127.0.0.1:9: no answer" in done.stderr
    assert "hunter2" not in done.stdout + done.stderr
