"""Every alarm, with the fault that it is for planted, and without it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from srste.analysis.alarms import (
    DRIFT,
    MEANING,
    MISSED,
    NOT_MOVED,
    NOT_RESTORED,
    SAME_DRAWS,
    SAME_RESULT,
    SMALLEST,
    BestStep,
    alarms_in,
    drift,
)
from srste.estimators.base import mean, per_tensor
from srste.estimators.straight_through import StraightThrough
from srste.networks.rounding import Sign
from srste.networks.surrogates import Clipped
from srste.study.study import run_study
from tests.test_estimators import job


def study(problem, estimator, this, batch=1, samples=1):
    return run_study(problem, problem.batch(batch), estimator, samples, this.sampling, "s")


def steps(*overrides, counts=range(1, 8), batches=range(1, 6)):
    """The best steps of an estimator's studies, and its losses after a small step."""
    this = job("sampling.step=1e-4", "batch_size=300", "model.width=16", *overrides)
    problem, found = this.problem(), []
    for batch in batches:
        for n in counts:
            one = study(problem, this.estimator, this, batch, n)
            best, fixed = one.best, (one.probe.lr, one.probe.loss)
            found.append(
                BestStep(
                    batch, "s", n, one.trials.pre_loss, best.lr, best.post_loss, best.smallest_lr, fixed
                )
            )
    return found


def kinds(found):
    return {alarm.kind for alarm in alarms_in(found)}


class SignThatSaysItRounds(Sign):
    """The fault of a quantiser that is not the one that was asked for."""

    stochastic = True


class LeavesItsStep(StraightThrough):
    """The fault of weights that are moved and not put back."""

    def direction(self, problem, batch, samples):
        found = super().direction(problem, batch, samples)
        with torch.no_grad():
            for name, parameter in problem.model.named_parameters():
                parameter.sub_(0.1 * found[name])
        return found


class TestWhileAStudyRuns:
    def test_clean_ones_are_silent(self):
        for name in ("ste", "sr_ste", "tilted_ste", "same_angle", "random", "negative_ste"):
            this = job(f"estimator={name}")
            assert study(this.problem(), this.estimator, this, samples=3).alarms == {}

    @pytest.mark.parametrize("samples", [1, 4])
    def test_draws_that_are_none(self, samples, caplog):
        this = job("estimator=sr_ste")
        fault = StraightThrough(SignThatSaysItRounds(), Clipped(), mean, per_tensor)
        assert study(this.problem(), fault, this, samples=samples).alarms == {
            SAME_DRAWS: "other draws, same direction"
        }
        assert "alarm: same draws" in caplog.text

    def test_weights_that_are_not_put_back(self, caplog):
        this = job("estimator=ste")
        problem = this.problem()
        before = {k: v.clone() for k, v in problem.model.state_dict().items()}
        fault = LeavesItsStep(Sign(), Clipped(), mean, per_tensor)
        clean = study(problem, this.estimator, this)
        assert study(problem, fault, this).alarms == {NOT_RESTORED: "put back afterwards"}
        assert "alarm: weights not restored" in caplog.text
        # And the next study is not spoilt by it.
        assert all(torch.equal(before[k], v) for k, v in problem.model.state_dict().items())
        assert study(problem, this.estimator, this).best == clean.best


class TestDrift:
    def test_gradients_that_are_never_zeroed(self):
        for seed in range(2):
            found = steps("estimator=never_zeroed", "estimator.most=7", f"seed={seed}")
            assert DRIFT in kinds(found)
            seen = drift(found)
            assert (seen.down, seen.steps) == (30, 30)
            assert seen.r_squared > 0.95

    @pytest.mark.parametrize("draws", ["nested", "independent"])
    @pytest.mark.parametrize("estimator", ["sr_ste", "same_angle"])
    def test_clean_ones_do_not(self, estimator, draws):
        for seed in range(2):
            found = steps(f"estimator={estimator}", f"estimator.draws={draws}", f"seed={seed}")
            assert DRIFT not in kinds(found)

    def synthetic(self, loss):
        counts = np.arange(1, 11)
        return [
            BestStep(b, "s", int(n), 1.0, 0.1, x := loss(n) + b, 1e-4, (0.1, x))
            for b in range(1, 6)
            for n in counts
        ]

    def test_the_form_and_not_the_fall_alone(self):
        assert drift(self.synthetic(lambda n: -n * (n + 1) / 2)).alarming
        assert drift(self.synthetic(lambda n: n * (n + 1) / 2)).alarming  # up is as bad
        # What more samples do to honest estimators: less and less.
        assert not drift(self.synthetic(lambda n: 1.0 / n)).alarming
        generator = np.random.default_rng(0)
        assert not drift(self.synthetic(lambda n: generator.normal())).alarming

    def test_only_at_a_learning_rate_that_stays(self):
        found = [
            s._replace(fixed=(0.1 * s.samples, s.post_loss)) for s in self.synthetic(lambda n: -n * n)
        ]
        assert drift(found).steps == 0
        assert DRIFT not in kinds(found)
        assert drift([]).p_value == 1


class TestInSeveralStudies:
    def base(self):
        return [
            BestStep(1, "STE", None, 0.7, 0.2, 0.4, 1e-5, None),
            BestStep(1, "sr-STE", 1, 0.7, 0.3, 0.39, 1e-5, None),
            BestStep(1, "sr-STE", 2, 0.7, 0.31, 0.38, 1e-5, None),
        ]

    def test_nothing_is_nothing(self):
        assert alarms_in(self.base()) == []
        assert alarms_in([]) == []

    def test_a_loss_before_that_changes(self):
        rounded = [*self.base(), BestStep(1, "sr-STE", 3, 0.7000000000000001, 0.3, 0.37, 1e-5, None)]
        assert alarms_in(rounded) == []
        spoilt = [*self.base(), BestStep(1, "sr-STE", 3, 0.7000001, 0.3, 0.37, 1e-5, None)]
        (alarm,) = alarms_in(spoilt)
        assert (alarm.kind, alarm.where) == (NOT_RESTORED, "batch 1")
        assert "0.7 to 0.7000001" in alarm.detail

    def test_sample_counts_that_give_the_same(self):
        spoilt = [*self.base(), BestStep(1, "sr-STE", 7, 0.7, 0.31, 0.38, 1e-5, None)]
        (alarm,) = alarms_in(spoilt)
        assert alarm.kind == SAME_RESULT
        assert "N = 2, 7" in alarm.detail

    def test_the_smallest_grid_point(self):
        spoilt = [*self.base(), BestStep(2, "sr-STE", 3, 0.7, 1e-5, 0.71, 1e-5, None)]
        (alarm,) = alarms_in(spoilt)
        assert (alarm.kind, alarm.where) == (SMALLEST, "sr-STE N=3 batch 2")
        assert alarm.detail.endswith("not below the 0.7 before")
        for descends, words in (
            (True, "others lower it: the grid is too coarse"),
            (False, "none lowers it"),
        ):
            known = [*self.base(), spoilt[-1]._replace(descends=descends)]
            assert alarms_in(known)[0].detail.endswith(f"before; {words}")

    def test_a_search_that_misses_what_can_be_had(self):
        near, far, beyond = (self.base()[1]._replace(missed=part) for part in (0.01, 0.052, 1.3))
        assert alarms_in([near, self.base()[0]._replace(missed=None)]) == []
        (alarm,) = alarms_in([far])
        assert (alarm.kind, alarm.where) == (MISSED, "sr-STE N=1 batch 1")
        assert "misses 5.2 % of the decrease from 0.7 that can be had" in alarm.detail
        assert "misses all of" in alarms_in([beyond])[0].detail

    def test_every_kind_has_its_meaning(self):
        assert set(MEANING) == {
            DRIFT,
            SAME_DRAWS,
            SAME_RESULT,
            SMALLEST,
            MISSED,
            NOT_RESTORED,
            NOT_MOVED,
        }
