"""What holds over all learning rates, from the study to everything that shows it, against scans."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace

import mlflow
import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir

from srste.launch.folders import register_resolvers
from srste.launch.job_config import Job
from srste.launch.job_runner import Folders, run_job
from srste.launch.job_values import job_values
from srste.report.chapters import chapters
from srste.report.conditions import conditions
from srste.report.legend import caveat, mark
from srste.report.page import Facts
from srste.report.report import write_report
from srste.report.table import csv_table, text_table
from srste.store import records
from srste.study.certificate import Certificate
from srste.study.study import run_study
from srste.tracking.run_contents import job_run, study_run
from tests import oracle
from tests.support import CONF, a_store, only, train

TINY = ["model.width=5", "data.features=4", "batch_size=30", "batches=1", "heldout=50", "tracking=none"]


def job(*overrides):
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return Job(job_values(compose("config", [*TINY, *overrides])))


def done(root, *overrides):
    """A job run in this process; {estimator: (folder, record)}."""
    this = job(*overrides)
    _, made = run_job(this, Folders(root, root / "job"))
    return this, {(r := records.read(path)).estimator: (path, r) for path in made}


def scan(problem, direction, bias, loss, lrs):
    """The loss at each of these learning rates, in plain float64 NumPy."""
    batch = problem.batch(1)
    student = oracle.network_of(problem.model.state_dict(), bias)
    step = oracle.network_of(direction, bias)
    x = batch.inputs.numpy().astype(np.float64)
    y = batch.targets.numpy()
    return np.array([loss(oracle.forward(oracle.step(student, step, t), x), y) for t in lrs])


LOSSES = {
    "squared_error": lambda out, y: np.mean((out - y) ** 2),
    "absolute_error": lambda out, y: np.mean(np.abs(out - y)),
    "logistic": lambda out, y: np.mean(np.log1p(np.exp(-y * out))),
    "cross_entropy": lambda out, y: np.mean(np.log(np.exp(out).sum(axis=1)) - out[np.arange(len(y)), y]),
}


def agrees(found, pre_loss, lrs, losses):
    """Holds a certificate against a scan of (0, lr_max]."""
    spacing = lrs[1] - lrs[0]
    tolerance = 1e-9 * pre_loss + found.error
    assert found.loss <= losses.min() + tolerance
    lower = losses < pre_loss - 1e-9 * pre_loss
    if not found.descends:
        assert not lower.any()
        assert (found.total, found.first, found.smallest, found.largest) == (0, None, None, None)
        return
    # Ranges that are narrower than the spacing escape a scan, so it finds no more than there are.
    runs = np.flatnonzero(np.diff(np.concatenate(([0], lower.astype(int)))) == 1)
    assert len(runs) <= found.intervals
    assert found.total == pytest.approx(lower.sum() * spacing, abs=found.intervals * spacing)
    for span in (found.first, found.smallest, found.largest):
        inside = (lrs > span.lo + 1e-6) & (lrs < span.hi - 1e-6)
        assert lower[inside].all()
        assert span.loss <= losses[inside].min(initial=np.inf) + tolerance
        assert found.loss <= span.loss + tolerance
    assert found.smallest.hi - found.smallest.lo <= found.largest.hi - found.largest.lo
    if lower.any():
        assert lrs[lower][0] >= found.first.lo - 1e-6


class TestStudies:
    @pytest.mark.parametrize("estimator", ["ste", "negative_ste", "random"])
    @pytest.mark.parametrize("seed", [0, 1, 2])
    def test_against_a_scan(self, estimator, seed):
        this = job(f"estimator={estimator}", f"seed={seed}", "sampling.step=1e-3")
        problem = this.problem()
        batch = problem.batch(1)
        study = run_study(problem, batch, this.estimator, 1, this.sampling, "s")
        lrs = np.arange(1, 4001) / 8000
        losses = scan(
            problem, this.estimator.direction(problem, batch, 1), False, LOSSES["squared_error"], lrs
        )
        agrees(study.certificate, study.trials.pre_loss, lrs, losses)
        assert study.certificate.regret == pytest.approx(
            study.best.post_loss - study.certificate.loss, abs=1e-12
        )
        if study.certificate.descends:
            can_be_had = study.trials.pre_loss - study.certificate.loss
            assert study.certificate.regret_fraction == study.certificate.regret / can_be_had

    def test_of_a_study_whose_trials_all_failed_there_is_none(self):
        this = job("sampling.step=0.1")
        problem = this.problem()
        with torch.no_grad():
            problem.model[0].weight[0, 0] = torch.nan
        study = run_study(problem, problem.batch(1), this.estimator, 1, this.sampling, "s")
        assert (study.certificate, study.not_exact, study.best) == (None, "", None)


class LastLayer:
    """A direction by hand: the last layer's gradient, times a factor. The loss along it is one parabola,
    A - 2 B t + C t^2."""

    stochastic = False

    def __init__(self, factor):
        self.factor = factor

    def direction(self, problem, batch, samples):
        found = {name: torch.zeros_like(p) for name, p in problem.model.named_parameters()}
        hidden, wrong = self._parts(problem, batch)
        last = list(found)[-1]
        found[last] = self.factor * (wrong.T @ hidden) / len(wrong)
        return found

    def parabola(self, problem, batch):
        hidden, wrong = (part.double() for part in self._parts(problem, batch))
        moved = hidden @ list(self.direction(problem, batch, 1).values())[-1].double().T
        return [float(part.mean()) for part in (wrong**2, wrong * moved, moved**2)]

    def _parts(self, problem, batch):
        with torch.no_grad():
            hidden = torch.nn.Sequential(*list(problem.model)[:-1])(batch.inputs)
            return hidden, problem.model[-1](hidden) - batch.targets


class TestTheSmallestGridPointIsTheBestAndWorseThanBefore:
    """The two cases that a grid alone cannot tell apart."""

    def found(self, factor):
        this = job("sampling.step=0.1", "heldout=0")
        problem = this.problem()
        batch, estimator = problem.batch(1), LastLayer(factor)
        study = run_study(problem, batch, estimator, 1, this.sampling, "s")
        assert study.best.lr == study.best.smallest_lr == 0.1
        assert study.best.post_loss > study.trials.pre_loss
        return study, estimator.parabola(problem, batch)

    def test_because_no_learning_rate_lowers_the_loss(self, tmp_path):
        study, (a, b, _) = self.found(-1.0)
        assert b < 0  # the parabola rises from 0 on
        assert study.certificate == Certificate(
            study.certificate.lr, study.trials.pre_loss, False, 0.0,
            study.best.post_loss - study.trials.pre_loss, None, 0, 0.0, None, None, None,
        )  # fmt: skip
        assert study.certificate.lr < 1e-300
        assert study.trials.pre_loss == pytest.approx(a)

    def test_because_the_grid_was_too_coarse(self):
        study, (a, b, c) = self.found(100.0)
        exact = study.certificate
        assert 2 * b / c < 0.1  # the loss is lower up to there
        assert (exact.intervals, exact.attained) == (1, True)
        assert exact.lr == pytest.approx(b / c, rel=1e-5)
        assert exact.loss == pytest.approx(a - b * b / c, rel=1e-5)
        assert (exact.first.lo, exact.first.hi) == (0, pytest.approx(2 * b / c, rel=1e-5))
        assert exact.first == exact.smallest == exact.largest
        assert exact.regret_fraction > 1

    @pytest.mark.parametrize("factor", [-1.0, 100.0])
    def test_the_table_tells_them_apart(self, factor, tmp_path):
        study, (_, b, c) = self.found(factor)
        _, those = done(tmp_path, "estimator=ste", "sampling.step=0.1")
        record = replace(
            those["ste"][1],
            best=study.best, certificate=study.certificate, pre_loss=study.trials.pre_loss,
        )  # fmt: skip
        arranged = conditions([record])
        shown = f"{study.best.post_loss:.4f}"[:5]
        assert re.search(rf"{shown}\d*{'!' if factor < 0 else re.escape('*')}", text_table(*arranged))
        legend = caveat(arranged)
        if factor < 0:
            assert "! no learning rate in (0, 0.5] lowers the loss: certified." in legend
            assert "of the decrease" not in legend
        else:
            (end,) = re.findall(r"^\* .* from 0 to (\S+) \(batch 1, STE\)\.$", legend, re.M)
            assert float(end) == pytest.approx(2 * b / c, rel=0.02)
            assert "at worst misses all of the decrease that can be had" in legend


@pytest.fixture(scope="module")
def each(tmp_path_factory):
    """A job of each loss, and of two losses with another model."""
    chosen = {
        (loss, model): ["model.out_features=2"] if loss == "cross_entropy" else []
        for loss, model in [*((loss, "mlp") for loss in LOSSES), ("squared_error", "residual"),
                            ("absolute_error", "residual")]
    }  # fmt: skip
    return {
        (loss, model): done(
            tmp_path_factory.mktemp(f"{loss}_{model}"),
            "estimator=sr_ste", "sampling.step=1e-2", f"loss={loss}", f"model={model}", *more,
        )
        for (loss, model), more in chosen.items()
    }  # fmt: skip


class TestLosses:
    @pytest.mark.parametrize("loss", LOSSES)
    def test_from_the_study_to_the_record_against_a_scan(self, each, loss):
        this, found = each[loss, "mlp"]
        problem = this.problem()
        direction = this.baseline.direction(problem, problem.batch(1), 1)
        record = found["ste"][1]
        assert record.identity["loss"]["name"] == loss
        lrs = np.arange(1, 2001) / 4000
        losses = scan(problem, direction, False, LOSSES[loss], lrs)
        pre_loss = scan(problem, direction, False, LOSSES[loss], [0.0])[0]
        assert record.pre_loss == pytest.approx(pre_loss, rel=1e-9)
        agrees(record.certificate, record.pre_loss, lrs, losses)
        trials = records.read_trials(found["ste"][0])
        np.testing.assert_allclose(
            trials.post_loss, scan(problem, direction, False, LOSSES[loss], trials.lr), rtol=1e-6
        )
        assert record.best.explained

    def test_conditions_name_loss_and_model_where_they_vary(self, each):
        of = [("absolute_error", "mlp"), ("absolute_error", "residual"), ("squared_error", "mlp"),
              ("squared_error", "residual")]  # fmt: skip
        arranged = conditions([r for key in of for _, r in each[key][1].values()])
        assert [c.label for c in arranged] == [f"loss={loss} model={model}" for loss, model in of]

    def test_figures_and_the_page_name_the_loss(self, each, tmp_path):
        of = [each[key][1] for key in (("logistic", "mlp"), ("absolute_error", "residual"))]
        found = {r.key: (path, r) for those in of for path, r in those.values()}
        said = chapters(conditions(record for _, record in found.values()))
        page = write_report(said, found, tmp_path / "report.html", Facts("x")).page.read_text()
        assert "minus loss of the first" not in page  # no test, of one network
        assert 'data-loss="mean absolute error or logistic loss"' in page
        assert "mean squared error" not in page
        assert page.count("In each of 2 studies with an exact loss curve a learning rate that was") == 2
        pictures = [p.read_text() for p in tmp_path.rglob("curves_*.svg")]
        for words in ("logistic loss", "mean absolute error"):
            assert sum(f"<!-- {words} -->" in picture for picture in pictures) == 1


def csv_rows(run):
    return list(csv.DictReader(io.StringIO(run.contents["studies.csv"])))


class TestMLflow:
    def test_a_study_s_run_has_the_certificate(self, each):
        path, record = each["squared_error", "mlp"][1]["sr_ste"]
        run = study_run(path, record)
        metrics = {m.key: m.value for m in run.metrics}
        of = record.certificate
        assert metrics["learning rate of the lowest loss"] == of.lr
        assert metrics["lowest loss at any learning rate"] == of.loss
        stored = json.loads(next(file for file in run.files if file.name == "record.json").read_bytes())
        assert stored["certificate"]["regret"] == of.regret
        assert stored["certificate"]["largest"]["hi"] == of.largest.hi
        assert (run.tags["curve"], run.tags["loss"], run.tags["model"]) == (
            "exact", "squared_error", "mlp",
        )  # fmt: skip
        assert (run.params["loss"], run.params["model"]) == ("squared_error", "mlp")

    def test_what_there_is_none_of_is_left_out(self, each):
        path, record = each["squared_error", "mlp"][1]["sr_ste"]
        bare = Certificate(5e-324, record.pre_loss, False, 0.0, 0.1, None, 0, 0.0, None, None, None)
        names = {m.key for m in study_run(path, replace(record, certificate=bare)).metrics}
        assert "learning rate of the lowest loss" in names
        run = study_run(path, replace(record, certificate=None, not_exact="why"))
        assert not [m.key for m in run.metrics if "lowest" in m.key]
        assert (run.tags["curve"], run.tags["not_exact"]) == ("evaluated", "why")

    def test_a_job_s_run_has_it_by_batch_and_on_the_average(self, each):
        path, record = each["squared_error", "mlp"][1]["sr_ste"]
        other = replace(record, identity=record.identity | {"batch": 2})
        other = replace(other, certificate=replace(record.certificate, regret=1.0, loss=0.5))
        run = job_run([(path, record), (path, other)])
        metrics = {(m.key, m.step): m.value for m in run.metrics}
        lowest = "lowest loss at any learning rate"
        assert metrics[f"batch/{lowest}", 1] == record.certificate.loss
        assert metrics[f"batch/{lowest}", 2] == 0.5
        assert metrics[lowest, 0] == pytest.approx((record.certificate.loss + 0.5) / 2)
        assert float(csv_rows(run)[1]["regret"]) == 1.0
        rows = csv_rows(run)
        assert float(rows[0]["descent_first_hi"]) == record.certificate.first.hi
        assert run.tags["curve"] == "exact"


class TestEvaluated:
    """A model whose loss curve has no exact form: forward passes, and nothing that is certain."""

    def test_a_sweep_with_a_sampler_and_its_report(self, tmp_path):
        a_store(tmp_path)
        ran = train(
            tmp_path, "-m", "model=batch_norm", "samples=1", "sampling=tpe", "sampling.n_trials=8",
            "batches=1", "batch_size=64", "model.width=8", "heldout=100",
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr
        said = ran.stdout + ran.stderr
        assert said.count("has no exact form, and is evaluated by forward passes") == 1
        assert re.search(r"The 8 learning rates of a study will take about [\d.]+ ", said)
        assert "The loss curve is evaluated by forward passes, and says nothing of" in ran.stdout
        assert "exact minimum" not in ran.stdout
        root = only(tmp_path / "multirun")
        rows = list(csv.DictReader((root / "results.csv").read_text().splitlines()))
        assert len(rows) == 2
        of_exact = [k for k in rows[0] if k.startswith(("exact", "regret", "descent", "attained"))]
        assert {row[key] for row in rows for key in [*of_exact, "heldout_best_loss"]} == {""}
        assert all(float(row["post_loss"]) > 0 < float(row["heldout_post_loss"]) for row in rows)
        page = (root / "report.html").read_text()
        assert "The loss curve is evaluated by forward passes" in page
        assert "normalises by the batch" in page
        assert "at the learning rate that is best there</th>" not in page
        assert "the loss after a step, against its learning rate" in page
        runs = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db").search_runs(["1"])
        studies = [run for run in runs if run.data.tags["kind"] == "study"]
        assert {run.data.tags["curve"] for run in studies} == {"evaluated"}
        assert all("normalises by the batch" in run.data.tags["not_exact"] for run in studies)
        assert all("held-out loss after the step" in run.data.metrics for run in studies)
        assert not [k for run in studies for k in run.data.metrics if "lowest" in k]

    def test_a_coarse_grid_and_its_table(self, tmp_path):
        _, found = done(tmp_path, "model=batch_norm", "sampling.step=0.05")
        (_, record) = found["sr_ste"]
        assert record.certificate is None
        assert record.trials == 10
        assert record.best.explained
        text = csv_table(conditions([record]))
        assert text.splitlines()[1].endswith("," * 13)
        raised = replace(record, best=replace(record.best, post_loss=record.pre_loss))
        assert mark(raised) == "*"
        legend = caveat(conditions([raised]))
        assert "* no learning rate that was tried lowers the loss." in legend
        assert "normalises by the batch" in legend
