"""One small fixed problem from the weights to the winning learning rate, held against NumPy."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import nn

from srste.launch.folders import register_resolvers
from srste.launch.job_config import Job
from srste.launch.job_values import job_values
from srste.networks.activations import BinaryActivation
from srste.networks.models.mlp import MLP
from srste.study.study import run_study
from tests import oracle
from tests.lines import loss_curve, replayed
from tests.support import CONF

SMALL = ["model.width=5", "model.depth=2", "data.features=4", "batch_size=30"]


def job(*overrides):
    step = [] if any(o.startswith("sampling=") for o in overrides) else ["sampling.step=1e-3"]
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return Job(job_values(compose("config", [*SMALL, *step, *overrides])))


@pytest.mark.parametrize("estimator", ["ste", "sr_ste"])
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("bias", [False, True])
def test_against_numpy_from_the_weights_to_the_winner(estimator, seed, bias):
    this = job(f"estimator={estimator}", f"seed={seed}", "samples=2", f"model.bias={bias}")
    problem = this.problem()
    batch = problem.batch(1)
    study = run_study(problem, batch, this.estimator, 2, this.sampling, "s")
    trials, best = study.trials, study.best
    assert best is not None

    # The same, from the initial weights and the named streams alone.
    student = oracle.network_of(problem.model.state_dict(), bias)
    teacher = oracle.network_of(problem.source.teacher.state_dict(), bias)
    generator = oracle.named_stream(seed, "batch", 1)
    x = generator.standard_normal((30, 4), dtype=np.float32).astype(np.float64)
    y = oracle.forward(teacher, x)
    if estimator == "ste":
        gradients = [oracle.backward(student, x, y, oracle.sign)]
    else:
        gradients = [
            oracle.backward(
                student,
                x,
                y,
                oracle.stochastic_rounding(
                    oracle.named_stream(seed, "rounding", "batch", 1, "sample", i)
                ),
            )
            for i in (1, 2)
        ]
    mean = [
        (np.mean([g[k][0] for g in gradients], 0), np.mean([g[k][1] for g in gradients], 0))
        for k in range(len(student))
    ]
    direction = [(dw, db if bias else 0 * db) for dw, db in oracle.per_tensor(mean)]
    lrs = np.arange(1, 501) / 1000
    losses = oracle.brute_force(student, direction, x, y, lrs)

    # The direction is float32 in the package: its rounding, 1e-7 of its unit norm, moves breakpoints
    # by as much, so a few of the 500 learning rates may lie on the other side of one.
    assert trials.pre_loss == pytest.approx(oracle.loss(student, x, y), rel=1e-6)
    np.testing.assert_array_equal(trials.lr, lrs)
    assert np.mean(np.abs(trials.post_loss - losses) > 1e-5) <= 0.01
    assert best.lr == lrs[np.argmin(losses)]
    assert best.post_loss == pytest.approx(losses.min(), rel=1e-5)
    assert best.replayed_post_loss == pytest.approx(losses.min(), rel=1e-5)


def test_a_direction_that_is_not_finite_fails_the_trials_and_not_the_study(caplog):
    class Spoilt:
        stochastic = False

        def direction(self, problem, batch, samples):
            return {n: torch.full_like(p, torch.nan) for n, p in problem.model.named_parameters()}

    this = job()
    problem = this.problem()
    study = run_study(problem, problem.batch(1), Spoilt(), 1, this.sampling, "s")
    trials, best = study.trials, study.best
    assert best is None
    assert trials.failed.all()
    assert np.isfinite(trials.pre_loss)
    assert "not finite in 0.weight, 2.weight, 4.weight: all trials fail" in caplog.text


def test_weights_that_are_not_finite_fail_the_trials_and_not_the_study(caplog):
    this = job()
    problem = this.problem()
    with torch.no_grad():
        problem.model[2].weight[0, 0] = torch.inf
    study = run_study(problem, problem.batch(1), this.estimator, 1, this.sampling, "s")
    trials, best = study.trials, study.best
    assert best is None
    assert trials.failed.all()
    assert "weights are not finite in 2.weight: all trials fail" in caplog.text


def test_the_sampler_s_seed_is_the_study_s_own():
    this = job("sampling=random", "sampling.n_trials=5")
    problem = this.problem()
    found = {
        tuple(run_study(problem, problem.batch(b), this.estimator, n, this.sampling, name).trials.lr)
        for b, n, name in ((1, 1, "x"), (1, 2, "x"), (2, 1, "x"), (1, 1, "y"))
    }
    assert len(found) == 4


def test_batches_differ_and_so_do_networks():
    problem, other = job().problem(), job("seed=1").problem()
    assert not torch.equal(problem.batch(1).inputs, problem.batch(2).inputs)
    assert torch.equal(problem.batch(2).inputs, problem.batch(2).inputs)
    assert not torch.equal(problem.batch(1).inputs, other.batch(1).inputs)
    assert not torch.equal(problem.model[0].weight, other.model[0].weight)
    assert not torch.equal(problem.model[0].weight, problem.source.teacher[0].weight)


class WrongSign(BinaryActivation):
    def forward(self, a):
        return -super().forward(a)


class TestReplay:
    def case(self, seed=0, n=400):
        torch.manual_seed(seed)
        model, teacher = MLP(16, 16, 3, 1), MLP(16, 16, 3, 1)
        x = torch.randn(n, 16)
        direction = {n: torch.randn_like(p) for n, p in model.named_parameters()}
        return model, {k: v / v.norm() for k, v in direction.items()}, x, teacher(x).detach()

    def test_it_is_a_real_step_of_the_real_model(self):
        model, direction, x, y = self.case()
        found = replayed(model, direction, x, y, 0.125, loss_curve(model, direction, x, y)(0.125))
        stepped = MLP(16, 16, 3, 1)
        stepped.load_state_dict({k: v - 0.125 * direction[k] for k, v in model.state_dict().items()})
        with torch.no_grad():
            expected = float(((stepped(x) - y).double() ** 2).mean())
            before = float(((model(x) - y).double() ** 2).mean())
        assert found.pre_loss == pytest.approx(before, rel=1e-7)
        assert found.post_loss == pytest.approx(expected, rel=1e-7)
        assert found.explained
        assert found.on_the_fence < 40

    @pytest.mark.parametrize("seed", range(5))
    def test_rounding_explains_every_honest_difference(self, seed):
        model, direction, x, y = self.case(seed)
        curve = loss_curve(model, direction, x, y)
        for lr in np.linspace(0, 0.5, 23):
            assert replayed(model, direction, x, y, float(lr), float(curve(lr))).explained

    def test_at_a_breakpoint_itself_either_side_is_explained(self):
        model, direction, x, y = self.case()
        curve = loss_curve(model, direction, x, y)
        for lr in curve.breakpoints[::40]:
            for side in (lr * (1 - 1e-12), lr, lr * (1 + 1e-12)):
                assert replayed(model, direction, x, y, float(lr), float(curve(side))).explained

    @pytest.mark.parametrize("off", [1e-6, -1e-6, 0.05])
    def test_a_curve_that_is_wrong_is_not_explained(self, off):
        model, direction, x, y = self.case()
        right = float(loss_curve(model, direction, x, y)(0.1))
        assert replayed(model, direction, x, y, 0.1, right).explained
        assert not replayed(model, direction, x, y, 0.1, right + off).explained

    @pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
    def test_what_rounding_may_explain_grows_with_the_loss(self, size):
        model, direction, x, y = self.case()
        y = size * y + size
        right = float(loss_curve(model, direction, x, y)(0.1))
        scale = max(right, float((y.abs().double() ** 2).mean()))
        assert replayed(model, direction, x, y, 0.1, right + 1e-14 * scale).explained
        assert not replayed(model, direction, x, y, 0.1, right + 1e-9 * scale + 1e-9).explained

    def test_an_undecided_example_explains_its_share_and_no_more(self):
        """One example of a hundred is on the threshold: its loss is at most (|output| + |target|)²."""
        model = nn.Sequential(nn.Linear(1, 1, False), BinaryActivation(), nn.Linear(1, 1, False))
        with torch.no_grad():
            model[0].weight.fill_(1.0)
            model[2].weight.fill_(0.5)
        still = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
        x, y = torch.ones(100, 1), torch.ones(100, 1)
        x[0] = 0
        right = float(loss_curve(model, still, x, y)(0.25))
        share = (0.5 + 1) ** 2 / 100
        for off, explained in ((0.9 * share, True), (-0.9 * share, True), (1.1 * share, False)):
            found = replayed(model, still, x, y, 0.25, right + off)
            assert (found.explained, found.on_the_fence) == (explained, 1)

    def test_a_model_that_computes_something_else_is_not_explained(self):
        model, direction, x, y = self.case()
        right = float(loss_curve(model, direction, x, y)(0.1))
        model[3] = WrongSign()
        assert not replayed(model, direction, x, y, 0.1, right).explained

    def test_a_learning_rate_beyond_float32_is_no_exception(self):
        model, direction, x, y = self.case()
        found = replayed(model, direction, x, y, 1e300, 1.0)
        assert not np.isfinite(found.post_loss)
        assert not found.explained

    def test_an_unexplained_difference_is_a_warning(self, caplog, monkeypatch):
        def off(line, inputs, targets, *rest):
            return line.exact_loss(inputs, targets + 0.05, *rest[:2])

        monkeypatch.setattr("srste.study.study.Line.loss", off)
        this = job()
        problem = this.problem()
        with caplog.at_level(logging.WARNING):
            best = run_study(problem, problem.batch(1), this.estimator, 1, this.sampling, "x").best
        assert best is not None
        assert not best.explained
        assert "x samples 1 batch 1: the real update gives a loss of" in caplog.text
        assert "rounding at a breakpoint does not explain the difference" in caplog.text
