"""The updated model on held-out data, against a float64 brute force."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from srste.curve import Line
from srste.study.heldout import evaluate_heldout, zero_loss
from srste.study.study import PROBED, run_study
from tests import oracle
from tests.test_estimators import job


def arrays(problem, direction, batch):
    network = oracle.network_of(problem.model.state_dict(), bias=False)
    step = oracle.network_of(direction, bias=False)
    return network, step, batch.inputs.double().numpy(), batch.targets.double().numpy()


def curve_of(problem, direction, batch):
    line = Line(problem.model, direction)
    return line.loss(batch.inputs, batch.targets, problem.loss, 0.5, problem.seed)


@pytest.mark.parametrize("estimator", ["ste", "sr_ste", "random"])
@pytest.mark.parametrize("seed", [0, 1])
def test_against_brute_force(estimator, seed):
    this = job(f"estimator={estimator}", f"seed={seed}", "sampling.step=1e-3")
    problem = this.problem()
    fresh = problem.heldout(500)
    direction = this.estimator.direction(problem, problem.batch(1), 1)
    heldout = evaluate_heldout(curve_of(problem, direction, fresh), problem, fresh, 0.125)
    network, step, x, y = arrays(problem, direction, fresh)
    assert heldout.examples == 500
    assert heldout.pre_loss == pytest.approx(oracle.loss(network, x, y), rel=1e-12)
    assert heldout.post_loss == pytest.approx(
        oracle.loss(oracle.step(network, step, 0.125), x, y), rel=1e-9
    )
    assert heldout.zero_loss == pytest.approx(np.mean(y**2), rel=1e-12)
    # No learning rate is better than the best, and the best is what it says.
    lrs = np.linspace(1e-4, 0.5, 800)
    assert heldout.best_loss <= oracle.brute_force(network, step, x, y, lrs).min() + 1e-12
    at_best = oracle.loss(oracle.step(network, step, heldout.best_lr), x, y)
    assert heldout.best_loss == pytest.approx(at_best, abs=2e-3)  # a unit may sit on its breakpoint
    if heldout.attained:
        near = [
            oracle.loss(oracle.step(network, step, heldout.best_lr + e), x, y) for e in (-1e-9, 1e-9)
        ]
        assert heldout.best_loss <= min(near) + 1e-9


def test_the_examples_are_nobody_else_s_and_the_same_for_all():
    problem = job("estimator=ste").problem()
    fresh = problem.heldout(40)
    assert torch.equal(fresh.inputs, problem.heldout(40).inputs)
    for batch in (1, 2):
        assert not torch.equal(fresh.inputs, problem.batch(batch).inputs)
    assert not torch.equal(fresh.inputs, job("estimator=ste", "seed=1").problem().heldout(40).inputs)


def test_a_study_measures_its_winner_there():
    this = job("estimator=sr_ste", "sampling.step=1e-3")
    problem = this.problem()
    batch, fresh = problem.batch(2), problem.heldout(300)
    study = run_study(
        problem, batch, this.estimator, 3, this.sampling, "s", heldout=fresh, baseline=this.baseline
    )
    direction = this.estimator.direction(problem, batch, 3)
    expected = evaluate_heldout(curve_of(problem, direction, fresh), problem, fresh, study.best.lr)
    assert study.heldout == expected
    network, step, x, y = arrays(problem, direction, batch)
    assert study.zero_loss == pytest.approx(np.mean(y**2), rel=1e-12) == zero_loss(problem, batch)
    assert study.probe.lr == PROBED * 0.5
    after = oracle.loss(oracle.step(network, step, study.probe.lr), x, y)
    assert study.probe.loss == pytest.approx(after, rel=1e-9)
    # The angle to STE, by the dot product.
    ste = this.baseline.direction(problem, batch, 1)
    one, other = (np.concatenate([t.double().flatten() for t in d.values()]) for d in (direction, ste))
    cosine = one @ other / np.linalg.norm(one) / np.linalg.norm(other)
    assert study.angles[""] == pytest.approx(np.degrees(np.arccos(cosine)), rel=1e-6)
    assert study.angles.keys() == {"", *direction}


def test_nothing_held_out_and_no_baseline():
    this = job("estimator=ste", "heldout=0", "sampling.step=1e-2")
    problem = this.problem()
    study = run_study(problem, problem.batch(1), this.estimator, 1, this.sampling, "s")
    assert study.heldout is None
    assert study.angles == {}
