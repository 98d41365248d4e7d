"""What an estimator draws for one batch or number of samples tells nothing of what others get."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from hydra import compose, initialize_config_dir

from srste.estimators.base import global_norm, per_row, per_tensor
from srste.launch.folders import register_resolvers
from srste.launch.job_config import Job
from srste.launch.job_values import job_values
from tests.support import CONF, choices

SMALL = ["model.width=6", "model.depth=2", "data.features=5", "batch_size=40", "draws=independent"]


def made(name):
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        job = Job(job_values(compose("config", [f"estimator={name}", *SMALL])))
    return job.estimator, job.problem()


@pytest.mark.parametrize("name", choices("estimator"))
def test_each_batch_and_number_of_samples_has_draws_of_its_own(name):
    """The same examples, called another batch: what is left of a difference is what was drawn."""
    estimator, problem = made(name)
    batch = problem.batch(1)
    flat = [
        torch.cat([g.flatten() for g in estimator.direction(problem, batch_, samples).values()])
        for batch_ in (batch, replace(batch, index=2))
        for samples in (1, 2, 3)
    ]
    same = [torch.equal(one, other) for one, other in itertools.combinations(flat, 2)]
    assert not any(same) if estimator.stochastic else all(same)


@pytest.mark.parametrize("normalise", [per_tensor, per_row, global_norm])
def test_of_a_gradient_of_the_size_of_epsilon_half_is_left(normalise):
    # One entry, so that tensor, row and all together have the same norm: g / (|g| + 1e-8).
    gradient = {"weight": torch.tensor([[-1e-8]], dtype=torch.float64)}
    assert normalise(gradient)["weight"].item() == pytest.approx(-0.5)


@pytest.mark.parametrize("name", [name for name in choices("estimator") if name != "never_zeroed"])
def test_no_random_stream_serves_two_batches_or_numbers_of_samples(name, monkeypatch):
    """All but gradients never zeroed, which go through the batches before theirs. What is asked for is
    noted on its way; that of STE is asked for too, and nothing drawn from it."""
    estimator, problem = made(name)
    batch, opened, stream = problem.batch(1), {}, problem.stream

    def noted(*names):
        opened[names] = stream(*names)
        return opened[names]

    def state(generator):
        return repr(generator.bit_generator.state)

    monkeypatch.setattr(problem, "stream", noted)
    earlier = set()
    for index, samples in itertools.product((1, 2), (1, 2, 3)):
        opened.clear()
        estimator.direction(problem, replace(batch, index=index), samples)
        drawn = {
            names for names, generator in opened.items() if state(generator) != state(stream(*names))
        }
        assert bool(drawn) == estimator.stochastic
        assert not drawn & earlier
        earlier |= drawn
