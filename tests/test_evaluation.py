"""The loss with drawn units: by hand in NumPy, and where a launch puts it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from srste import api
from srste.curve import Line
from srste.estimators.expected_loss import expected_loss
from srste.losses import SquaredError
from srste.networks.activations import BinaryActivation
from srste.networks.rounding import Sign, StochasticRounding
from srste.networks.units import Logistic
from srste.problem.task import OneBatch
from srste.store import records
from srste.study.evaluation import StochasticEvaluation
from tests import oracle
from tests.support import SMALL, train


def case(seed=0, examples=60):
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Linear(4, 5), BinaryActivation(), nn.Linear(5, 3), BinaryActivation(), nn.Linear(3, 1)
    ).double()
    x, y = torch.randn(examples, 4).double(), torch.randn(examples, 1).double()
    task = OneBatch(model, SquaredError(), x, y, seed)
    direction = api.part("estimator", "sr_ste").direction(task, task.batch(1), 2)
    return task, Line(model, direction)


def by_hand(task, line, lr, purpose, draws):
    """The loss of each draw of stochastic rounding, after a step."""
    network = oracle.network_of(task.model.state_dict(), bias=True)
    network = oracle.step(network, oracle.network_of(line.direction, bias=True), lr)
    losses = []
    for draw in range(1, draws + 1):
        generator = oracle.named_stream(task.seed, "evaluation", purpose, "batch", 1, "draw", draw)
        binarise, h = oracle.stochastic_rounding(generator), task.inputs.numpy()
        for w, b in network[:-1]:
            h = binarise(h @ w.T + b)
        w, b = network[-1]
        losses.append(np.mean((h @ w.T + b - task.targets.numpy()) ** 2))
    return losses


@pytest.mark.parametrize("seed", range(3))
def test_the_losses_and_the_choice_by_hand(seed):
    task, line = case(seed)
    draws, rates, lr_max = 4, 7, 1.5
    loss = StochasticEvaluation(StochasticRounding(), draws, rates).of(line, task, task.batch(1), lr_max)
    lrs = [lr_max * (k / rates) ** 2 for k in range(1, rates + 1)]
    chosen = min(lrs, key=lambda lr: np.mean(by_hand(task, line, lr, "choice", draws)))
    assert loss.lr == pytest.approx(chosen, rel=1e-15)
    before, after = (by_hand(task, line, lr, "measured", draws) for lr in (0.0, chosen))
    assert loss.pre_loss == pytest.approx(np.mean(before), rel=1e-12)
    assert loss.post_loss == pytest.approx(np.mean(after), rel=1e-12)
    errors = [np.std(losses, ddof=1) / 2 for losses in (before, after)]
    assert (loss.pre_error, loss.post_error) == pytest.approx(errors, rel=1e-9)
    assert (loss.units, loss.draws) == ("StochasticRounding", 4)


def test_it_is_the_expected_loss_within_its_error():
    task, line = case()
    loss = StochasticEvaluation(Logistic(), 400, 2).of(line, task, task.batch(1), 0.5)
    before, after = (0.0, loss.pre_loss, loss.pre_error), (loss.lr, loss.post_loss, loss.post_error)
    for lr, measured, error in (before, after):
        exact = expected_loss(line.at(lr), Logistic(), task.loss, task.inputs, task.targets)
        assert measured == pytest.approx(float(exact.detach()), abs=5 * error)
        assert 0 < error < 0.05


def test_a_loss_that_is_not_finite_is_none():
    task, line = case()
    nowhere = OneBatch(task.model, lambda o, t: o.mean() * np.nan, task.inputs, task.targets, 0)
    assert StochasticEvaluation(Logistic(), 2, 3).of(line, nowhere, task.batch(1), 0.5) is None


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            (Sign(),),
            r"\(quantiser=Sign\)` must be one of logistic, hard_sigmoid, triangular, stochastic",
        ),
        ((Logistic(), 1), r"\(draws=1\)` must be an integer >= 2"),
        ((Logistic(), 2, 0), r"\(rates=0\)` must be an integer >= 1"),
    ],
)
def test_bad_arguments(arguments, says):
    with pytest.raises(ValueError, match=says):
        StochasticEvaluation(*arguments)


@pytest.fixture(scope="module")
def launched(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluated")
    done = train(
        folder, "-m", "estimator=sr_ste", "samples=1,3", "evaluation=stochastic", "evaluation.draws=3",
        "evaluation.rates=8", "seed=0,1,2,3,4,5", "tracking=none",
        *[word for word in SMALL if word != "report=false"],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (launch,) = (folder / "multirun").iterdir()
    return launch


def test_records_claims_and_page_have_it(launched):
    stored = [record for _, record in records.find(launched)]
    losses = {(r.estimator, r.samples, r.identity["seed"], r.batch): r.drawn for r in stored}
    gains = [
        np.mean([losses["ste", None, seed, b].post_loss - losses["sr_ste", 3, seed, b].post_loss
                 for b in (1, 2)])
        for seed in range(6)
    ]  # fmt: skip
    table = pd.read_csv(launched / "report" / "verdicts.csv")
    of = table[(table["first"] == "sr-STE") & (table.second == "STE") & (table.measure == "units drawn")]
    (row,) = of[(of.rule == "each") & (of.samples == 3)].itertuples()
    assert row.gain == pytest.approx(np.mean(gains), rel=1e-12)
    assert "with its units drawn" in (launched / "report.html").read_text()
    results = pd.read_csv(launched / "results.csv")
    assert results["drawn_post_loss"].notna().all()


def test_the_loss_before_is_the_same_for_all(launched):
    """The same draws, so that estimators are compared on the same noise."""
    before = {}
    for _, record in records.find(launched):
        place = record.identity["seed"], record.batch
        before.setdefault(place, set()).add(record.drawn.pre_loss)
    assert all(len(losses) == 1 for losses in before.values())


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("evaluation.draws=1", "evaluation.draws=1: must be an integer >= 2"),
        ("estimator/quantiser@evaluation.quantiser=sign", "must be one of logistic, hard_sigmoid"),
    ],
)
def test_refused_before_any_work(tmp_path, typed, says):
    done = train(tmp_path, "estimator=sr_ste", "evaluation=stochastic", typed)
    assert done.returncode == 2
    assert says in done.stderr


def test_what_the_model_draws_itself_is_the_same_for_every_learning_rate():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.Dropout(0.5), BinaryActivation(), nn.Linear(5, 1))
    task = OneBatch(model, SquaredError(), torch.randn(60, 4), torch.randn(60, 1), 0)
    line = Line(model, {n: torch.ones_like(p) for n, p in model.named_parameters()})
    state = torch.get_rng_state()
    one, again = (
        StochasticEvaluation(Logistic(), 3, 4).of(line, task, task.batch(1), 0.5) for _ in range(2)
    )
    assert one == again
    assert torch.equal(torch.get_rng_state(), state)


def test_a_loss_that_is_infinite_for_some_draws_is_none():
    task, line = case()
    calls = iter(range(10**6))
    infinite = OneBatch(
        task.model, lambda o, t: o.mean() * (float("inf") if next(calls) > 20 else 1), task.inputs,
        task.targets, 0,
    )  # fmt: skip
    assert StochasticEvaluation(Logistic(), 4, 5).of(line, infinite, task.batch(1), 0.5) is None
