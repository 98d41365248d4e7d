"""The store in MLflow: under any name the same database for srste, MLflow's client and its UI, and no
larger for a launch that is repeated."""

from __future__ import annotations

import contextlib
import os
import shlex
import sqlite3
import urllib.parse
import urllib.request
from dataclasses import replace
from pathlib import Path

import mlflow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.engine import make_url

from srste.errors import UserError
from srste.store.manifest import Launch
from srste.tracking.addresses import resolved, sqlite_address, sqlite_file, ui_command
from srste.tracking.chart_view import Chart
from srste.tracking.databases import make_database
from srste.tracking.opening import open_anew
from srste.tracking.run_contents import Entry, Run
from srste.tracking.writer import Outcome
from tests.support import SMALL, empty_database, free_port, serving, train

NAMES = [
    "a b", "a,b", "a=b", "it's", 'say "x"', "a?b", "a#b", "[ab]", "{ab}", "a%20b", "100%", "%41", "a\\b",
    "a*b", "$HOME", "a;key=b", "a\nb", "é", "e\u0301", "😀", "a@b:c", "~", "-x", "`x`", "<!|>", "\u2028",
    "\x01", "a+b", "C:\\x", "sqlite:", "?#%", "a?key=1", "file:x", "%2e%2e", ":memory:", "日" * 80,
]  # fmt: skip
LAUNCH = Launch("1" * 32, "one", [], False, "", "2026-01-01T00:00:00", {"granularity": "study"})


@pytest.fixture(autouse=True)
def _default_store(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def a_store(folder, name="mlflow.db"):
    """A folder with a new store in it, as it is found there by whoever comes later."""
    folder.mkdir(parents=True)
    (folder / name).write_bytes(empty_database())
    return folder / name


def listed(folder):
    return sorted(path.name for path in folder.iterdir())


def an_entry(folder):
    """A run with a file, a folder and a text."""
    (folder / "files" / "deep").mkdir(parents=True, exist_ok=True)
    (folder / "files" / "one.txt").write_text("1")
    (folder / "files" / "deep" / "two.txt").write_text("2")
    run = Run("r", {"kind": "study"}, {"a": 1}, contents={"three.txt": "3"},
              files=[folder / "files" / "one.txt", folder / "files" / "deep"])  # fmt: skip
    return Entry("key", 1, lambda: run)


@pytest.mark.parametrize("name", NAMES)
def test_a_store_in_a_folder_of_any_name(tmp_path, name):
    folder = tmp_path / "inner" / name
    database = a_store(folder)
    with contextlib.chdir(folder):
        store = open_anew(None, "srste")
        store.add(LAUNCH, [an_entry(tmp_path)])
        assert ui_command(store.uri) == "mlflow ui"
        assert open_anew("sqlite:///mlflow.db", "srste").uri == store.uri
        assert make_url(mlflow.get_tracking_uri()).database == str(database)
    *_, address = shlex.split(ui_command(store.uri))  # from elsewhere
    assert make_url(address).database == str(database)
    client = mlflow.MlflowClient(address)
    (run,) = client.search_runs([store.experiment_id])
    for artifact, text in (("one.txt", "1"), ("deep/two.txt", "2"), ("three.txt", "3")):
        assert Path(client.download_artifacts(run.info.run_id, artifact)).read_text() == text
    assert listed(folder.parent) == [name]
    assert listed(folder) == [".mlflow.db.srste.lock", "mlflow.db", "mlruns"]


@pytest.mark.parametrize("name", ["my db.db", "a?b%20#é", "sqlite:///x@y", "[x]\n;key=1"])
def test_a_new_store_in_a_file_of_any_name(tmp_path, name):
    database = tmp_path / name.replace("/", "%2F")
    make_database(database)
    with contextlib.closing(sqlite3.connect(database)) as connection:
        assert connection.execute("SELECT name FROM experiments").fetchall() == [("Default",)]
        ((location,),) = connection.execute("SELECT artifact_location FROM experiments")
    assert location == f"{tmp_path.as_uri()}/mlruns/0"
    assert listed(tmp_path) == [database.name]


# MLflow would make the folder of an address as it stands there, so none may stand there but a real one.
@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1))
def test_the_address_of_a_file_is_read_as_that_file(name):
    path = Path("/", name).absolute()
    address = sqlite_address(path)
    assert make_url(address).database == str(path)
    assert sqlite_file(address) == path
    assert address.isprintable()
    written = Path(address.removeprefix("sqlite:///"))
    assert written == path or written.parent == Path()
    assert sqlite_address(path, "timeout=5") == f"{address}?timeout=5"


@pytest.mark.parametrize(
    ("address", "means"),
    [
        ("sqlite:///my.db", "sqlite:///{}/my.db"),
        ("sqlite:///my%20db.db", "sqlite:///{}/my db.db"),
        ("sqlite:///my%2520db.db", "sqlite:///{}/my%2520db.db"),
        ("sqlite:///my db.db", "sqlite:///{}/my db.db"),
        ("sqlite:////abs/x.db", "sqlite:////abs/x.db"),
        ("sqlite:///x.db?timeout=5", "sqlite:///{}/x.db?timeout=5"),
        ("sqlite+pysqlite:///sub/x.db", "sqlite:///{}/sub/x.db"),
        ("postgresql://host:5432/a%20b?sslmode=off", "postgresql://host:5432/a%20b?sslmode=off"),
        ("http://host:5000/a%20b", "http://host:5000/a%20b"),
    ],
)
def test_what_an_address_means(monkeypatch, tmp_path, address, means):
    monkeypatch.chdir(tmp_path)
    path = sqlite_file(means.format(tmp_path))
    assert sqlite_file(address) == path
    if path is None:
        assert resolved(address) == means
    else:
        assert make_url(resolved(address)) == make_url(means.format(tmp_path)), resolved(address)


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("sqlite://", "a store in memory ends with the process; name a file, sqlite:///mlflow.db"),
        ("sqlite:///", "a store in memory"),
        ("sqlite:///:memory:", "a store in memory"),
        ("sqlite://x.db", "must have three slashes, as sqlite:///x.db"),
        ("sqlite:x.db", "must be sqlite:/// and the name of a file"),
        ("sqlite:///file:x.db?mode=ro&uri=true", "must name the file itself"),
        ("sqlite:///x.db?nope=1", "cannot be used (Query string argument(s) 'nope' are"),
        ("sqlite:///x.db?timeout=soon", "cannot be used (could not convert string to float"),
        ("sqlite:///a%00b", "cannot be used"),
        ("sqlite:///nowhere/x.db", "there is no folder"),
        ("foo://x", "no answer ("),
        ("s3://bucket/x", "no answer ("),
        ("http://[::1", "Invalid IPv6 URL"),
        ("http://", "no answer ("),
        ("postgresql://127.0.0.1:9/x", "no answer ("),
        ("databricks", "no answer ("),
    ],
)
def test_refused_in_one_line_and_nothing_is_made(monkeypatch, tmp_path, address, says):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as refused:
        open_anew(address, "srste")
    assert str(refused.value).startswith("tracking.uri=")
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)
    assert listed(tmp_path) == []


def test_a_name_that_is_not_utf_8(tmp_path):
    folder = tmp_path / os.fsdecode(b"a\xff")
    folder.mkdir()
    with contextlib.chdir(folder), pytest.raises(UserError) as refused:
        open_anew(None, "srste")
    assert str(refused.value).isascii()
    assert "MLflow keeps artifacts only under names that are UTF-8; rename that folder" in str(
        refused.value
    )
    assert listed(folder) == []


def test_files_of_the_user_beside_the_store_stay_as_they_are(tmp_path):
    names = [
        "mlflow.db.lock",
        ".mlflow.db.x.tmp",
        ".mlflow.db.host.1.tmp-journal",
        ".mlflow.db.mine.new",
    ]
    for name in names:
        (tmp_path / name).write_text("mine")
    (tmp_path / "mlflow.db").touch(0o600)
    with contextlib.chdir(tmp_path):
        open_anew(None, "srste")
    assert {(tmp_path / name).read_text() for name in names} == {"mine"}
    assert (tmp_path / "mlflow.db").stat().st_mode & 0o777 == 0o600


def test_a_linked_store_stays_a_link(tmp_path):
    database = a_store(tmp_path / "real", "x.db")
    link = tmp_path / "links" / "mlflow.db"
    link.parent.mkdir()
    link.symlink_to(database)
    other = link.with_name("new.db")
    other.symlink_to(tmp_path / "real" / "new.db")  # leads nowhere yet
    for path in (link, other):
        open_anew(f"sqlite:///{path}", "srste").add(LAUNCH, [an_entry(tmp_path)])
        assert path.is_symlink()
    assert (tmp_path / "real" / "new.db").stat().st_size
    assert len(list((tmp_path / "real" / "mlruns" / "1").iterdir())) == 2
    assert listed(link.parent) == ["mlflow.db", "new.db"]


class TestTheCommandThatShowsIt:
    """What is printed is what opens the store; plain `mlflow ui` only where that does."""

    def test_by_its_own_rules(self, monkeypatch, tmp_path):
        monkeypatch.chdir(tmp_path)
        default, other = sqlite_address(tmp_path / "mlflow.db"), sqlite_address(tmp_path / "it's.db")
        assert ui_command(default) == ui_command(f"{default}?timeout=5") == "mlflow ui"
        assert shlex.split(ui_command(other)) == ["mlflow", "ui", "--backend-store-uri", other]
        monkeypatch.setenv("MLFLOW_TRACKING_URI", other)  # at which `mlflow ui` does not look
        assert ui_command(default) == "mlflow ui"
        monkeypatch.setenv("MLFLOW_BACKEND_STORE_URI", other)  # at which it does
        assert ui_command(default) == f"mlflow ui --backend-store-uri {default}"
        monkeypatch.delenv("MLFLOW_BACKEND_STORE_URI")
        (tmp_path / "mlruns" / "0").mkdir(parents=True)
        assert ui_command(default) == "mlflow ui"
        (tmp_path / "mlruns" / "0" / "meta.yaml").touch()  # an old store, which it prefers
        assert ui_command(default) == f"mlflow ui --backend-store-uri {default}"
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        assert ui_command(default) == f"mlflow ui --backend-store-uri {default}"

    def test_a_password_is_not_shown(self):
        command = ui_command("postgresql://me:hunter2@host/db")
        assert command == "mlflow ui --backend-store-uri postgresql://host/db"

    def test_as_it_is_printed(self, tmp_path):
        """A launch, the same records put there once more, and MLflow's UI all have one database."""
        uri = "sqlite:///it's%20a%3F%20%25/my%20db.db"
        folder = tmp_path / "it's a? %"
        folder.mkdir()
        done = train(tmp_path, f'tracking.uri="{uri}"', *SMALL)
        assert done.returncode == 0, done.stderr
        assert listed(tmp_path) == [".srste", "it's a? %", "outputs"]
        line = next(line for line in done.stdout.splitlines() if line.startswith("Charts: "))
        command = shlex.split(line.split("`", 1)[1].rsplit("`", 1)[0])
        (run, *_) = mlflow.MlflowClient(command[-1]).search_runs(["1"], "tags.kind = 'launch'")
        port = free_port()
        with serving([*command, "--port", str(port), "--workers", "1"], tmp_path, port):
            asked = urllib.parse.urlencode({"path": "record.json", "run_uuid": run.info.run_id})
            if run.data.tags["kind"] != "study":
                asked = asked.replace("record.json", "table.txt")
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/get-artifact?{asked}") as answer:
                assert answer.read()
        assert listed(tmp_path) == [".srste", "it's a? %", "outputs", "server.log"]
        assert listed(folder) == [".my db.db.srste.lock", "mlruns", "my db.db"]


class TestAgain:
    def repeat(self, store, folder, text, seconds=1.5):
        """The launch's run, as a repetition of the launch makes it."""
        (folder / "report").mkdir(exist_ok=True)
        (folder / "table.txt").write_text(text)
        (folder / "report" / "a.txt").write_text(text)
        synced = store.sync(LAUNCH, [], frozenset(), lambda: None)
        outcome = Outcome(
            description=text, numbers={"gain": 1.0}, configs=[{"a": 1}],
            files=[folder / "table.txt", folder / "report"], seconds=seconds, complete=True,
            studies_seconds=9.0, headline=f"{text}.", has_report=text != "second", names={},
            tags={}, front=[], charts=[Chart(("gain",), "N")],
        )  # fmt: skip
        store.finish(LAUNCH, synced, outcome)
        (run,) = store._runs("tags.kind = 'launch'")
        return run

    def test_its_run_is_written_over_whatever_came_between(self, tmp_path):
        """So that a link to it stays good; its duration is that of both."""
        store = open_anew(sqlite_address(a_store(tmp_path / "x")), "srste")
        first = self.repeat(store, tmp_path, "first")
        assert first.info.end_time - first.info.start_time == 1_500
        mine = tmp_path / "mine.txt"
        mine.touch()
        store._client.log_artifact(first.info.run_id, str(mine))
        store.add(replace(LAUNCH, id="2" * 32), [an_entry(tmp_path)])
        second = self.repeat(store, tmp_path, "second")
        assert second.info.run_id == first.info.run_id
        assert second.info.status == "FINISHED"
        assert second.info.end_time - second.info.start_time == 3_000
        assert second.data.tags["mlflow.note.content"] == "second"
        folder = tmp_path / "x" / "mlruns" / "1" / second.info.run_id
        paths = {p.name: p.read_text() for p in folder.rglob("*.*") if p.is_file()}
        assert paths.pop("config.yaml")
        assert paths == {"table.txt": "second", "a.txt": "second", "mine.txt": ""}

    def test_it_is_shown_as_running_and_as_interrupted(self, tmp_path):
        store = open_anew(sqlite_address(a_store(tmp_path / "x")), "srste")
        begun = store.begin(LAUNCH)
        assert store._client.get_run(begun).info.status == "RUNNING"
        store.interrupt(begun, 2.0)
        ended = store._client.get_run(begun)
        assert ended.info.status == "KILLED"
        assert ended.info.end_time - ended.info.start_time == 2_000
        assert self.repeat(store, tmp_path, "then").info.run_id == begun

    def test_the_experiment_s_description_has_the_newest_answer_and_someone_s_own_stays(self, tmp_path):
        store = open_anew(sqlite_address(a_store(tmp_path / "x")), "srste")
        note = lambda: store._client.get_experiment(store.experiment_id).tags["mlflow.note.content"]  # noqa: E731
        for text in ("first", "second"):
            run = self.repeat(store, tmp_path, text)
            link = f"#/experiments/1/runs/{run.info.run_id}"
            report = f"[Newest report]({link}/artifacts/report.html)"
            assert note().startswith(report if text == "first" else f"[Newest launch]({link})")
            assert f"**{text}.**" in note()
        store._client.set_experiment_tag(store.experiment_id, "mlflow.note.content", "mine")
        self.repeat(store, tmp_path, "third")
        assert note() == "mine"

    def test_four_times_takes_the_room_of_once(self, tmp_path):
        sizes = []
        for _ in range(4):
            done = train(tmp_path, "batches=1", *SMALL[1:])
            assert done.returncode == 0, done.stderr
            files = [tmp_path / "mlflow.db", *(tmp_path / "mlruns").rglob("*")]
            sizes.append(sum(path.stat().st_size for path in files if path.is_file()))
        assert max(sizes) < sizes[0] + 20_000


def test_a_new_store_is_a_copy_of_empty_tables_and_a_damaged_copy_is_made_anew(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    make_database(tmp_path / "first.db")
    (kept,) = (tmp_path / "cache" / "srste").iterdir()
    content = kept.read_bytes()
    for number, damage in enumerate((b"no database", content[: len(content) // 2], content)):
        kept.write_bytes(damage)
        make_database(tmp_path / f"{number}.db")
        experiments = mlflow.MlflowClient(f"sqlite:///{tmp_path}/{number}.db").search_experiments()
        assert [e.artifact_location for e in experiments] == [(tmp_path / "mlruns" / "0").as_uri()]
        assert kept.exists() == (damage == content)
        kept.write_bytes(content)
