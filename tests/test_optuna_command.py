"""`python -m srste optuna`: what Optuna itself reads in the storage, and what its dashboard shows."""

import contextlib
import dataclasses
import io
import json
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import warnings
from contextlib import closing, redirect_stderr, redirect_stdout
from datetime import datetime, timedelta
from pathlib import Path
from unittest.mock import patch

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

import srste
from srste.commands.main import main
from srste.sampling import Trials
from srste.store import records
from srste.store.files import checksum
from srste.store.trial_tables import packed
from tests.support import ROOT, empty_database, eventually, free_port, train
from tests.test_browser import browser, open_page, text_of  # noqa: F401

SMALL = ["batches=2", "batch_size=64", "model.width=8", "heldout=200", "report=false", "tracking=none"]


def command(cwd, *arguments):
    """Runs the command in this process; returns what it printed and its code."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.chdir(cwd), redirect_stdout(out), redirect_stderr(err):
        try:
            code = main(["optuna", *map(str, arguments)])
        except SystemExit as exit_:
            code = exit_.code
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


def refused(cwd, *arguments):
    """The one line with which the command refuses."""
    done = command(cwd, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    return line.removeprefix("srste: ")


@pytest.fixture(scope="module")
def launches(tmp_path_factory):
    """A folder with the launches `few`, of 500 trials a study, and `many`, of 5,000."""
    folder = tmp_path_factory.mktemp("launches")
    for name, step in (("few", "1e-3"), ("many", "1e-4")):
        done = train(folder, "-m", "samples=1,2", f"sampling.step={step}",
                     f"hydra.sweep.dir={folder / name}", *SMALL)  # fmt: skip
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def storage(tmp_path):
    return f"sqlite:///{tmp_path}/studies.db"


def in_storage(url):
    """The studies there by name, as Optuna reads them."""
    return {
        name: optuna.load_study(study_name=name, storage=url) for name in optuna.get_all_study_names(url)
    }


def on_disk(folder):
    """(record, trials) of every study below the folder, by name."""
    return {r.name: (r, records.read_trials(f)) for f, r in records.find(Path(folder))}


class TestWriting:
    def test_a_storage_has_every_trial_of_few(self, launches, storage, tmp_path):
        done = command(tmp_path, launches / "few", "--storage", storage)
        assert done.returncode == 0
        assert done.stderr == ""
        assert done.stdout.splitlines() == [
            f"{storage}: 6 studies, 3,000 trials (6 added, 0 replaced, 0 there already)",
            f"optuna-dashboard {storage}",
        ]
        there, wanted = in_storage(storage), on_disk(launches / "few")
        assert there.keys() == wanted.keys()
        assert len(there) == 6
        for name, study in there.items():
            record, trials = wanted[name]
            assert study.metric_names == ["loss after the step"]
            assert study.direction.name == "MINIMIZE"
            assert [t.number for t in study.trials] == list(range(500))
            assert [t.params for t in study.trials] == [{"lr": lr} for lr in trials.lr]
            assert [t.value for t in study.trials] == trials.post_loss.tolist()
            assert study.best_value == record.best.post_loss
            assert {t.distributions["lr"] for t in study.trials} == {trials.distribution}

    def test_it_is_the_study_that_the_record_loads(self, launches, storage, tmp_path):
        command(tmp_path, launches / "few", "--storage", storage)
        there = in_storage(storage)
        for folder, record in records.find(launches / "few"):
            written, loaded = there[record.name], records.load_study(folder)
            assert written.user_attrs == loaded.user_attrs | {"trials_written": 500}
            assert written.metric_names == loaded.metric_names
            for one, other in zip(written.trials, loaded.trials, strict=True):
                one._trial_id = other._trial_id  # of the storage
                assert one == other

    def test_of_many_trials_some_by_stride_and_the_best(self, launches, storage, tmp_path):
        done = command(tmp_path, launches / "many", "--storage", storage)
        assert re.search(r": 6 studies, 1,9\d\d of 30,000 trials \(6 added", done.stdout)
        recorded = on_disk(launches / "many")
        for name, study in in_storage(storage).items():
            record, trials = recorded[name]
            numbers = [t.user_attrs["trial"] for t in study.trials]
            assert numbers == sorted(set(numbers))
            assert (numbers[0], numbers[-1]) == (0, 4_999)
            assert 319 <= len(numbers) <= 320
            assert np.diff(numbers).max() <= 17
            assert record.best.number in numbers
            assert study.best_value == record.best.post_loss
            assert study.best_trial.user_attrs["trial"] == record.best.number
            assert [t.value for t in study.trials] == trials.post_loss[numbers].tolist()
            assert study.user_attrs["trials"] == 5_000
            assert study.user_attrs["trials_written"] == len(numbers)

    @pytest.mark.parametrize(("given", "written"), [("all", 5_000), (6_000, 5_000), (7, 7), (1, 1)])
    def test_so_many_as_are_asked_for(self, launches, storage, tmp_path, given, written):
        (folder, record), *_ = records.find(launches / "many")
        assert command(tmp_path, folder, "--storage", storage, "--trials", given).returncode == 0
        (study,) = in_storage(storage).values()
        assert written - 1 <= len(study.trials) <= written
        assert study.best_value == record.best.post_loss

    def test_study_attributes(self, launches, storage, tmp_path):
        command(tmp_path, launches / "few", "--storage", storage)
        plain = json.loads(next((launches / "few" / "samples=2").rglob("record.json")).read_bytes())
        attributes = in_storage(storage)[f"sr_ste N=2 batch {plain['identity']['batch']}"].user_attrs
        assert attributes["estimator"] == plain["identity"]["estimator"]["name"] == "sr_ste"
        assert attributes["samples"] == 2
        assert attributes["batch"] == plain["identity"]["batch"]
        assert attributes["seed"] == plain["identity"]["seed"]
        assert attributes["batch_size"] == 64
        assert attributes["exact_lr"] == plain["certificate"]["lr"]
        assert attributes["exact_loss"] == plain["certificate"]["loss"]
        assert attributes["heldout_pre_loss"] == plain["heldout"]["pre_loss"]
        assert attributes["heldout_post_loss"] == plain["heldout"]["post_loss"]
        assert attributes["key"] == plain["key"]

    def test_failed_trials_and_a_study_without_a_best(self, launches, storage, tmp_path):
        losses = {"some": np.array([1.0, np.inf, 0.5, np.nan]), "none": np.full(4, np.nan)}
        (_, whole), (_, other) = list(records.find(launches / "few"))[:2]
        for record, (name, post_loss) in zip([whole, other], losses.items(), strict=True):
            distribution = optuna.distributions.FloatDistribution(0.0, 1.0)
            table = packed(Trials(np.arange(4) / 4, post_loss, 0.75, distribution))
            failed = int((~np.isfinite(post_loss)).sum())
            changed = dataclasses.replace(record, table=checksum(table), trials=4, failed=failed)
            records.write(tmp_path / "some" / name, changed, table)
        assert command(tmp_path, "some", "--storage", storage).returncode == 0
        some, none = in_storage(storage)[whole.name], in_storage(storage)[other.name]
        assert [t.state for t in some.trials] == [TrialState.COMPLETE, TrialState.FAIL] * 2
        assert [t.value for t in some.trials] == [1.0, None, 0.5, None]
        assert some.trials[1].user_attrs == {
            "pre_loss": 0.75, "post_loss": np.inf, "reason": "loss after the update is inf, not finite",
        }  # fmt: skip
        assert {t.state for t in none.trials} == {TrialState.FAIL}
        assert command(tmp_path, "some", "--storage", storage, "--trials", 1).returncode == 0
        assert [t.value for t in in_storage(storage)[whole.name].trials] == [0.5]
        assert len(in_storage(storage)[other.name].trials) == 1

    def test_optuna_goes_on_with_such_a_study(self, launches, storage, tmp_path):
        command(tmp_path, launches / "few", "--storage", storage, "--trials", 30)
        optuna.copy_study(
            from_study_name="ste batch 1", from_storage=storage, to_storage=storage, to_study_name="mine"
        )
        study = optuna.load_study(study_name="mine", storage=storage)
        study.optimize(lambda trial: trial.suggest_float("lr", 1e-3, 0.5, step=1e-3), n_trials=2)
        assert 31 <= len(study.trials) <= 32
        assert [t.number for t in study.trials] == list(range(len(study.trials)))


class TestAgain:
    def test_what_is_there_is_left(self, launches, storage, tmp_path):
        command(tmp_path, launches / "few", "--storage", storage)
        before = (tmp_path / "studies.db").read_bytes()
        done = command(tmp_path, launches / "few", "--storage", storage)
        assert "(0 added, 0 replaced, 6 there already)" in done.stdout
        assert (tmp_path / "studies.db").read_bytes() == before

    def test_another_number_of_trials_replaces(self, launches, storage, tmp_path):
        command(tmp_path, launches / "few", "--storage", storage, "--trials", 10)
        done = command(tmp_path, launches / "few", "--storage", storage)
        assert "(0 added, 6 replaced, 0 there already)" in done.stdout
        assert {len(study.trials) for study in in_storage(storage).values()} == {500}

    def test_the_same_study_of_other_code_replaces_and_nothing_else_is_touched(
        self, launches, storage, tmp_path
    ):
        command(tmp_path, launches / "few", "--storage", storage)
        (folder, record), *_ = records.find(launches / "few")
        mine = optuna.create_study(storage=storage, study_name="mine")
        mine.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
        table = (folder / "trials.packed.parquet").read_bytes()
        records.write(tmp_path / "newer", dataclasses.replace(record, key="other"), table)
        done = command(tmp_path, "newer", "--storage", storage)
        assert "1 studies, 500 trials (0 added, 1 replaced, 0 there already)" in done.stdout
        there = in_storage(storage)
        assert len(there) == 7
        assert there[record.name].user_attrs["key"] == "other"
        assert len(there[record.name].trials) == 500
        assert len(there["mine"].trials) == 3
        with closing(sqlite3.connect(tmp_path / "studies.db")) as connection:
            for table in ("trial_values", "trial_params", "trial_user_attributes"):
                orphans = (
                    f"SELECT count(*) FROM {table} WHERE trial_id NOT IN (SELECT trial_id FROM trials)"
                )
                assert connection.execute(orphans).fetchone() == (0,)

    def test_studies_of_one_name_are_told_apart(self, launches, storage, tmp_path):
        together = command(tmp_path, launches / "few", launches / "many", "--storage", storage)
        assert "12 studies" in together.stdout
        steps = {f"sr_ste N=1 batch 1 sampling.step={step}" for step in ("0.001", "0.0001")}
        assert steps < in_storage(storage).keys()
        one_by_one = f"{storage}.later"
        for name in ("few", "many"):
            assert "6 added" in command(tmp_path, launches / name, "--storage", one_by_one).stdout
        there = in_storage(one_by_one)
        assert len(there) == 12
        assert sum(bool(re.fullmatch(r"ste batch 1 \w{8}", name)) for name in there) == 1
        again = command(tmp_path, launches / "few", launches / "many", "--storage", one_by_one)
        assert "(0 added, 0 replaced, 12 there already)" in again.stdout

    def test_a_study_of_someone_else_keeps_its_name(self, launches, storage, tmp_path):
        optuna.create_study(storage=storage, study_name="ste batch 1")
        assert "6 added" in command(tmp_path, launches / "few", "--storage", storage).stdout
        there = in_storage(storage)
        assert len(there) == 7
        assert there["ste batch 1"].trials == []

    def test_a_copy_under_a_name_of_its_own_stays(self, launches, storage, tmp_path):
        command(tmp_path, launches / "few", "--storage", storage, "--trials", 5)
        optuna.copy_study(
            from_study_name="ste batch 1", from_storage=storage, to_storage=storage, to_study_name="mine"
        )
        done = command(tmp_path, launches / "few", "--storage", storage, "--trials", 9)
        assert "(0 added, 6 replaced, 0 there already)" in done.stdout
        assert len(in_storage(storage)["mine"].trials) <= 5


class TestRefusals:
    def test_folders(self, storage, tmp_path):
        (tmp_path / "empty").mkdir()
        says = {"empty": "holds no records of studies; name the", "nowhere": "there is no such folder"}
        for name, reason in says.items():
            assert refused(tmp_path, name, "--storage", storage).startswith(f"{name}: {reason}")

    @pytest.mark.parametrize("trials", ["0", "-1", "1.5", "some"])
    def test_trials(self, launches, storage, tmp_path, trials):
        line = refused(tmp_path, launches / "few", "--storage", storage, f"--trials={trials}")
        assert line == f"--trials={trials}: must be a whole number >= 1, or all"
        assert not (tmp_path / "studies.db").exists()

    @pytest.mark.parametrize(
        ("given", "reason"),
        [
            ("studies.db", "must be the address of a database"),
            ("redis://localhost", "must begin with one of sqlite, postgresql, mysql, mariadb"),
            ("sqlite://studies.db", "must have three slashes, as sqlite:///studies.db"),
            ("sqlite://", "a database in memory ends with the process"),
            ("sqlite:///:memory:", "a database in memory ends with the process"),
            ("sqlite:///nowhere/studies.db", "there is no folder nowhere"),
            ("sqlite:///folder", "is a folder"),
            ("sqlite:///text", "that file is no SQLite database"),
            ("sqlite:///{x}.db", "Optuna does not take it"),
            ("postgresql://me:secret@127.0.0.1:1/x", "cannot be used"),
        ],
    )
    def test_storages(self, launches, tmp_path, given, reason):
        (tmp_path / "folder").mkdir()
        (tmp_path / "text").write_text("something else, of more than sixteen characters")
        line = refused(tmp_path, launches / "few", "--storage", given)
        assert line.startswith(f"--storage={given.replace('me:secret@', '')}: {reason}")
        assert line.endswith("name another, as sqlite:///studies.db")
        assert "secret" not in line

    def test_the_database_of_another_program_stays_as_it_is(self, launches, tmp_path):
        content = empty_database()
        (tmp_path / "mlflow.db").write_bytes(content)
        line = refused(tmp_path, launches / "few", "--storage", "sqlite:///mlflow.db")
        assert line.startswith("--storage=sqlite:///mlflow.db: holds tables of another program (")
        assert (tmp_path / "mlflow.db").read_bytes() == content

    def test_tables_of_another_optuna(self, launches, storage, tmp_path):
        command(tmp_path, launches / "few", "--storage", storage)
        with closing(sqlite3.connect(tmp_path / "studies.db")) as connection:
            connection.execute("UPDATE alembic_version SET version_num = 'v2.6.0.a'")
            connection.commit()
        assert "optuna storage upgrade" in refused(tmp_path, launches / "few", "--storage", storage)

    def test_no_dashboard(self, launches, tmp_path):
        with patch("importlib.util.find_spec", return_value=None):
            line = refused(tmp_path, launches / "few")
        assert "`pip install optuna-dashboard`" in line

    def test_ports(self, launches, storage, tmp_path):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            line = refused(tmp_path, launches / "few", "--port", port)
        assert line == f"--port={port}: address already in use; name another, or 0 for any that is free"
        line = refused(tmp_path, launches / "few", "--port", 70_000)
        assert line == "--port=70000: must be from 1 to 65535, or 0 for any that is free"
        line = refused(tmp_path, launches / "few", "--port", 8080, "--storage", storage)
        assert line == "--port=8080: must be left out with --storage, which serves nothing"


class TestInPython:
    def test_a_loaded_study_says_what_it_is(self, launches, capfd):
        optuna.logging.set_verbosity(optuna.logging.INFO)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                study = srste.load(launches / "few").studies[0].to_optuna()
        finally:
            optuna.logging.set_verbosity(optuna.logging.WARNING)
        assert capfd.readouterr() == ("", "")
        record = srste.load(launches / "few").studies[0].record
        assert study.study_name == record.name
        assert study.metric_names == ["loss after the step"]
        assert study.user_attrs["key"] == record.key
        assert study.user_attrs["exact_loss"] == record.certificate.loss
        (began,) = {t.datetime_start for t in study.trials}
        (ended,) = {t.datetime_complete for t in study.trials}
        assert ended.astimezone() == datetime.fromisoformat(record.created)
        assert abs(ended - began - timedelta(seconds=record.seconds)) < timedelta(microseconds=2)

    def test_results_to_a_storage(self, launches, storage):
        results = srste.load(launches / "few")
        results.to_optuna(storage, trials=20)
        assert {len(s.trials) for s in in_storage(storage).values()} <= {19, 20}
        assert in_storage(storage).keys() == {study.name for study in results.studies}
        with pytest.raises(ValueError, match="trials=0"):
            results.to_optuna(storage, trials=0)
        with pytest.raises(ValueError, match="must be the address of a database"):
            results.to_optuna("studies.db")


@pytest.fixture(scope="module")
def dashboard(launches):
    """The address of the dashboard of the launch `many`, as its command prints it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "srste", "optuna", launches / "many", "--port", str(free_port())],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        first, second = process.stdout.readline(), process.stdout.readline()
        assert first.startswith("temporary storage: 6 studies, 1,9"), process.stderr.read()
        yield re.fullmatch(r"Dashboard: (http://127\.0\.0\.1:\d+)/ until Ctrl-C\n", second)[1]
        # Ctrl-C; a shell's background process, and what it starts, is deaf to it.
        deaf = signal.getsignal(signal.SIGINT) == signal.SIG_IGN
        process.send_signal(signal.SIGTERM if deaf else signal.SIGINT)
        out, err = process.communicate(timeout=120)
        assert (process.returncode, out.strip(), err) == (0, "", "")
    finally:
        process.kill()
        process.communicate()


@pytest.mark.browser
class TestDashboard:
    def test_the_studies(self, browser, dashboard):  # noqa: F811
        open_page(browser, dashboard)
        names = [f"sr_ste N={n} batch {batch}" for n in (1, 2) for batch in (1, 2)]
        text_of(browser, *names, "ste batch 1", "ste batch 2", "MINIMIZE")

    def test_a_study_s_plot_and_attributes(self, browser, dashboard, launches):  # noqa: F811
        from selenium.webdriver.common.by import By

        open_page(browser, dashboard)
        text_of(browser, "sr_ste N=2 batch 1")
        browser.find_element(By.PARTIAL_LINK_TEXT, "sr_ste N=2 batch 1").click()
        record, _ = on_disk(launches / "many")["sr_ste N=2 batch 1"]
        best = repr(record.best.post_loss)
        text = text_of(browser, "History", "loss after the step", "Study User Attributes", best)
        assert "Objective 0" not in text
        assert re.search(r"estimator\W+sr_ste\W+samples\W+2\W+batch\W+1\W+seed\W+0\b", text)
        plots = "[...document.querySelectorAll('.js-plotly-plot')]"
        points = f"return {plots}.map(p => Math.max(...p.data.map(d => (d.y || []).length)))"
        drawn = eventually(lambda: [n for n in browser.execute_script(points) if n > 300])
        assert all(319 <= n <= 320 for n in drawn)
