"""What goes wrong: changed code, processes at once, interrupts, losses that overflow, servers that die.
Each ends with nothing lost and nothing doubled."""

from __future__ import annotations

import re
import shutil
import signal

import mlflow

from tests.support import ROOT, SLOWLY, SMALL, a_store, said, slowly, start, studies, train, wait_for


def test_after_a_change_of_code_nothing_old_is_reused_or_left_in_mlflow(tmp_path):
    project = tmp_path / "project"
    for name in ("srste", "conf"):
        shutil.copytree(ROOT / name, project / name, ignore=shutil.ignore_patterns("*.pyc"))
    shutil.copy(ROOT / "train.py", project)

    a_store(tmp_path)

    def run():
        arguments = ["-m", "samples=1,2", "batches=1", *SMALL[1:]]
        done = train(tmp_path, *arguments, script=project / "train.py")
        assert done.returncode == 0, done.stderr
        return done.stdout

    run()
    assert "3 reused" in run()
    estimator = project / "srste" / "estimators" / "another.py"
    estimator.write_text("# nobody uses this yet\n")
    assert "3 reused" in run()
    source = project / "srste" / "networks" / "activations.py"
    source.write_text(source.read_text() + "\n# a change\n")
    out = run()
    assert "reused," not in out
    assert "3 records there are of other settings or code" in out
    # Two lie where new ones came, and are kept; the shared one lies beside its new one.
    assert len([p for p in tmp_path.rglob("record.json") if ".set-aside" in p.parts]) == 2
    runs = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db").search_runs(["1"])
    names = [
        "STE",
        "multirun: samples=1,2",
        "sr-STE",
        "sr_ste N=1 batch 1",
        "sr_ste N=2 batch 1",
        "ste batch 1",
    ]
    assert sorted(r.info.run_name.split(" batches")[0] for r in runs) == names
    assert sum("mlflow.srste.front" in r.data.tags for r in runs) == 5


def test_after_a_change_in_a_user_s_own_package_its_studies_run_again(tmp_path):
    package = tmp_path / "mine"
    package.mkdir()
    (package / "__init__.py").write_text("from .est import Scaled\n")
    (package / "other.py").write_text("")
    (package / "core.py").write_text("SCALE = 1.0\n")
    (package / "est.py").write_text(
        "from srste.estimators.controls.random import Random\n"
        "from .core import SCALE\n"
        "class Scaled(Random):\n"
        "    def direction(self, *arguments):\n"
        "        return {n: SCALE * g for n, g in super().direction(*arguments).items()}\n"
    )

    def run():
        target = "estimator._target_=mine.Scaled"
        arguments = ["-m", "estimator=random", target, "samples=1,2", "tracking=none", *SMALL]
        done = train(tmp_path, *arguments, PYTHONPATH=str(tmp_path), PYTHONDONTWRITEBYTECODE="1")
        assert done.returncode == 0, done.stderr
        found = studies(tmp_path)
        return done.stdout, {name: found[name][0].best.lr for name in found if "random" in name}

    _, before = run()
    (package / "other.py").write_text("# nobody uses this\n")
    assert "6 reused" in run()[0]
    (package / "core.py").write_text("SCALE = 2.0\n")
    out, after = run()
    assert "2 reused" in out  # of STE
    assert len(after) == 4
    # Twice the direction: half the learning rate, but for the grid's own step.
    assert all(abs(2 * after[name] - before[name]) <= 2e-4 for name in before), (before, after)


def test_a_pretraining_that_diverges_fails_the_studies_and_not_the_job(tmp_path):
    a_store(tmp_path)
    done = train(
        tmp_path, "pretraining=adam", "pretraining.lr=1e30", "pretraining.steps=3",
        "pretraining.batch_size=10", "batches=1", "batch_size=16", "sampling.step=0.1",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "failed" in done.stdout
    assert all(record.best is None for record, _ in studies(tmp_path).values())


def test_learning_rates_beyond_float32(tmp_path):
    done = train(
        tmp_path, "sampling=random", "sampling.lr_min=1e38", "sampling.lr_max=1e100",
        "batches=1", "batch_size=16", "sampling.n_trials=5", "tracking=none",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


def test_losses_that_are_not_finite_fail_their_trials_and_not_the_job(tmp_path):
    # A learning rate of 1e300 overflows the square of the output.
    done = train(
        tmp_path,
        "sampling=random",
        "sampling.n_trials=20",
        "sampling.lr_max=1e300",
        "sampling.log=false",
        "batches=1",
        "batch_size=16",
    )
    assert done.returncode == 0, done.stderr
    assert "20 of 20 trials failed: loss after the update is" in done.stdout + done.stderr
    found = studies(tmp_path)
    assert all(record.best is None and record.failed == 20 for record, _ in found.values())
    assert "failed" in done.stdout
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    runs = [r for r in client.search_runs(["1"]) if r.data.tags["kind"] == "study"]
    assert {r.info.status for r in runs} == {"FAILED"}
    assert all("not finite" in r.data.tags["failure"] for r in runs)


def test_the_same_command_does_not_run_twice_at_once(tmp_path):
    arguments = ["-m", "samples=1,2,3", "batches=4", *SLOWLY]
    process = start(tmp_path, *arguments, **slowly(2))
    wait_for(process, tmp_path, "record.json", 1)
    second = train(tmp_path, *arguments, **slowly(0))
    still_running = process.poll() is None
    process.kill()
    process.communicate()
    assert still_running, "the first one ended too soon to tell"
    assert second.returncode == 2
    assert "another process is running this command there" in second.stderr
    assert len(said(second.stderr)) == 1
    done = train(tmp_path, *arguments, **slowly(0))  # killed, it holds nothing any more
    assert done.returncode == 0, done.stderr


def test_interrupted_it_says_so_and_goes_on_later(tmp_path):
    arguments = ["-m", "samples=1,2,...,4", "batches=8", *SLOWLY]
    process = start(tmp_path, *arguments, **slowly(0.2))
    wait_for(process, tmp_path, "record.json", 12)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert re.search(
        r"train.py: stopped after \d+ of 40 studies; their records are kept in multirun/", err
    )
    kept = studies(tmp_path)
    assert 11 <= len(kept) < 40  # the last one may be about to get its name
    done = train(tmp_path, *arguments, **slowly(0))
    assert done.returncode == 0, done.stderr
    reused = int(re.search(r"40 studies, (\d+) reused", done.stdout)[1])
    assert reused >= len(kept)
    assert studies(tmp_path).keys() > kept.keys()
