"""Stores that cannot take the runs: told in one line when they are opened, before anything is changed,
and what the line advises is true."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import alembic.command
import mlflow
import optuna
import pytest
from alembic.script import ScriptDirectory
from mlflow.store.db.utils import _get_alembic_config
from mlflow.store.tracking.dbmodels.initial_models import Base
from sqlalchemy import create_engine

from srste.errors import UserError
from srste.tracking.addresses import sqlite_address
from srste.tracking.artifacts import local_folder
from srste.tracking.opening import open_anew
from tests.support import SMALL, said, train
from tests.test_store import LAUNCH, a_store, an_entry, listed


@pytest.fixture(autouse=True)
def _default_store(monkeypatch, tmp_path):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)


def refused(uri=None, experiment="srste"):
    """The one line in which that store is refused."""
    with pytest.raises(UserError) as error:
        open_anew(uri, experiment)
    line = str(error.value)
    assert "\n" not in line
    return line


def run_advice(line):
    """Runs the command that the line advises, in the working directory, as it is printed."""
    command = line[line.index("`") + 1 : line.rindex("`")]
    words = shlex.split(command)
    if "mlflow" in words:  # a fork of a process that has it imported, which takes it long
        place = words.index("mlflow")
        environment = dict(word.split("=", 1) for word in words[:place])
        script = Path(sys.executable).parent / "mlflow"
        done = train(Path.cwd(), *words[place + 1 :], script=script, **environment)
        assert done.returncode == 0, done.stderr
    else:
        subprocess.run(command, shell=True, check=True)


def takes_runs(uri, experiment, folder):
    """That store takes a run with files; returns the folder of these."""
    store = open_anew(uri, experiment)
    store.add(LAUNCH, [an_entry(folder)])
    folder = local_folder(store._runs("")[0].info.artifact_uri, store.uri)
    assert (folder / "one.txt").read_text() == "1"
    return folder


def set_location(database, location):
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute(
            "UPDATE experiments SET artifact_location = ? WHERE experiment_id = 1", (location,)
        )
        connection.commit()


class TestExperiment:
    def test_that_is_deleted(self, tmp_path):
        database = a_store(tmp_path / "it's a? store")
        uri = sqlite_address(database)
        store = open_anew(uri, "my experiment")
        store._client.delete_experiment(store.experiment_id)
        line = refused(uri, "my experiment")
        assert line.startswith("tracking.experiment=my experiment: ")
        assert takes_runs(uri, "another", tmp_path)
        run_advice(line)
        assert takes_runs(uri, "my experiment", tmp_path)

    @pytest.mark.parametrize("how", ["a file", "below a file", "in /proc", "of Windows", "of a server"])
    def test_whose_files_cannot_be_written(self, tmp_path, how):
        database = a_store(tmp_path / "x")
        uri = sqlite_address(database)
        open_anew(uri, "srste")
        (tmp_path / "file").touch()
        location = {
            "a file": f"{tmp_path}/file", "below a file": f"file://{tmp_path}/file/1",
            "in /proc": "/proc/mlruns/1", "of Windows": "C:\\Users\\me\\mlruns\\1",
            "of a server": "mlflow-artifacts:/1",
        }[how]  # fmt: skip
        set_location(database, location)
        assert refused(uri).startswith("tracking.experiment=srste: its artifacts go to ")
        assert "name another experiment by tracking.experiment" in refused(uri)
        assert takes_runs(uri, "another", tmp_path).is_relative_to(tmp_path / "x" / "mlruns")
        assert listed(tmp_path) == ["file", "files", "x"]

    @pytest.mark.parametrize("location", ["{}/elsewhere/1", "file://{}/elsewhere/1"])
    def test_whose_files_are_elsewhere_by_intent(self, tmp_path, location):
        uri = sqlite_address(a_store(tmp_path / "x"))
        mlflow.MlflowClient(uri).create_experiment("mine", location.format(tmp_path))
        for _ in range(2):
            assert takes_runs(uri, "mine", tmp_path).is_relative_to(tmp_path / "elsewhere" / "1")

    def test_whose_files_were_thrown_away(self, tmp_path):
        uri = sqlite_address(a_store(tmp_path / "x"))
        takes_runs(uri, "srste", tmp_path)
        shutil.rmtree(tmp_path / "x" / "mlruns")
        assert takes_runs(uri, "srste", tmp_path)

    def test_that_is_new_where_a_file_is_in_the_way(self, tmp_path):
        uri = sqlite_address(a_store(tmp_path / "x"))
        (tmp_path / "x" / "mlruns").touch()
        assert "its artifacts go to" in refused(uri)
        assert mlflow.MlflowClient(uri).get_experiment_by_name("srste") is None
        (tmp_path / "x" / "mlruns").unlink()
        assert takes_runs(uri, "srste", tmp_path)

    def test_whose_name_mlflow_does_not_take(self, tmp_path):
        uri = sqlite_address(a_store(tmp_path / "x"))
        assert "does not take experiment 'aaaa" in refused(uri, "a" * 501)


class TestMoved:
    @pytest.fixture
    def moved(self, tmp_path):
        """(folder before, folder now) of a store with a run."""
        before, now = tmp_path / "be fore", tmp_path / "n%41ow"
        takes_runs(sqlite_address(a_store(before)), "srste", tmp_path)
        before.rename(now)
        return before, now

    def test_the_old_place_is_not_made_anew(self, moved, tmp_path):
        before, now = moved
        uri = sqlite_address(now / "mlflow.db")
        assert f"its artifacts go to {before}/mlruns/1, which is not there" in refused(uri)
        assert not before.exists()
        assert takes_runs(uri, "another", tmp_path).is_relative_to(now / "mlruns")
        assert not before.exists()

    def test_the_command_leads_to_the_files(self, moved, tmp_path):
        _, now = moved
        uri = sqlite_address(now / "mlflow.db")
        run_advice(refused(uri))
        takes_runs(uri, "srste", tmp_path)
        assert len(list((now / "mlruns" / "1").iterdir())) == 2
        store = open_anew(uri, "srste")
        for run in store._runs(""):
            assert Path(store._client.download_artifacts(run.info.run_id, "one.txt")).read_text() == "1"

    def test_only_the_database(self, moved, tmp_path):
        _, now = moved
        shutil.rmtree(now / "mlruns")
        assert "`" not in refused(sqlite_address(now / "mlflow.db"))

    def test_a_copy_does_not_write_beside_the_original(self, tmp_path):
        database = a_store(tmp_path / "original")
        takes_runs(sqlite_address(database), "srste", tmp_path)
        copy = tmp_path / "copy" / database.name
        copy.parent.mkdir()
        shutil.copy(database, copy)
        line = refused(sqlite_address(copy), "srste")
        assert f"with those of {database}, of which {copy} is a copy" in line
        # As the line says.
        assert takes_runs(sqlite_address(copy), "another", tmp_path).is_relative_to(copy.parent)
        assert takes_runs(sqlite_address(database), "srste", tmp_path).is_relative_to(database.parent)

    def test_back_again(self, moved, tmp_path):
        before, now = moved
        refused(sqlite_address(now / "mlflow.db"))
        now.rename(before)
        assert takes_runs(sqlite_address(before / "mlflow.db"), "srste", tmp_path)


def of_optuna(path):
    optuna.create_study(storage=sqlite_address(path))


def of_optuna_and_part_of_mlflow(path):
    of_optuna(path)
    engine = create_engine(sqlite_address(path))
    Base.metadata.create_all(engine)
    engine.dispose()


def of_another_program(path):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript("CREATE TABLE customers (x); CREATE TABLE runs (x);")


def of_a_newer_mlflow(path):
    a_store(path.parent / "new").rename(path)
    (path.parent / "new").rmdir()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript("UPDATE alembic_version SET version_num = 'fedcba987654';")


def cut_off(path):
    engine = create_engine(sqlite_address(path))
    Base.metadata.create_all(engine)
    engine.dispose()


def of_words(path):
    path.write_text("not a database at all")


def cut_short(path):
    a_store(path.parent / "new").rename(path)
    (path.parent / "new").rmdir()
    os.truncate(path, path.stat().st_size // 2)


def a_folder(path):
    path.mkdir()


def a_pipe(path):
    os.mkfifo(path)


class TestDatabase:
    @pytest.mark.parametrize(
        ("make", "says"),
        [
            (
                of_optuna,
                "tables of another program (alembic_version, studies, study_directions",
            ),
            (of_optuna_and_part_of_mlflow, "does not know: a newer MLflow's, or another program's"),
            (of_another_program, "holds tables of another program (customers, runs)"),
            (
                of_a_newer_mlflow,
                f"a version (fedcba987654) that MLflow {mlflow.__version__} does not know",
            ),
            (cut_off, "its making by MLflow was cut off, or another program made it"),
            (of_words, "that file is no SQLite database"),
            (cut_short, "cannot be read (database disk image is malformed)"),
            (a_folder, "is a folder"),
            (a_pipe, "is no file"),
        ],
    )
    def test_that_is_not_this_mlflow_s(self, tmp_path, make, says):
        path = tmp_path / "mlflow.db"
        make(path)
        before = path.read_bytes() if path.is_file() else None
        line = refused()
        assert says in line
        assert "name another by tracking.uri, as sqlite:///other.db, or use tracking=none" in line
        assert listed(tmp_path) == ["mlflow.db"]
        assert before is None or path.read_bytes() == before
        assert takes_runs("sqlite:///other.db", "srste", tmp_path / "y")

    def test_of_an_older_mlflow(self, tmp_path):
        database = tmp_path / "it's old?.db"
        scripts = ScriptDirectory.from_config(_get_alembic_config(""))
        engine = create_engine(sqlite_address(database))
        Base.metadata.create_all(engine)
        config = _get_alembic_config(str(engine.url))
        with engine.begin() as config.attributes["connection"]:
            alembic.command.upgrade(config, scripts.get_revision("head").down_revision)
        engine.dispose()
        before = database.read_bytes()
        line = refused(sqlite_address(database))
        assert "its tables are of an older MLflow" in line
        assert listed(tmp_path) == [database.name]
        assert database.read_bytes() == before
        run_advice(line)
        assert takes_runs(sqlite_address(database), "srste", tmp_path)

    def test_nothing_yet(self, tmp_path):
        (tmp_path / "mlflow.db").touch()
        sqlite3.connect(tmp_path / "other.db").executescript("VACUUM")
        for uri in (None, "sqlite:///other.db", "sqlite:///third.db"):
            assert takes_runs(uri, "srste", tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
class TestAsAnotherUser:
    """For root everything can be written."""

    @pytest.fixture
    def folder(self):
        """One that others can reach, as tmp_path is not."""
        import tempfile

        with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
            Path(name).chmod(0o755)
            yield Path(name)

    def opened(self, uri, cwd="/"):
        """What another user is told of that store; None if it takes their runs."""
        read, write = os.pipe()
        if (pid := os.fork()) == 0:
            os.setgroups([])
            os.setresgid(54321, 54321, 54321)
            os.setresuid(54321, 54321, 54321)
            os.chdir(cwd)
            try:
                open_anew(uri, "srste")
            except UserError as error:
                os.write(write, str(error).encode())
            finally:
                os._exit(0)
        os.close(write)
        os.waitpid(pid, 0)
        with open(read, encoding="utf-8") as said:  # noqa: PTH123
            return said.read() or None

    def test_what_they_cannot_write(self, folder):
        database = a_store(folder / "x")
        uri = sqlite_address(database)
        assert "cannot be used ([Errno 13] Permission denied" in self.opened(uri)
        (folder / "x").chmod(0o777)
        assert "cannot be written (attempt to write a readonly database)" in self.opened(uri)
        database.chmod(0o666)
        assert self.opened(uri) is None
        set_location(database, f"{folder}/closed/1")
        assert "which cannot be written ([Errno 13] Permission denied" in self.opened(uri)
        database.chmod(0o000)
        assert "cannot be used ([Errno 13] Permission denied" in self.opened(uri)

    def test_a_working_directory_that_they_cannot_write(self, folder):
        (folder / "cwd").mkdir()
        (folder / "x").mkdir()
        (folder / "x").chmod(0o777)
        assert self.opened(f"sqlite:///{folder}/x/my.db", folder / "cwd") is None
        assert (folder / "x" / "mlruns").is_dir()
        assert listed(folder / "cwd") == []


class TestOldStoreOfFiles:
    @pytest.fixture
    def old(self, tmp_path, monkeypatch):
        """A run of an older MLflow, in ./mlruns."""
        monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
        client = mlflow.MlflowClient(f"file://{tmp_path}/mlruns")
        client.create_run(client.create_experiment("old"), run_name="old run")
        monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE")
        return tmp_path / "mlruns"

    def test_its_runs_are_moved_by_the_command(self, old, tmp_path):
        line = refused()
        assert "keeps no runs in folders, as older ones did" in line
        run_advice(line)
        (uri,) = re.findall(r"with tracking\.uri=(\S+) they go", line)
        takes_runs(uri, "srste", tmp_path)
        client = mlflow.MlflowClient(sqlite_address(tmp_path / "mlflow.db"))
        (run,) = client.search_runs([client.get_experiment_by_name("old").experiment_id])
        assert run.info.run_name == "old run"

    def test_or_left(self, old, tmp_path):
        assert takes_runs("sqlite:///mlflow.db", "srste", tmp_path)
        assert "`" not in refused()  # the command would overwrite the database that there is now

    @pytest.mark.parametrize(
        "uri", ["mlruns", "./new", "{}/new", "file://{}/new", "C:\\new", "file:new"]
    )
    def test_an_address_that_is_a_folder(self, tmp_path, uri):
        assert "keeps no runs in folders" in refused(uri.format(tmp_path))
        assert listed(tmp_path) == []

    def test_an_address_that_lacks_its_scheme(self, tmp_path):
        (tmp_path / "my db.db").touch()
        assert refused("my db.db").endswith("a SQLite file is written 'sqlite:///my db.db'")


def test_no_server_is_spoken_of_where_none_was_named(tmp_path):
    (tmp_path / "mlflow.db").write_text("words")
    assert "that server" not in refused()


def test_a_launch_is_refused_before_its_work(tmp_path):
    of_optuna(tmp_path / "mlflow.db")
    done = train(tmp_path, *SMALL)
    assert done.returncode == 2
    assert len(said(done.stderr)) == 1
    assert "holds tables of another program" in done.stderr
    assert not list(tmp_path.rglob("record.json"))
