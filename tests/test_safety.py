"""Nothing that is read is executed, no name leaves its folder, no password is written down."""

from __future__ import annotations

import os
import pickle
import re
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from srste.errors import without_password
from srste.launch.launch import launch
from srste.store.files import slug
from tests.support import CONF, ROOT, SMALL, free_port, mlflow_server, only, said, train

PASSWORD = "hunter2-é'\""
IN_A_WORKER = ["hydra/launcher=local_parallel", "hydra.launcher.jobs_per_task=2"]
"""Two jobs in one other process."""


class Payload:
    """Unpickled, it leaves a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_pickles_that_lie_about_are_not_opened(tmp_path):
    arguments = ["-m", *IN_A_WORKER, "samples=1,2", "pretraining=adam", "pretraining.steps=5",
                 "pretraining.batch_size=50", "tracking=none", *SMALL]  # fmt: skip
    assert train(tmp_path, *arguments).returncode == 0
    trap = tmp_path / "executed"
    payload = pickle.dumps(Payload(trap))
    root = only(tmp_path / "multirun")
    names = [*root.glob(".submitit/*.pkl"), *root.glob(".reports/*/*"), *root.rglob("record.json"),
             *root.rglob("trials.packed.parquet"), *(tmp_path / ".srste").glob("*.pt"),
             *root.glob("pretraining/*.json"), root / "contents.json", root / "launch.json"]  # fmt: skip
    assert len(names) > 15
    for path in names:
        path.write_bytes(payload)
    done = train(tmp_path, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert not trap.exists()


@given(text=st.text() | st.sampled_from(["../../etc/passwd", "..", "/", "~root", "a/../../b", "\0", ""]))
@example("." * 300)
def test_a_slug_is_one_visible_name(text):
    name = slug(text)
    assert name
    assert len(name) <= 80
    assert Path(name).name == name
    assert not name.startswith(".")
    assert re.fullmatch(r"[\w=.,+-]+", name, re.ASCII)


def test_names_stay_in_the_launch_s_folder(tmp_path):
    work = tmp_path / "a" / "b" / "c"
    work.mkdir(parents=True)
    evil = "../../../../evil"
    done = train(work, "-m", "samples=1,2", f"estimator.name={evil}", f"estimator.baseline.name={evil}",
                 f"model.name={evil}", f"sampling.name={evil}", f"pretraining.name={evil}",
                 f"data.name={evil}", *SMALL)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["b"]
    assert sorted(p.name for p in work.iterdir()) == [
        ".mlflow.db.srste.lock", ".srste", "mlflow.db", "mlruns", "multirun",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "override",
    [
        "hydra.sweep.subdir=../x${samples}",
        "hydra.sweep.subdir=/tmp/x${samples}",
        "hydra.job.name=../../x",
        "hydra.output_subdir=../../x",
    ],
)
def test_a_folder_outside_is_refused(monkeypatch, tmp_path, capsys, override):
    monkeypatch.chdir(tmp_path)
    assert launch(lambda: pytest.fail("ran"), ["-m", "samples=1,2", override], CONF) == 2
    (line,) = said(capsys.readouterr().err)
    assert f"{override.partition('=')[0]}=" in line
    assert "within" in line


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """(port, folder) of a real MLflow server."""
    folder, port = tmp_path_factory.mktemp("server"), free_port()
    with mlflow_server(folder, port):
        yield port, folder


def files_with(secret, *folders):
    """The files below those folders that hold it."""
    files = [p for folder in folders for p in folder.rglob("*") if p.is_file()]
    return [p for p in files if secret in p.read_bytes()]


@pytest.mark.parametrize("launcher", [[], IN_A_WORKER])
def test_the_password_in_a_tracking_uri_is_nowhere(tmp_path, server, launcher):
    port, folder = server
    uri = f"http://someone:{quote(PASSWORD)}@127.0.0.1:{port}"
    done = train(tmp_path, "-m", "samples=1,2", f"tracking.uri={uri}", "hydra.verbose=true",
                 *launcher, *SMALL)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"Charts: http://127.0.0.1:{port}/" in done.stdout
    assert "hunter2" not in done.stdout + done.stderr
    assert files_with(b"hunter2", tmp_path, folder) == []
    config = next(tmp_path.rglob(".hydra/config.yaml")).read_text()
    assert f"uri: http://127.0.0.1:{port}" in config


def test_the_password_in_a_configuration_file_is_not_copied(tmp_path, server):
    port, folder = server
    own = tmp_path / "own" / "tracking" / "mine.yaml"
    own.parent.mkdir(parents=True)
    uri = f"http://someone:hunter2@127.0.0.1:{port}"
    own.write_text(f"name: mlflow\nuri: {uri}\nexperiment: srste\ngranularity: study\n")
    done = train(tmp_path, f"--config-dir={tmp_path}/own", "tracking=mine", *SMALL)
    assert done.returncode == 0, done.stderr
    assert "hunter2" not in done.stdout + done.stderr
    assert files_with(b"hunter2", tmp_path, folder) == [own]


def test_what_lets_in_to_one_server_is_not_shown_to_another(monkeypatch):
    from srste.tracking import addresses

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://someone:hunter2@one:5000")
    monkeypatch.delenv("MLFLOW_TRACKING_PASSWORD", raising=False)
    assert addresses._with_credentials("http://one:5000") == "http://one:5000"
    assert os.environ["MLFLOW_TRACKING_PASSWORD"] == "hunter2"
    assert addresses._with_credentials("http://two:5000") == "http://two:5000"
    assert "MLFLOW_TRACKING_PASSWORD" not in os.environ
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "the user's own")
    assert addresses._with_credentials("http://three:5000") == "http://three:5000"
    assert os.environ["MLFLOW_TRACKING_PASSWORD"] == "the user's own"


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("http://u:p@h:5000/x", "http://h:5000/x"),
        ("at http://u:p@h and postgresql://a:b/c@d:e@h/db", "at http://h and postgresql://h/db"),
        ("'http://u:p@h'", "'http://h'"),
        ("postgresql://h/db?user=u&password=p&x=1", "postgresql://h/db?user=u&password=***&x=1"),
        ("http://h/?access_token=t;pwd=x&n=1", "http://h/?access_token=***;pwd=***&n=1"),
        ("http://u:it's@h", "http://h"),
        ("sqlite:///mlflow.db", "sqlite:///mlflow.db"),
        ("sqlite:////a@b;key=c/x.db", "sqlite:////a@b;key=c/x.db"),
        ("sqlite:///x.db?key=a;pwd=b", "sqlite:///x.db?key=***;pwd=***"),
        ("sqlite+pysqlcipher://:secret@/x.db", "sqlite+pysqlcipher:///x.db"),
        ("did you mean model.width?", "did you mean model.width?"),
        ("mail me@home, see http://h/", "mail me@home, see http://h/"),
    ],
)
def test_without_password(text, safe):
    assert without_password(text) == safe
    assert without_password(safe) == safe


@given(
    user=st.text("abc:@/%'", min_size=1, max_size=5),
    password=st.text("XYZ@:/?#%'\"&;", min_size=1, max_size=8).filter(lambda p: set("XYZ") & set(p)),
)
def test_no_password_gets_through(user, password):
    assert not set("XYZ") & set(without_password(f"postgresql://{user}:{password}@host:5432/db"))


def test_servers_that_our_commands_start_listen_on_this_machine_alone():
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), ROOT / "Makefile"]
    commands = [line for page in pages for line in page.read_text().splitlines()
                if re.match(r"\s*(mlflow (ui|server)|postgres|pg_ctl)\b", line)]  # fmt: skip
    assert commands
    for command in commands:
        host = re.search(r"--host[ =](\S+)", command)
        assert host is None or host[1] == "127.0.0.1", command  # which is MLflow's default
        assert "0.0.0.0" not in command


def test_mlflow_listens_on_this_machine_alone_by_default(tmp_path):
    from tests.support import serving

    port = free_port()
    with serving(["mlflow", "ui", "--port", str(port), "--workers", "1"], tmp_path, port):
        tables = [Path(f"/proc/net/{name}") for name in ("tcp", "tcp6")]
        lines = [line.split() for t in tables if t.exists() for line in t.read_text().splitlines()[1:]]
        listening = {f[1].split(":")[0] for f in lines if f[3] == "0A" and f[1].endswith(f":{port:04X}")}
        assert listening == {"0100007F"}  # 127.0.0.1
