"""Every command of `docs/cluster.md`, run on a real Slurm cluster, with a real PostgreSQL, in a folder
of its own. Long ones run at a smaller size: SMALLER is appended."""

from __future__ import annotations

import os
import pwd
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from tests.support import (
    ROOT,
    eventually,
    free_port,
    runs_in,
    serving,
    skip,
    studies,
    tracked_once,
    train,
)

pytestmark = pytest.mark.slurm

PAGE = (ROOT / "docs" / "cluster.md").read_text()
COMMANDS = [
    line
    for block in re.findall(r"^```bash\n(.*?)^```$", PAGE, re.M | re.S)
    for line in block.splitlines()
]
SMALLER = ["batches=1", "batch_size=32", "sampling.step=1e-2", "report=false"]
FEWER = ("samples=1,2,...,10", "samples=1,2,...,4")
"""What it says of samples, and what is run: most of them are processes to start."""
POSTGRES = ("initdb", "pg_ctl", "createdb", "export PGPASSWORD")
PASSWORD = "correct horse"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the commands run: the project as a user has it, the environment entered."""
    folder = tmp_path_factory.mktemp("page")
    for name in ("train.py", "conf"):
        (folder / name).symlink_to(ROOT / name)
    return folder


@pytest.fixture(scope="module")
def ports():
    """The page's ports, and free ones in their place."""
    return {"5433": str(free_port()), "5000": str(free_port())}


@pytest.fixture(scope="module")
def shell(cluster, folder, ports):
    """Runs a command of the page, here or as another user; returns what it printed."""

    def run(command, where=folder, user=None):
        for page, free in ports.items():
            command = re.sub(rf"\b{page}\b", free, command)
        typed = shlex.split(command)
        if typed[:2] == ["python", "train.py"]:
            bound = cluster.environment | {"PYTHONPATH": str(ROOT)}
            done = train(where, *typed[2:], script=where / "train.py", **bound)
            assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
            return done.stdout
        words = ["bash", "-c", command]
        if user is not None:
            words = ["runuser", "-u", user, "--", *words]
        binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
        path = ":".join(map(str, [Path(sys.prefix) / "bin", *binaries, os.environ["PATH"]]))
        done = subprocess.run(
            words, cwd=where, capture_output=True, text=True, check=False, timeout=300,
            env=os.environ | cluster.environment | {"PATH": path, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        return done.stdout

    return run


@pytest.fixture(scope="module")
def postgres(shell, ports):
    """A PostgreSQL that the page's commands have set up, run by a user of its own."""
    if not list(Path("/usr/lib/postgresql").glob("*/bin/initdb")) and not shutil.which("initdb"):
        skip("PostgreSQL is not installed (Debian: postgresql)")
    user = "postgres" if _is_a_user("postgres") else "nobody"
    home = Path("/tmp") / f"pg{ports['5433']}"
    home.mkdir()
    shutil.chown(home, user)
    (home / "password.txt").write_text(PASSWORD)
    try:
        commands = [c for c in COMMANDS if c.startswith(POSTGRES)]
        assert [c.split()[0] for c in commands] == ["initdb", "pg_ctl", "export", "createdb"]
        for command in (*commands[:2], "; ".join(commands[2:])):
            shell(command, home, user)
        yield home
    finally:
        stop = re.search(r"`(pg_ctl .* stop)`", PAGE)[1]
        shell(f"{stop} --mode=immediate", home, user)
        shutil.rmtree(home)


def _is_a_user(name):
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def sweeps():
    return [c for c in COMMANDS if c.startswith("python train.py") and "tracking.uri" not in c]


@pytest.mark.parametrize("command", sweeps())
def test_a_sweep(shell, folder, command):
    out = shell(" ".join([command.replace(*FEWER), *map(shlex.quote, SMALLER)]))
    assert "did not get through" not in out
    assert "Charts: run `mlflow ui`" in out


def test_sync(shell, folder):
    (command,) = (c for c in COMMANDS if c.startswith("python -m srste"))
    out = shell(command)
    assert len(re.findall(r" 0 runs added, \d+ studies there$", out, re.M)) == len(sweeps()) - 1


def test_jobs_on_slurm_log_to_a_server_on_postgresql(shell, folder, ports, postgres, monkeypatch):
    serve, sweep = (c for c in COMMANDS if "5000" in c)
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    for page, free in ports.items():
        serve = serve.replace(page, free)
    server = folder / "server"
    server.mkdir()
    uri = f"http://127.0.0.1:{ports['5000']}"
    with serving([*shlex.split(serve), "--workers", "1"], server, int(ports["5000"])):
        eventually(lambda: _answers(uri), 60)
        more = ["hydra.launcher.jobs_per_task=2", "hydra.sweep.dir=on-postgres", *SMALLER]
        out = shell(" ".join([sweep.replace(*FEWER), *map(shlex.quote, more)]))
        assert f"Charts: {uri}/#/experiments/" in out
        found = studies(folder / "on-postgres")
        assert len(found) == 5
        tracked_once(uri, found)
        logged = {r.data.tags["mlflow.srste.key"]: r.info.start_time for r in runs_in(uri)}
        assert len(logged) == 8
    with (
        psycopg.connect(
            host="127.0.0.1", port=ports["5433"], user="mlflow", password=PASSWORD, dbname="mlflow"
        ) as database,
        database.cursor() as cursor,
    ):
        cursor.execute("select count(*) from runs where lifecycle_stage = 'active'")
        assert cursor.fetchone() == (8,)


def _answers(uri):
    import requests

    try:
        return requests.get(f"{uri}/health", timeout=5).ok
    except requests.RequestException:
        return False


def test_the_page_s_table_is_the_preset():
    import yaml

    preset = yaml.safe_load((ROOT / "conf" / "hydra" / "launcher" / "slurm.yaml").read_text())
    rows = dict(re.findall(r"^\| `hydra\.launcher\.(\w+)` \| `(.*?)` \|", PAGE, re.M))
    del preset["_target_"]
    assert {k: yaml.safe_load(v) for k, v in rows.items()} == preset


def test_every_command_of_the_page_is_run_here():
    run = [*sweeps(), *(c for c in COMMANDS if c.startswith(("python -m srste", *POSTGRES)))]
    assert sorted(run + [c for c in COMMANDS if "5000" in c]) == sorted(COMMANDS)
