"""Where a launch puts its gradient diagnostics, and what it refuses."""

from __future__ import annotations

import json

import mlflow
import numpy as np
import pandas as pd
import pytest

from srste.store import records
from tests.support import SMALL, train


@pytest.fixture(scope="module")
def launched(tmp_path_factory):
    folder = tmp_path_factory.mktemp("diagnosed")
    done = train(
        folder, "-m", "estimator=sr_ste", "samples=1,3", "diagnostics=gradient", "diagnostics.repeats=4",
        *[word for word in SMALL if word != "report=false"],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (launch,) = (folder / "multirun").iterdir()
    return folder, launch


def test_records_hold_what_the_tables_say(launched):
    _, launch = launched
    stored = [record for _, record in records.find(launch)]
    assert len(stored) == 6
    table = pd.read_csv(launch / "report" / "gradients.csv")
    assert set(table["layer"]) == {"all", "0", "2", "4", "6"}
    for (name, n), estimator in {("sr-STE", 3): "sr_ste", ("STE", None): "ste"}.items():
        of = [r for r in stored if r.estimator == estimator and r.samples == n]
        chosen = table[(table.estimator == name) & ((table.samples == n) if n else table.samples.isna())]
        for layer in (0, 2):
            cosines = [record.diagnosis.layers[layer].cosine for record in of]
            label = of[0].diagnosis.layers[layer].layer or "all"
            row = chosen[chosen.layer == label].iloc[0]
            assert row.cosine == pytest.approx(np.mean(cosines))
        gauges = [r.diagnosis.heldout_gauge for r in of if r.diagnosis.heldout_gauge is not None]
        of_all = chosen[chosen.layer == "all"].iloc[0]
        assert np.isnan(of_all.heldout_gauge) if not gauges else of_all.heldout_gauge == np.mean(gauges)
    assert {"gradients.png", "gradients_by_depth.svg"} <= {p.name for p in (launch / "report").iterdir()}
    page = (launch / "report.html").read_text()
    assert "Gradients against the true ones" in page
    assert "the discrete gradient with radius 0.1" in page


def test_mlflow_has_them_with_n_as_the_step(launched):
    folder, launch = launched
    client = mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    ids = [e.experiment_id for e in client.search_experiments()]
    runs = client.search_runs(ids, "tags.kind = 'summary' AND tags.estimator = 'sr-STE'")
    history = client.get_metric_history(runs[0].info.run_id, "gradient/cosine")
    assert sorted(m.step for m in history) == [1, 3]
    studies = client.search_runs(ids, "tags.kind = 'study' AND tags.samples = '3' AND tags.batch = '1'")
    (study,) = studies
    (of_layer,) = client.get_metric_history(study.info.run_id, "gradient/layer 2/flip ratio")
    assert of_layer.step == 3
    record = next(r for _, r in records.find(launch) if r.samples == 3 and r.batch == 1)
    assert of_layer.value == record.diagnosis.layers[2].flip_ratio


def test_another_diagnosis_is_another_study_and_none_is_as_before(launched):
    _, launch = launched
    for _, record in records.find(launch):
        assert record.identity["diagnostics"]["repeats"] == 4
        plain_json = json.loads(json.dumps(record.identity))
        assert plain_json.pop("diagnostics")["name"] == "gradient"


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("truth=nothing", "truth=nothing: must be one of auto, expected, discrete"),
        ("repeats=1", "repeats=1: must be an integer >= 2"),
        ("truth=expected", "truth=expected: a layer has pre-activations of shape"),
    ],
)
def test_refused_before_any_work(tmp_path, typed, says):
    done = train(tmp_path, "estimator=logistic_st", "diagnostics=gradient", f"diagnostics.{typed}")
    assert done.returncode == 2
    assert f"train.py: diagnostics.{says}" in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 2
