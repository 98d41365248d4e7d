"""Gradients kept from study to study: bit for bit those of a fresh pass, and forgotten with a change."""

import pytest
import torch
from torch import nn

from srste import api
from srste.estimators import straight_through
from srste.estimators.base import mean, per_tensor
from srste.estimators.straight_through import StraightThrough
from srste.losses import SquaredError
from srste.networks.activations import BinaryActivation
from srste.networks.rounding import Sign, StochasticRounding
from srste.networks.surrogates import Clipped
from srste.problem import passes
from srste.problem.passes import Passes
from srste.problem.task import Batch, OneBatch, Redrawn
from srste.study.checks import ignores_draws


class Keeping:
    """A task that keeps its passes."""

    def __init__(self, task):
        self.model, self.loss, self.seed, self.batch = task.model, task.loss, task.seed, task.batch
        self.stream, self.passes = task.stream, Passes()


@pytest.fixture
def task():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), BinaryActivation(), nn.Linear(6, 1))
    return OneBatch(model, SquaredError(), torch.randn(20, 4), torch.randn(20, 1))


@pytest.fixture
def counted(monkeypatch):
    """The names of the passes that were made."""
    made = []
    original = straight_through.gradient_of

    def gradient_of(loss, model):
        made.append(1)
        return original(loss, model)

    monkeypatch.setattr(straight_through, "gradient_of", gradient_of)
    return made


def sr_ste(draws="nested", quantiser=None):
    return StraightThrough(quantiser or StochasticRounding(), Clipped(1.0), mean, per_tensor, draws)


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in other)


def test_directions_are_those_of_fresh_passes(task, counted):
    keeping = Keeping(task)
    for samples in (1, 2, 3, 5, 4):
        fresh = sr_ste().direction(task, task.batch(1), samples)
        counted.clear()
        kept = sr_ste().direction(keeping, keeping.batch(1), samples)  # a new estimator, as in each job
        assert same(kept, fresh)
        assert len(counted) == {1: 1, 2: 1, 3: 1, 5: 2, 4: 0}[samples]


def test_what_tells_passes_apart(task, counted):
    keeping, batch = Keeping(task), task.batch(1)
    sr_ste().direction(keeping, batch, 2)
    counted.clear()
    for other, passes_made in (
        (sr_ste("independent"), 2),
        (sr_ste(quantiser=StochasticRounding(scope="unit")), 2),
        (StraightThrough(StochasticRounding(), Clipped(2.0), mean, per_tensor), 2),
        (StraightThrough(Sign(), Clipped(1.0), mean, per_tensor), 1),
        (StraightThrough(Sign(), Clipped(1.0), mean, per_tensor), 0),
    ):
        counted.clear()
        kept = other.direction(keeping, batch, 2)
        assert len(counted) == passes_made
        assert same(kept, other.direction(task, batch, 2))


@pytest.mark.parametrize("change", ["weights", "weights by .data", "examples", "mode", "frozen"])
def test_forgotten_when_something_changes(task, change):
    keeping, batch = Keeping(task), task.batch(1)
    sr_ste().direction(keeping, batch, 2)
    with torch.no_grad():
        if change == "weights":
            task.model[0].weight[0, 0] += 1
        elif change == "weights by .data":
            task.model[0].weight.data[0, 0] += 1
        elif change == "examples":
            batch = Batch(1, batch.inputs + 1, batch.targets)
        elif change == "mode":
            task.model.eval()
        else:
            task.model[0].weight.requires_grad_(False)
    assert same(sr_ste().direction(keeping, batch, 2), sr_ste().direction(task, batch, 2))


def test_dropout_is_drawn_again(task, counted):
    model = nn.Sequential(*task.model, nn.Dropout())
    keeping = Keeping(OneBatch(model, task.loss, task.inputs, task.targets))
    for _ in range(2):
        counted.clear()
        sr_ste().direction(keeping, keeping.batch(1), 2)
        assert len(counted) == 2


def test_a_user_s_quantiser_is_asked_every_time(task, counted):
    class Alternating(Sign):
        turn = 0

        def __call__(self, a, generator):
            self.turn += 1
            return super().__call__(a, generator) * (-1) ** self.turn

    keeping, estimator = Keeping(task), sr_ste(quantiser=Alternating())
    one, other = (estimator.direction(keeping, keeping.batch(1), 1) for _ in range(2))
    assert not same(one, other)


def test_an_aggregation_that_works_in_place_spoils_nothing(task):
    def in_place(gradients):
        total = gradients[0]
        for gradient in gradients[1:]:
            total += gradient
        return total

    keeping = Keeping(task)
    for samples in (2, 3, 2):
        estimator = StraightThrough(StochasticRounding(), Clipped(1.0), in_place, per_tensor)
        kept = estimator.direction(keeping, keeping.batch(1), samples)
        assert same(kept, estimator.direction(task, task.batch(1), samples))


def test_other_draws_are_others(task):
    keeping = Keeping(task)
    assert not ignores_draws(sr_ste(), keeping, keeping.batch(1))
    one, other = (sr_ste().direction(t, keeping.batch(1), 3) for t in (keeping, Redrawn(keeping)))
    assert not same(one, other)
    assert same(other, sr_ste().direction(Redrawn(task), task.batch(1), 3))


def test_the_oldest_go_first(task, counted, monkeypatch):
    keeping, batch = Keeping(task), task.batch(1)
    size = sum(p.numel() * p.element_size() for p in task.model.parameters())
    monkeypatch.setattr(passes, "MOST_BYTES", 3 * size)
    for samples, passes_made in ((2, 2), (3, 1), (4, 1), (4, 4)):
        counted.clear()
        kept = sr_ste().direction(keeping, batch, samples)
        assert len(counted) == passes_made  # each of the last four drops the next one
        assert same(kept, sr_ste().direction(task, batch, samples))


@pytest.mark.parametrize("name", ["reinforce", "leave_one_out", "arm", "psa", "nes", "fogzo", "reinmax"])
def test_other_estimators_keep_their_samples(task, name):
    """As a launch makes them: N = 4 after N = 3 runs the network for one sample more, with the result of
    a fresh task."""
    keeping, forwards = Keeping(task), []
    task.model.register_forward_hook(lambda *_: forwards.append(1))

    def run(samples, of):
        forwards.clear()
        return api.part("estimator", name).direction(of, of.batch(1), samples), len(forwards)

    _, three = run(3, keeping)
    kept, one_more = run(4, keeping)
    fresh, four = run(4, task)
    assert same(kept, fresh)
    assert one_more < three < four
    changed = ["estimator.radius=0.3"] if name in ("nes", "fogzo") else ["estimator.draws=independent"]
    other = api.part("estimator", name, changed)
    assert not same(other.direction(keeping, keeping.batch(1), 3), run(3, keeping)[0])
