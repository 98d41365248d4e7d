"""Where things are, and running the command line as a user does."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from srste.store import records
from tests.prepared import BEFORE_IMPORTS, prepared

ROOT = Path(__file__).parent.parent
CONF = ROOT / "conf"
SMALL = [
    "batches=2",
    "batch_size=64",
    "model.width=8",
    "sampling.step=1e-4",
    "heldout=200",
    "report=false",
]

SLOWLY = ["sampling._target_=tests.slowly.Slowly", "tracking=none", *SMALL[1:]]
"""For jobs that are to last; see :func:`slowly`."""


def slowly(seconds):
    """The environment in which each study of SLOWLY takes that long, and its workers find it."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {"SLOWLY": str(seconds), "PYTHONPATH": path}


def skip(reason):
    """Skips the test for that reason; where everything is to be there, as in CI, it fails."""
    if os.environ.get("REQUIRE_SLURM") == "1":
        pytest.fail(f"REQUIRE_SLURM=1, but {reason}")
    pytest.skip(reason)


def choices(group):
    """The choices of a config group: the YAML files in its folder."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def of_its_kind(group, choice):
    """The overrides with which a choice composes: a surrogate that sees draws needs stochastic units, a
    weighting the estimator that has one."""
    target = (CONF / group / f"{choice}.yaml").read_text()
    needs_draws = group == "estimator/surrogate" and "srste.networks.draws" in target
    weighs = group == "estimator/weighting"
    needed = ["estimator=logistic_st"] * needs_draws + ["estimator=by_decrease"] * weighs
    return [*needed, f"{group}={choice}"]


def checked_plan(argv, conf=CONF):
    """The plan of a command line, as a launch makes it; where Hydra only shows, its arguments."""
    from srste.launch import preflight  # by way of PyTorch
    from srste.launch.composing import compose

    composed = compose(argv, conf)
    return composed if isinstance(composed, list) else preflight.check(composed, argv)


PROGRESS = re.compile(
    r"(One job|\d+ jobs): loading PyTorch|Compiling the loss-curve kernels|Opening the MLflow store|"
    r"Composing [\d,]+ jobs|Looking at what is in|"
    r"Running \d+ studies|Comparing the estimators|Writing "
)


def said(stderr):
    """The lines on standard error that do not say what is being done."""
    return [line for line in stderr.splitlines() if not PROGRESS.match(line)]


EXAMPLES = f"data.path={ROOT / 'tests' / 'examples.npz'}"
"""For `data=arrays`: a hundred examples of four features."""


def train(cwd, *arguments, timeout=300, script=ROOT / "train.py", **environment):
    """Runs train.py in ``cwd``; returns the process, which has ended. On Linux it is a fork of one that
    has imported the libraries, unless a variable is given that a process reads as it starts."""
    if sys.platform == "linux" and environment.keys().isdisjoint(BEFORE_IMPORTS):
        whole = os.environ | {"COLUMNS": "200"} | environment
        return prepared.run(script, arguments, cwd, whole, timeout)
    return subprocess.run(
        [sys.executable, str(script), *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env=os.environ | {"COLUMNS": "200"} | environment,
    )


def srste(cwd, *arguments):
    """Runs `python -m srste` there, as `train` does train.py."""
    words = map(str, arguments)
    return train(cwd, *words, script=ROOT / "srste" / "__main__.py", PYTHONPATH=str(ROOT))


def start(cwd, *arguments, **environment):
    """train.py in a process of its own, made as by `train`, which does not outlive the test."""
    whole = os.environ | {"COLUMNS": "200"} | environment
    if sys.platform == "linux" and environment.keys().isdisjoint(BEFORE_IMPORTS):
        process = prepared.start(ROOT / "train.py", arguments, cwd, whole)
    else:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "train.py"), *arguments], cwd=cwd, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, env=whole,
        )  # fmt: skip
    started.append(process)
    return process


started = []
"""The processes of the test that runs."""


def wait_for(process, folder, pattern, count):
    """Until the running process has left that many such files in the folder."""
    deadline = time.monotonic() + 90
    while _count(folder, pattern) < count:
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


def _count(folder, pattern):
    try:
        return len(list(folder.rglob(pattern)))
    except FileNotFoundError:  # a folder that was renamed meanwhile
        return 0


def eventually(condition, seconds=60, what=""):
    """Waits until the condition holds; returns what it gives."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(0.2)
    return found


def free_port():
    """A TCP port of this machine that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def answers(port):
    """Whether somebody listens on that port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


WITHOUT_JOBS = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
"""For a server that does nothing but serve: eight more run MLflow's jobs, of which we have none."""


@contextmanager
def serving(command, cwd, port, environment=WITHOUT_JOBS):
    """While it lasts, that command of the environment serves on that port."""
    command = [str(Path(sys.executable).parent / command[0]), *command[1:]]
    with (Path(cwd) / "server.log").open("ab") as log:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env=os.environ | environment,
        )
    try:
        deadline = time.monotonic() + 90
        while not answers(port):
            assert process.poll() is None, (Path(cwd) / "server.log").read_text()
            assert time.monotonic() < deadline, (Path(cwd) / "server.log").read_text()
            time.sleep(0.2)
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def mlflow_server(folder, port, *options, store=None):
    """A real MLflow server, its store in ``folder`` unless another one is named."""
    folder.mkdir(exist_ok=True)
    if store is None and not (folder / "server.db").exists():
        (folder / "server.db").write_bytes(empty_database())
    command = ["mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
               "--backend-store-uri", store or f"sqlite:///{folder}/server.db",
               "--artifacts-destination", f"{folder}/artifacts", *options]  # fmt: skip
    return serving(command, folder, port)


@cache
def empty_database():
    """A store of MLflow in SQLite as it is when new; one that it makes itself takes it seconds."""
    from srste.tracking.databases import make_database

    with tempfile.TemporaryDirectory() as folder:
        make_database(Path(folder) / "new.db")
        return (Path(folder) / "new.db").read_bytes()


def a_store(folder):
    """The store of launches in that folder, before the first of them."""
    (folder / "mlflow.db").write_bytes(empty_database())


def runs_in(uri):
    """All runs of the experiment there that are not deleted."""
    import mlflow

    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name("srste")
    return client.search_runs([experiment.experiment_id], max_results=1000)


def tracked_once(uri, found, launch=None):
    """Each of these studies has one finished run there, and the launch has one. launch: the manifest
    of the one that is meant, where the store has several."""
    runs = [r for r in runs_in(uri) if r.data.tags["kind"] != "summary"]
    if launch is not None:
        own = json.loads(launch.read_text())["id"]
        runs = [r for r in runs if r.data.tags["mlflow.srste.launch"] == own]
    assert {r.info.status for r in runs} == {"FINISHED"}
    keys = sorted(r.data.tags["mlflow.srste.key"] for r in runs if r.data.tags["kind"] == "study")
    assert keys == sorted(record.key for record, _ in found.values())
    assert sum(r.data.tags["kind"] == "launch" for r in runs) == 1


def only(folder):
    """The one folder in there."""
    (found,) = (path for path in Path(folder).iterdir() if path.is_dir())
    return found


def studies(root):
    """{name: (record, losses)} of every record below ``root``."""
    return {r.name: (r, records.read_trials(f).post_loss) for f, r in records.find(Path(root))}


def same_results(one, other):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name][1], other[name][1])
        assert one[name][0].key == other[name][0].key
        assert one[name][0].best == other[name][0].best
        assert one[name][0].baseline == other[name][0].baseline
