"""Samples with fitted weights: the weights found again by least squares, and the loss by a search."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy import optimize
from torch import nn

from srste import api
from srste.losses import SquaredError
from srste.networks.activations import BinaryActivation
from srste.problem.task import Batch, OneBatch
from srste.randomness import normal, stream
from tests import oracle

PLAIN = ["estimator/normalisation=none"]
COUNT = 4


class TwoBatches(OneBatch):
    """A task with another batch for every index."""

    def batch(self, index):
        if index == 1:
            return Batch(1, self.inputs, self.targets)
        shapes = ("inputs", self.inputs), ("targets", self.targets)
        drawn = (
            normal(stream(index, w), tuple(t.shape), torch.device("cpu")).double() for w, t in shapes
        )
        return Batch(index, *drawn)


def case(seed=0):
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Linear(4, 6), BinaryActivation(), nn.Linear(6, 5), BinaryActivation(), nn.Linear(5, 1)
    ).double()
    x, y = torch.randn(50, 4).double(), torch.randn(50, 1).double()
    return TwoBatches(model, SquaredError(), x, y, seed)


def samples_of(task):
    """The gradients of the single samples, as vectors, by differences of sums."""
    plain = api.part("estimator", "sr_ste", PLAIN)
    sums = [np.zeros(1)]
    for n in range(1, COUNT + 1):
        g = plain.direction(task, task.batch(1), n)
        sums.append(n * np.concatenate([t.numpy().ravel() for t in g.values()]))
    return [later - earlier for earlier, later in itertools.pairwise(sums)]


def weights_of(task, **arguments):
    """The weights of the samples in the direction, and how far it is from their hull."""
    overrides = [f"estimator.{k}={v}" for k, v in arguments.items()]
    estimator = api.part("estimator", "fitted_weights", [*PLAIN, *overrides])
    direction = estimator.direction(task, task.batch(1), COUNT)
    vector = np.concatenate([t.numpy().ravel() for t in direction.values()])
    weights, residual = optimize.nnls(np.stack(samples_of(task), 1), vector)
    return weights, residual / np.linalg.norm(vector), direction


def loss_after(task, direction, length, batch):
    network = oracle.network_of(task.model.state_dict(), bias=True)
    stepped = oracle.step(network, oracle.network_of(direction, bias=True), length)
    return oracle.loss(stepped, batch.inputs.numpy(), batch.targets.numpy())


def best_length(task, batch):
    """The exact best step along the mean."""
    mean = api.part("estimator", "sr_ste", PLAIN).direction(task, task.batch(1), COUNT)
    curve = api.loss_curve(task.model, mean, batch.inputs, batch.targets)
    return curve.minimum().lr, curve.minimum().loss


@pytest.mark.parametrize("fitted_on", ["same", "next"])
@pytest.mark.parametrize("seed", range(3))
def test_weights_are_of_the_simplex_and_lower_the_loss_that_they_are_fitted_to(seed, fitted_on):
    task = case(seed)
    weights, residual, direction = weights_of(task, fitted_on=fitted_on)
    assert residual < 1e-7
    assert weights.sum() == pytest.approx(1, abs=1e-7)
    batch = task.batch(1 if fitted_on == "same" else 2)
    length, at_mean = best_length(task, batch)
    # A minimum may be approached from one side only.
    near = [loss_after(task, direction, length * (1 + e), batch) for e in (-1e-9, 0, 1e-9)]
    assert min(near) <= at_mean + 1e-9


def test_more_rounds_go_lower_and_most_random_weights_do_not():
    task = case(1)
    batch = task.batch(1)
    length, at_mean = best_length(task, batch)
    losses = []
    for rounds in (1, 3, 12):
        _, _, direction = weights_of(task, rounds=rounds)
        losses.append(loss_after(task, direction, length, batch))
    assert losses[0] < at_mean
    assert losses[0] >= losses[1] - 1e-9 >= losses[2] - 2e-9
    samples, generator = np.stack(samples_of(task)), np.random.default_rng(0)
    shapes = {n: p.shape for n, p in task.model.named_parameters()}

    def with_weights(w):
        vector, direction, place = w @ samples, {}, 0
        for n, shape in shapes.items():
            size = shape.numel()
            direction[n] = torch.from_numpy(vector[place : place + size].reshape(shape))
            place += size
        return loss_after(task, direction, length, batch)

    tried = [with_weights(generator.dirichlet(np.ones(COUNT))) for _ in range(300)]
    assert losses[2] <= np.quantile(tried, 0.2)


def test_one_sample_has_one_weight():
    task = case()
    one, other = (
        api.part("estimator", name).direction(task, task.batch(1), 1)
        for name in ("fitted_weights", "sr_ste")
    )
    assert all(torch.equal(one[n], other[n]) for n in one)


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["estimator/quantiser=sign"], r"\(quantiser=Sign\)` must be one of logistic, hard_sigmoid"),
        (["estimator.fitted_on=other"], r"\(fitted_on=other\)` must be one of same, next"),
        (["estimator.rounds=0"], r"\(rounds=0\)` must be an integer >= 1"),
        (["estimator.lr_max=-1"], r"\(lr_max=-1\)` must be > 0"),
    ],
)
def test_bad_arguments(overrides, says):
    with pytest.raises(ValueError, match=says):
        api.part("estimator", "fitted_weights", overrides)


def test_the_next_batch_of_one_is_refused_in_words():
    task = case()
    one = OneBatch(task.model, task.loss, task.inputs, task.targets, 0)
    estimator = api.part("estimator", "fitted_weights", ["estimator.fitted_on=next"])
    with pytest.raises(ValueError, match=r"\(fitted_on=next\)` must be same here: batch 2"):
        estimator.direction(one, one.batch(1), 2)


@pytest.mark.parametrize("name", ["fitted_weights", "by_decrease"])
def test_a_loss_without_a_finite_value_leaves_a_direction(name):
    task = case()
    infinite = OneBatch(
        task.model, lambda o, t: ((o - t) ** 2).mean() * (1 if o.requires_grad else float("inf")),
        task.inputs, task.targets, 0,
    )  # fmt: skip
    direction = api.part("estimator", name).direction(infinite, infinite.batch(1), 2)
    assert all(g.isfinite().all() for g in direction.values())


def test_a_best_step_of_no_length_leaves_a_direction():
    """The loss is 0 before the step: no step is better than a shorter one, down to none."""
    task = case()
    model = task.model.float()
    with torch.no_grad():
        for p in model.parameters():  # sums of eighths are exact, and so is the loss of 0
            p.copy_((8 * p).round() / 8)
        targets = model(task.inputs.float())
    solved = OneBatch(model, task.loss, task.inputs.float(), targets, 0)
    direction = api.part("estimator", "fitted_weights").direction(solved, solved.batch(1), 3)
    assert all(g.isfinite().all() and g.any() for g in direction.values())
