"""The grid, its trials as a real Optuna study, and every sampler of conf/sampling."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import partial

import numpy as np
import optuna
import pytest
from hydra import compose, initialize_config_dir
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState

from srste.launch.folders import register_resolvers
from srste.launch.job_config import build
from srste.sampling.grid import Grid
from srste.sampling.searched import Searched
from tests.support import CONF, choices


def bowl(lrs):
    return (np.asarray(lrs) - 0.2) ** 2


def partly_infinite(lrs):
    lrs = np.asarray(lrs, dtype=float)
    return np.where(lrs > 0.3, np.inf, np.where(lrs < 0.001, np.nan, bowl(lrs)))


def sampling(name, *overrides):
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return build(compose("config", [f"sampling={name}", *overrides]).sampling)


def studied(this, losses, name="s"):
    """An Optuna study of a sampling, and its trials as columns."""
    trials = this.run(losses, 1.0, 0)
    return trials.to_optuna(name), trials


@pytest.mark.parametrize("name", choices("sampling"))
class TestContract:
    """A new sampling's YAML is enough to be tested here."""

    def make(self, name):
        shrink = ["sampling.step=0.01"] if name == "grid" else ["sampling.n_trials=12"]
        return sampling(name, *shrink)

    def test_a_finished_study_and_its_columns_agree(self, name):
        this = self.make(name)
        study, trials = studied(this, bowl)
        assert isinstance(study, optuna.Study)
        assert study.study_name == "s"
        assert len(study.trials) == len(trials) == this.trials
        assert trials.pre_loss == 1.0
        for trial, lr, post_loss in zip(study.trials, trials.lr, trials.post_loss, strict=True):
            assert trial.state == TrialState.COMPLETE
            assert trial.params == {"lr": lr}
            assert trial.value == post_loss == bowl(lr)
            assert trial.user_attrs == {"pre_loss": 1.0, "post_loss": post_loss}
            assert 0 < lr <= this.lr_max
            assert trial.distributions["lr"] == trials.distribution
        assert study.best_trial.number == trials.best()
        assert study.best_value == trials.post_loss.min()

    def test_reproducible_from_the_seed(self, name):
        one, two = (self.make(name).run(bowl, 1.0, 3) for _ in range(2))
        np.testing.assert_array_equal(one.lr, two.lr)

    def test_a_loss_that_is_not_finite_fails_its_trial_and_not_the_study(self, name):
        study, trials = studied(self.make(name), partly_infinite)
        for trial, lr in zip(study.trials, trials.lr, strict=True):
            if np.isfinite(partly_infinite(lr)):
                assert trial.state == TrialState.COMPLETE
            else:
                assert trial.state == TrialState.FAIL
                assert trial.value is None
                loss = float(partly_infinite(lr))
                assert trial.user_attrs["reason"] == f"loss after the update is {loss}, not finite"
        assert trials.failed.tolist() == [t.state == TrialState.FAIL for t in study.trials]

    def test_all_failed(self, name):
        study, trials = studied(self.make(name), lambda lrs: np.full(np.shape(lrs), np.nan))
        assert trials.best() is None
        with pytest.raises(ValueError, match="No trials are completed yet"):
            _ = study.best_trial


class TestGrid:
    def test_every_hundred_thousandth_up_to_one_half(self):
        lrs = Grid().learning_rates()
        assert len(lrs) == 50_000
        assert lrs.tolist() == [k / 100_000 for k in range(1, 50_001)]

    @settings(max_examples=200)
    @given(
        step=st.decimals("0.00001", "0.3", places=5, allow_nan=False),
        lr_max=st.decimals("0.3", "3", places=4, allow_nan=False),
    )
    def test_points_are_the_nearest_floats_to_the_multiples(self, step, lr_max):
        grid = Grid(lr_max=float(lr_max), step=float(step))
        lrs = grid.learning_rates()
        assert len(lrs) == grid.trials == int(Fraction(lr_max) / Fraction(step))
        for k in {1, len(lrs) // 2, len(lrs)} - {0}:
            assert lrs[k - 1] == float(k * Fraction(step))
        assert lrs[-1] <= float(lr_max)

    def test_steps_of_many_digits(self):
        # Products and denominators beyond what a float holds: a division of floats would round twice.
        for step in (0.00012345678901234567, 1.2345678901234567e-3, 0.4999999999999999):
            lrs = Grid(lr_max=0.5, step=step).learning_rates()
            exact = Fraction(str(step))
            assert lrs.tolist() == [float(k * exact) for k in range(1, int(Fraction("0.5") / exact) + 1)]

    def test_one_step_is_enough(self):
        assert Grid(lr_max=0.5, step=0.5).learning_rates().tolist() == [0.5]

    def test_optuna_is_told_which_learning_rates_there_are(self):
        study, trials = studied(Grid(lr_max=0.5, step=0.125), bowl)
        distribution = optuna.distributions.FloatDistribution(0.125, 0.5, step=0.125)
        assert trials.distribution == distribution
        assert study.trials[0].distributions == {"lr": distribution}

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            ({"lr_max": 0}, r"`Grid\(lr_max=0\)` must be > 0"),
            ({"lr_max": math.nan}, "must be > 0"),
            ({"step": -1e-5}, r"`Grid\(step=-1e-05\)` must be > 0"),
            ({"step": 0.6}, r"must be at most lr_max=0\.5"),
            ({"step": 4e-8}, "gives 12,500,000 points, more than 10,000,000"),
        ],
    )
    def test_refused(self, arguments, says):
        with pytest.raises(ValueError, match=says):
            Grid(**arguments)

    def test_ten_million_points_are_allowed(self):
        assert Grid(lr_max=1.0, step=1e-7).trials == 10_000_000


class TestSearched:
    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            ({"n_trials": 0}, r"`Searched\(n_trials=0\)` must be an integer >= 1"),
            ({"n_trials": 1.5}, "must be an integer"),
            ({"lr_max": 0}, r"`Searched\(lr_max=0\)` must be > 0"),
            ({"lr_max": math.inf}, r"`Searched\(lr_max=inf\)` must be > 0"),
            ({"lr_min": 0}, "must be > 0 and below"),
            ({"lr_min": 0.5}, r"below lr_max=0\.5"),
            ({"step": 0.1}, r"`Searched\(step=0\.1\)` must be null where log is true"),
        ],
    )
    def test_refused(self, arguments, says):
        with pytest.raises(ValueError, match=says):
            Searched(optuna.samplers.RandomSampler, **arguments)

    def test_one_trial_on_the_scale_that_was_asked_for(self):
        for log in (True, False):
            this = Searched(optuna.samplers.RandomSampler, n_trials=1, lr_min=0.1, lr_max=0.4, log=log)
            study, trials = studied(this, bowl)
            assert len(study.trials) == len(trials) == this.trials == 1
            assert trials.distribution == optuna.distributions.FloatDistribution(0.1, 0.4, log=log)

    def test_tpe_finds_the_bowl(self):
        study, _ = studied(sampling("tpe"), bowl)
        assert study.best_params["lr"] == pytest.approx(0.2, abs=0.02)

    @pytest.mark.parametrize("name", [name for name in choices("sampling") if name != "grid"])
    @pytest.mark.parametrize("log", ["true", "false"])
    def test_a_short_study_is_the_start_of_a_longer_one(self, name, log):
        short, long = (
            sampling(name, f"sampling.n_trials={n}", f"sampling.log={log}").run(bowl, 1.0, 0)
            for n in (13, 24)
        )
        np.testing.assert_array_equal(long.lr[:13], short.lr)

    @pytest.mark.parametrize(
        ("sampler", "arguments", "tried"),
        [
            (optuna.samplers.BruteForceSampler, {"log": False, "lr_min": 0.1, "step": 0.1}, 5),
            (partial(optuna.samplers.GridSampler, {"lr": [0.1, 0.2, 0.4]}), {}, 3),
            (optuna.samplers.NSGAIISampler, {}, 8),
            (
                partial(
                    optuna.samplers.PartialFixedSampler,
                    {"lr": 0.3},
                    optuna.samplers.RandomSampler(seed=0),
                ),
                {},
                8,
            ),
        ],
    )
    def test_samplers_that_are_finite_or_take_no_seed(self, sampler, arguments, tried):
        study, trials = studied(Searched(sampler, n_trials=8, **arguments), bowl)
        assert len(study.trials) == len(trials) == tried
        assert study.best_value == trials.post_loss.min()

    def test_the_smallest_learning_rate_wins_a_tie(self):
        this = sampling("random", "sampling.n_trials=30")
        trials = this.run(lambda lrs: np.zeros(np.shape(lrs)), 1.0, 0)
        assert trials.lr[trials.best()] == trials.lr.min()


class TestToOptuna:
    """The trials of a grid as a study of Optuna's."""

    @pytest.fixture
    def few(self):
        return studied(Grid(step=1e-3), bowl, "few")[0]

    def test_the_smallest_learning_rate_wins_a_tie(self):
        study, _ = studied(Grid(step=0.01), lambda lrs: np.abs(lrs - 0.205).round(6), "tie")
        assert study.best_params["lr"] == 0.2

    def test_trials_dataframe(self, few):
        frame = few.trials_dataframe()
        np.testing.assert_array_equal(frame["number"], np.arange(500))
        np.testing.assert_array_equal(frame["params_lr"], np.arange(1, 501) / 1_000)
        losses = frame["value_loss after the step"]
        np.testing.assert_array_equal(losses, bowl(frame["params_lr"]))
        np.testing.assert_array_equal(frame["user_attrs_post_loss"], losses)
        assert (frame["user_attrs_pre_loss"] == 1.0).all()
        assert set(frame["state"]) == {"COMPLETE"}

    def test_plots(self, few):
        figure = optuna.visualization.plot_slice(few)
        assert len(figure.data[0].x) == 500

    def test_failed_trials_say_why(self):
        study, trials = studied(Grid(step=0.05), partly_infinite, "failing")
        states = [trial.state == TrialState.FAIL for trial in study.trials]
        assert states == list(trials.failed)
        assert any(states)
        reasons = {t.user_attrs["reason"] for t in study.get_trials(states=(TrialState.FAIL,))}
        assert reasons == {"loss after the update is inf, not finite"}

    def test_more_trials_can_be_added(self):
        few, _ = studied(Grid(step=0.05), bowl, "few")
        few.enqueue_trial({"lr": 0.3})
        few.optimize(lambda t: t.suggest_float("lr", 0.05, 0.5, step=0.05) - 1, n_trials=2)
        assert [t.number for t in few.trials[-2:]] == [10, 11]
        assert few.best_value < -0.6
