"""The whole program, run as a user runs it: Hydra, Optuna, records, a real MLflow store."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import mlflow
import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from srste.store import records
from tests.support import SMALL, a_store, only, same_results, studies, train


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """A sweep of three sample counts with pretraining, and what it printed."""
    folder = tmp_path_factory.mktemp("sweep")
    done = train(
        folder,
        "-m",
        "estimator=sr_ste",
        "samples=1,2,...,3",
        "pretraining=adam",
        "pretraining.steps=40",
        "pretraining.batch_size=500",
        *SMALL,
        "report=true",
    )
    assert done.returncode == 0, done.stderr
    return folder, done


@pytest.fixture(scope="module")
def store(sweep):
    client = mlflow.MlflowClient(f"sqlite:///{sweep[0]}/mlflow.db")
    experiment = client.get_experiment_by_name("srste")
    return client, client.search_runs([experiment.experiment_id], max_results=1000)


def runs_of(store, kind):
    return {r.info.run_name: r for r in store[1] if r.data.tags["kind"] == kind}


class TestRecords:
    def test_each_study_left_one_and_the_baseline_was_computed_once(self, sweep):
        stored = studies(sweep[0] / "multirun")
        sr = {f"sr_ste N={n} batch {b}" for n in (1, 2, 3) for b in (1, 2)}
        assert stored.keys() == sr | {"ste batch 1", "ste batch 2"}
        for record, losses in stored.values():
            assert record.trials == len(losses) == 5_000
            assert record.best.post_loss == losses.min()
            assert record.best.lr == (np.argmin(losses) + 1) / 10_000
            assert record.best.explained
            assert record.best.replayed_post_loss == pytest.approx(record.best.post_loss, rel=1e-2)
            assert record.best.replayed_pre_loss == pytest.approx(record.pre_loss, rel=1e-5)
            if record.samples:
                assert record.baseline.key == stored[f"ste batch {record.batch}"][0].key
                assert record.baseline.post_loss == stored[f"ste batch {record.batch}"][0].best.post_loss

    def test_they_lie_in_the_job_s_folder_as_parquet_and_json(self, sweep):
        jobs = sorted(p.name for p in only(sweep[0] / "multirun").glob("samples=*"))
        assert jobs == ["samples=1", "samples=2", "samples=3"]
        for job in jobs:
            folder = only(sweep[0] / "multirun") / job
            assert sorted(p.name for p in (folder / "studies").iterdir()) == ["batch-01", "batch-02"]
            files = sorted(p.name for p in (folder / "studies" / "batch-01").iterdir())
            assert files == ["record.json", "trials.packed.parquet"]
            assert len((folder / "note.log").read_text().splitlines()) == 4

    def test_the_optuna_study_comes_back_from_the_record(self, sweep):
        folder = next(only(sweep[0] / "multirun").rglob("batch-01"))
        study = records.load_study(folder)
        assert len(study.trials) == 5_000
        assert study.best_value == records.read(folder).best.post_loss


class TestAtTheEnd:
    def test_the_table_and_the_link(self, sweep):
        out = sweep[1].stdout
        assert re.search(r"estimator +N +passes +loss +gain over STE +won +held out", out)
        assert len(re.findall(r"^ (?:sr-STE|      )  +([123]) +(?:2|4|6) +0\.\d+ +[+-]", out, re.M)) == 3
        assert "The loss after sr-STE's best step is" in out
        assert (
            "This describes one network; a test needs at least 6: sweep seed=0,1,...,9 for ten." in out
        )
        assert re.search(r"is within [\d.e-]+ of the exact minimum over all learning rates, ", out)
        assert "8 studies, 40,000 trials in" in out
        assert re.search(r"http://127\.0\.0\.1:5000/#/experiments/1/runs\?\S*compareRunsMode=CHART", out)
        assert "workflowType=machine_learning" in out

    def test_the_files(self, sweep):
        root = only(sweep[0] / "multirun")
        names = {p.name for p in root.iterdir() if p.is_file()}
        assert {"results.csv", "table.txt", "note.log", "figure.png", "report.html"} <= names
        beside = {p.name for p in (root / "report").iterdir()}
        assert {"verdicts.csv", "verdicts.md", "networks.png", "networks.svg"} <= beside
        pattern = re.compile(
            r"\[(STE|stochastic STE)\]Original loss is [\d.e-]+, and when "
            r"(samples is \d+ and )?lr is [\d.e-]+, the best STE-loss is [\d.e-]+\."
        )
        lines = (root / "note.log").read_text().splitlines()
        assert len(lines) == 8
        assert all(pattern.fullmatch(line) for line in lines)


class TestMLflow:
    def test_a_run_a_study_one_of_the_pretraining_one_an_estimator_one_of_the_launch(self, store):
        assert runs_of(store, "study").keys() == {
            *(f"sr_ste N={n} batch {b}" for n in (1, 2, 3) for b in (1, 2)),
            "ste batch 1",
            "ste batch 2",
        }
        assert list(runs_of(store, "pretraining")) == ["pretraining adam seed 0"]
        assert len(runs_of(store, "launch")) == 1
        assert runs_of(store, "summary").keys() == {"STE", "sr-STE"}
        assert len(store[1]) == 12

    def test_studies_are_folded_under_their_launch_and_summaries_are_not(self, store):
        (launch,) = runs_of(store, "launch").values()
        for run in store[1]:
            folded = run.data.tags["kind"] in ("study", "pretraining")
            assert run.data.tags.get("mlflow.parentRunId") == (launch.info.run_id if folded else None)
        assert all(r.info.status == "FINISHED" for r in store[1])

    def test_metrics_are_the_record_s(self, sweep, store):
        stored = studies(sweep[0] / "multirun")
        for name, run in runs_of(store, "study").items():
            record, metrics = stored[name][0], run.data.metrics
            assert metrics["loss before the step"] == record.pre_loss
            assert metrics["loss after the best step"] == record.best.post_loss
            assert metrics["best learning rate"] == record.best.lr
            assert metrics["held-out loss before the step"] == record.heldout.pre_loss
            assert metrics["held-out loss after the step"] == record.heldout.post_loss
            exact = record.certificate
            assert metrics["learning rate of the lowest loss"] == exact.lr <= 0.5
            assert metrics["lowest loss at any learning rate"] == exact.loss <= record.best.post_loss
            assert run.data.tags["curve"] == "exact"
            if record.samples:
                gain = record.baseline.post_loss - record.best.post_loss
                assert metrics["gain over the baseline"] == gain

    def test_summaries_have_the_means_at_every_n(self, sweep, store):
        """The figure of the note: MLflow's chart draws a metric against its steps."""
        stored = studies(sweep[0] / "multirun")
        client, _ = store
        ste = np.mean([stored[f"ste batch {b}"][0].best.post_loss for b in (1, 2)])
        for name, run in runs_of(store, "summary").items():
            history = {
                metric: {m.step: m.value for m in client.get_metric_history(run.info.run_id, metric)}
                for metric in (
                    "N",
                    "loss after the best step",
                    "gain over STE",
                    "held-out gain over STE",
                )
            }
            assert history["N"] == {1: 1.0, 2: 2.0, 3: 3.0}
            for n in (1, 2, 3):
                of = "ste" if name == "STE" else f"sr_ste N={n}"
                of_batch = [stored[f"{of} batch {b}"][0] for b in (1, 2)]
                loss = np.mean([record.best.post_loss for record in of_batch])
                assert history["loss after the best step"][n] == pytest.approx(loss, rel=1e-15)
                assert history["gain over STE"][n] == pytest.approx(ste - loss, abs=1e-15)
                heldout = [
                    stored[f"ste batch {r.batch}"][0].heldout.post_loss - r.heldout.post_loss
                    for r in of_batch
                ]
                gain = pytest.approx(np.mean(heldout), abs=1e-15)
                assert history["held-out gain over STE"][n] == gain

    def test_colours_tell_estimators_apart_and_are_darker_for_more_samples(self, store):
        colours = {
            name: run.data.tags["mlflow.runColor"] for name, run in runs_of(store, "summary").items()
        }
        assert colours["STE"] == "#000000" != colours["sr-STE"]
        runs = runs_of(store, "study")
        shades = [runs[f"sr_ste N={n} batch 1"].data.tags["mlflow.runColor"] for n in (1, 2, 3)]
        assert shades[-1].lower() == colours["sr-STE"].lower()
        light = [sum(bytes.fromhex(shade[1:])) for shade in shades]
        assert light == sorted(light, reverse=True)
        assert len(set(light)) == 3

    def test_a_study_leads_to_its_launch_and_its_baseline(self, store):
        (launch,) = runs_of(store, "launch").values()
        runs = runs_of(store, "study")
        note = runs["sr_ste N=2 batch 1"].data.tags["mlflow.note.content"]
        assert f"runs/{launch.info.run_id})" in note
        assert f"runs/{runs['ste batch 1'].info.run_id})" in note
        assert "baseline" not in runs["ste batch 1"].data.tags["mlflow.note.content"]

    def test_tags_to_filter_and_group_by(self, store):
        tags = runs_of(store, "study")["sr_ste N=3 batch 2"].data.tags
        expected = {"estimator": "sr_ste", "samples": "3", "batch": "2", "pretraining": "adam",
                    "model": "mlp", "loss": "squared_error", "sampling": "grid",
                    "seed": "0"}  # fmt: skip
        assert expected.items() <= tags.items()
        assert re.fullmatch(r"[0-9a-f]{40}(\+changes)?|unknown", tags["mlflow.source.git.commit"])
        # What a person reads: versions are in the record.
        assert not [tag for tag in tags if tag.startswith(("version.", "srste."))]
        assert runs_of(store, "study")["ste batch 1"].data.tags["samples"] == "-"

    def test_the_whole_configuration_is_on_every_run(self, store):
        client, _ = store
        for name, run in runs_of(store, "study").items():
            text = client.download_artifacts(run.info.run_id, "config.yaml")
            config = yaml.safe_load(Path(text).read_text())
            assert config["model"]["width"] == 8
            assert config["estimator"]["name"] == run.data.params["estimator"]
            assert run.data.params["estimator.quantiser"] == (
                "Sign" if name.startswith("ste") else "StochasticRounding"
            )
            assert run.data.params["seed"] == "0"
            assert run.data.params["sampling.step"] == "0.0001"

    def test_curves_have_at_most_320_points_with_the_best_among_them(self, store):
        client, _ = store
        run = runs_of(store, "study")["sr_ste N=2 batch 1"]
        history = {
            key: client.get_metric_history(run.info.run_id, f"trials/{key}")
            for key in ("learning rate", "loss before the step", "loss after the step")
        }
        before = history.pop("loss before the step")  # a level line
        assert [point.step for point in before] == [0, 4_999]
        assert {point.value for point in before} == {run.data.metrics["loss before the step"]}
        assert {len(points) for points in history.values()} <= {319, 320}
        losses, metrics = history["loss after the step"], run.data.metrics
        assert min(p.value for p in losses) == metrics["loss after the best step"]
        assert all(p.value == (p.step + 1) / 10_000 for p in history["learning rate"])

    def test_all_trials_are_in_the_artifact(self, store):
        client, _ = store
        run = runs_of(store, "study")["sr_ste N=1 batch 1"]
        path = client.download_artifacts(run.info.run_id, "trials.parquet")
        assert len(pq.read_table(path)) == 5_000
        picture = client.download_artifacts(run.info.run_id, "loss_curve.svg")
        assert "sr_ste N=1 batch 1, seed 0" in Path(picture).read_text()

    def test_the_pretraining_curve(self, store):
        client, _ = store
        run = runs_of(store, "pretraining")["pretraining adam seed 0"]
        history = client.get_metric_history(run.info.run_id, "pretraining/loss")
        assert [p.step for p in history] == list(range(40))
        assert history[-1].value < history[0].value

    def test_the_launch_s_run_has_the_answer_and_the_report(self, sweep, store):
        client, _ = store
        (run,) = runs_of(store, "launch").values()
        assert run.info.run_name.startswith("multirun: estimator=sr_ste samples=1,2,...,3")
        assert run.data.params["samples"] == "1,2,3"
        assert run.data.params["pretraining.steps"] == "40"
        note = run.data.tags["mlflow.note.content"]
        assert note.startswith(
            f"[Report: statistics, figures, curves](#/experiments/1/runs/{run.info.run_id}"
        )
        assert "The loss after sr-STE's best step is" in note
        assert "| sr-STE | 3 |" in note
        assert run.data.metrics["sr-STE: best N"] in (1, 2, 3)
        assert run.info.end_time - run.info.start_time > 1_000, "its duration is the launch's"
        config = yaml.safe_load(
            Path(client.download_artifacts(run.info.run_id, "config.yaml")).read_text()
        )
        assert config["versions"]["torch"]
        names = {a.path for a in client.list_artifacts(run.info.run_id)}
        assert {
            "figure.png",
            "table.txt",
            "results.csv",
            "note.log",
            "config.yaml",
            "report.html",
        } <= names


class TestAgain:
    def test_the_same_command_reuses_everything_and_doubles_nothing(self, sweep, store, tmp_path):
        folder = tmp_path / "copy"
        shutil.copytree(sweep[0], folder)
        root = only(folder / "multirun")
        before = {p: p.stat().st_mtime_ns for p in root.rglob("record.json")}
        victim = next(root.glob("samples=2/studies/batch-02/trials.packed.parquet"))
        victim.write_bytes(victim.read_bytes()[:-7])
        original = studies(sweep[0] / "multirun")
        overrides = yaml.safe_load((root / "multirun.yaml").read_text())["hydra"]["overrides"]["task"]
        done = train(
            folder, "-m", *overrides, "report=false", MLFLOW_TRACKING_URI=f"sqlite:///{folder}/other.db"
        )
        assert done.returncode == 0, done.stderr
        assert "is damaged (trials.packed.parquet is not the table" in done.stdout + done.stderr
        assert "8 studies, 7 reused, 40,000 trials" in done.stdout
        changed = [p for p, t in before.items() if p.stat().st_mtime_ns != t]
        assert [p.parent for p in changed] == [victim.parent]
        same_results(studies(root), original)

    def test_a_third_time_adds_no_run(self, sweep, store):
        folder = sweep[0]
        overrides = yaml.safe_load((only(folder / "multirun") / "multirun.yaml").read_text())
        # As a killed launch would leave it: a run of this launch that never ended.
        launch = json.loads((only(folder / "multirun") / "launch.json").read_text())["id"]
        tags = {"mlflow.srste.launch": launch, "mlflow.srste.key": "cut off", "kind": "study"}
        store[0].create_run("1", tags=tags, run_name="cut off")
        done = train(folder, "-m", *overrides["hydra"]["overrides"]["task"], "report=false")
        assert done.returncode == 0, done.stderr
        assert "8 reused" in done.stdout
        again = store[0].search_runs(["1"], max_results=1000)
        assert sorted(r.info.run_name for r in again) == sorted(r.info.run_name for r in store[1])

    def test_resume_false_runs_everything_again_and_shared_studies_once(self, sweep, tmp_path):
        folder = tmp_path / "copy"
        shutil.copytree(sweep[0], folder)
        root = only(folder / "multirun")
        before = {p: p.stat().st_mtime_ns for p in root.rglob("record.json")}
        overrides = yaml.safe_load((root / "multirun.yaml").read_text())["hydra"]["overrides"]["task"]
        done = train(folder, "-m", *overrides, "resume=false", "tracking=none", "report=false")
        assert done.returncode == 0, done.stderr
        assert "8 studies, 40,000 trials" in done.stdout
        assert all(p.stat().st_mtime_ns != t for p, t in before.items())
        same_results(studies(root), studies(sweep[0] / "multirun"))


def test_the_same_study_in_two_jobs_counts_once(tmp_path):
    a_store(tmp_path)
    done = train(
        tmp_path, "-m", "batches=1,2", "batch_size=64", "sampling.step=1e-3", "heldout=0", "report=false"
    )
    assert done.returncode == 0, done.stderr
    assert "4 studies" in done.stdout
    runs = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db").search_runs(["1"])
    assert len(runs) == 4 + 1 + 2  # the launch's, and two summaries


def test_a_folder_named_by_the_time_and_another_working_directory(tmp_path):
    done = train(
        tmp_path, "-m", "samples=1,2", "tracking=none", "hydra.job.chdir=true", *SMALL,
        "hydra.sweep.dir='sweeps, ${now:%H-%M-%S-%f}'",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "6 studies, 30,000 trials" in done.stdout
    assert len(list(tmp_path.rglob("shared/*/record.json"))) == 2


def test_no_result_depends_on_order_company_or_process(tmp_path):
    """Two jobs of a sweep, in the other order, and each alone in a process of its own."""
    quiet = ["tracking=none", *SMALL]
    for name, arguments, environment in (
        ("up", ["-m", "samples=1,2"], {}),
        ("down", ["-m", "samples=2,1"], {"PYTHONHASHSEED": "1"}),
        ("one", ["samples=1"], {}),
        ("two", ["samples=2"], {}),
    ):
        (tmp_path / name).mkdir()
        done = train(tmp_path / name, *arguments, *quiet, **environment)
        assert done.returncode == 0, done.stderr
    up, down = studies(tmp_path / "up"), studies(tmp_path / "down")
    same_results(up, down)
    same_results(up, studies(tmp_path / "one") | studies(tmp_path / "two"))


def test_estimators_and_a_sampler_together(tmp_path):
    done = train(
        tmp_path,
        "-m",
        "estimator=ste,sr_ste",
        "sampling=tpe",
        "sampling.n_trials=15",
        "samples=1,2",
        "batches=1",
        "batch_size=64",
        "tracking=none",
        "report=false",
    )
    assert done.returncode == 0, done.stderr
    assert "estimator=ste draws nothing: it ignores `samples`" in done.stdout
    stored = studies(tmp_path)
    assert stored.keys() == {"ste batch 1", "sr_ste N=1 batch 1", "sr_ste N=2 batch 1"}
    assert {len(losses) for _, losses in stored.values()} == {15}
    # The STE job's study and the sr-STE jobs' baseline are one and the same.
    assert len(list(tmp_path.rglob("record.json"))) == 3


def test_a_short_study_is_logged_point_by_point(tmp_path):
    a_store(tmp_path)
    done = train(
        tmp_path,
        "estimator=ste",
        "sampling=random",
        "sampling.n_trials=700",
        "batches=1",
        "batch_size=64",
    )
    assert done.returncode == 0, done.stderr
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    run = next(r for r in client.search_runs(["1"]) if r.data.tags["kind"] == "study")
    assert len(client.get_metric_history(run.info.run_id, "trials/loss after the step")) == 700
