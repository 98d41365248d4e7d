"""Samples weighted by their own decrease of the loss: weights by hand, decreases by brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from srste import api
from srste.estimators.by_decrease import best, leave_one_out, softmax
from srste.losses import SquaredError
from srste.networks.activations import BinaryActivation
from srste.problem.task import OneBatch
from tests import oracle

WEIGHTINGS = {"best": best, "softmax": softmax, "leave_one_out": leave_one_out}
DECREASES = st.lists(st.floats(0, 1e3, width=32), min_size=1, max_size=12).map(np.array)


@pytest.mark.parametrize("name", WEIGHTINGS)
@given(decreases=DECREASES)
def test_weights_are_a_mean_that_favours_the_larger(name, decreases):
    weights = WEIGHTINGS[name](decreases)
    assert weights.shape == decreases.shape
    assert (weights >= 0).all()
    assert weights.sum() == pytest.approx(1, rel=1e-12)
    assert weights[np.argmax(decreases)] == weights.max()
    order = np.argsort(decreases)
    if name != "best":
        assert (np.diff(weights[order]) >= -1e-12).all()


def test_weights_by_hand():
    decreases = np.array([0.1, 0.3, 0.2])
    assert best(decreases).tolist() == [0, 1, 0]
    exponentials = np.exp(np.array([0.1, 0.3, 0.2]) / (0.5 * 0.3))
    np.testing.assert_allclose(softmax(decreases, 0.5), exponentials / exponentials.sum())
    # Above the means of the others: -0.15, 0.15 and 0.
    np.testing.assert_allclose(leave_one_out(decreases), [0, 1, 0], atol=1e-12)
    np.testing.assert_allclose(leave_one_out(np.array([1.0, 4.0, 4.0])), [0, 0.5, 0.5])
    for weighting in (softmax, leave_one_out):
        np.testing.assert_allclose(weighting(np.zeros(4)), np.full(4, 0.25))


def case(seed=0):
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Linear(4, 6), BinaryActivation(), nn.Linear(6, 5), BinaryActivation(), nn.Linear(5, 1)
    )
    return OneBatch(model, SquaredError(), torch.randn(50, 4), torch.randn(50, 1), seed)


@pytest.mark.parametrize("name", WEIGHTINGS)
@pytest.mark.parametrize("seed", range(3))
def test_the_direction_by_brute_force(name, seed):
    """Each sample's decrease on a grid of 4,000 learning rates; the N-th sample by differences."""
    task, count = case(seed), 4
    plain = api.part("estimator", "sr_ste", ["estimator/normalisation=none"])
    sums = [
        {n: i * g.double() for n, g in plain.direction(task, task.batch(1), i).items()}
        for i in range(1, count + 1)
    ]
    samples = [sums[0]] + [{n: b[n] - a[n] for n in a} for a, b in itertools.pairwise(sums)]
    samples = [{n: g / (g.norm() + 1e-8) for n, g in s.items()} for s in samples]
    network = oracle.network_of(task.model.state_dict(), bias=True)
    x, y = task.inputs.double().numpy(), task.targets.double().numpy()
    lrs, decreases = np.linspace(0, 0.5, 4001)[1:], []
    for sample in samples:
        losses = oracle.brute_force(network, oracle.network_of(sample, bias=True), x, y, lrs)
        decreases.append(max(0, oracle.loss(network, x, y) - losses.min()))
    weights = WEIGHTINGS[name](np.array(decreases))
    estimator = api.part("estimator", "by_decrease", [f"estimator/weighting={name}"])
    direction = estimator.direction(task, task.batch(1), count)
    for n, g in direction.items():
        pooled = sum(w * s[n] for w, s in zip(weights, samples, strict=True))
        expected = pooled / (pooled.norm() + 1e-8)
        # The grid misses an exact minimum by little, and so do the weights.
        assert float((g.double() - expected).norm()) < 0.02, n


def test_one_sample_is_sr_ste():
    task = case()
    one, other = (
        api.part("estimator", name).direction(task, task.batch(1), 1)
        for name in ("by_decrease", "sr_ste")
    )
    assert all(torch.equal(one[n], other[n]) for n in one)


def test_the_best_sample_is_one_of_them():
    task = case()
    estimator = api.part("estimator", "by_decrease", ["estimator/weighting=best"])
    first = estimator.direction(task, task.batch(1), 1)
    lowest = [
        api.loss_curve(
            task.model, estimator.direction(task, task.batch(1), n), task.inputs, task.targets
        )
        .minimum()
        .loss
        for n in range(1, 7)
    ]
    assert first.keys() == dict(task.model.named_parameters()).keys()
    assert all(b <= a + 1e-6 for a, b in itertools.pairwise(lowest)), "more tries, lower loss"
    assert lowest[-1] < lowest[0]


def test_a_gradient_that_is_not_finite_stays_so():
    task = case()
    task.inputs[0, 0] = float("nan")
    direction = api.part("estimator", "by_decrease").direction(task, task.batch(1), 2)
    assert not all(g.isfinite().all() for g in direction.values())


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["estimator/quantiser=sign"], r"\(quantiser=Sign\)` must be one of logistic, hard_sigmoid"),
        (["estimator.lr_max=0"], r"\(lr_max=0\)` must be > 0"),
        (["estimator.weighting.temperature=0"], r"`softmax\(temperature=0\)` must be > 0"),
    ],
)
def test_bad_arguments(overrides, says):
    with pytest.raises(ValueError, match=says):
        api.part("estimator", "by_decrease", overrides)
