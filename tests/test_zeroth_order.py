"""Estimators by differences of the loss, against plain loops in float64."""

from __future__ import annotations

import itertools
import logging
import math

import numpy as np
import pytest
import torch
from torch import nn

from srste import api
from srste.estimators.base import no_norm
from srste.estimators.coordinate_difference import CoordinateDifference
from srste.estimators.smoothed import NES, SPSA, loss_at
from srste.losses import CrossEntropy, SquaredError
from srste.networks.activations import BinaryActivation, BinaryStep
from srste.problem.task import OneBatch
from tests import oracle


def network(kind=BinaryActivation, bias=True, sizes=(4, 5, 6, 3)):
    modules = []
    for below, above in itertools.pairwise(sizes):
        modules += [nn.Linear(below, above, bias), kind()]
    return nn.Sequential(*modules[:-1])


def task_of(model, batch=60, seed=0, loss=None, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) / math.sqrt(4))
    model = model.to(dtype)
    x = torch.randn(batch, 4, generator=generator, dtype=dtype)
    if isinstance(loss, CrossEntropy):
        y = torch.randint(0, 3, (batch,), generator=generator)
    else:
        y = torch.randn(batch, 3, generator=generator, dtype=dtype)
    return OneBatch(model, loss or SquaredError(), x, y, seed)


def by_two_passes_a_weight(task, e):
    """Each weight moved up and down in place, the whole network run each time."""
    differences = {}
    with torch.no_grad():
        for name, p in task.model.named_parameters():
            flat, of_tensor = p.view(-1), []
            for i in range(len(flat)):
                before, losses = float(flat[i]), []
                for moved in (before + e, before - e):
                    flat[i] = moved
                    losses.append(float(task.loss(task.model(task.inputs), task.targets)))
                flat[i] = before
                of_tensor.append((losses[0] - losses[1]) / (2 * e))
            differences[name] = np.array(of_tensor).reshape(p.shape)
    return differences


@pytest.mark.parametrize("loss", [SquaredError(), CrossEntropy()])
@pytest.mark.parametrize(("kind", "bias"), [(BinaryActivation, False), (BinaryStep, True)])
@pytest.mark.parametrize("radius", [0.01, 0.1, 1.5])
def test_the_discrete_gradient_is_that_of_two_passes_a_weight(kind, bias, radius, loss):
    for seed in range(3):
        task = task_of(network(kind, bias), seed=seed, loss=loss)
        computed = CoordinateDifference(no_norm, radius).direction(task, task.batch(1), 1)
        for name, expected in by_two_passes_a_weight(task, radius).items():
            np.testing.assert_allclose(computed[name].numpy(), expected, rtol=0, atol=1e-12 / radius)


def test_a_unit_that_is_at_zero_flips_downwards_only():
    """sign(0) = +1: a move by +e leaves it."""
    model = nn.Sequential(nn.Linear(1, 1, False), BinaryActivation(), nn.Linear(1, 1, False)).double()
    with torch.no_grad():
        model[0].weight.zero_()
        model[2].weight.fill_(1.0)
    x = torch.ones(1, 1, dtype=torch.float64)
    task = OneBatch(model, SquaredError(), x, torch.zeros_like(x) + 1, 0)
    computed = CoordinateDifference(no_norm, 0.1).direction(task, task.batch(1), 1)
    assert computed["0.weight"].item() == pytest.approx((0 - 4) / 0.2)


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 5), BinaryActivation(), nn.Linear(5, 3)),
        nn.Sequential(nn.Linear(4, 5), BinaryActivation(), nn.Sequential(nn.Linear(5, 3))),
    ],
)
def test_other_networks_take_two_passes_a_weight_and_it_is_said(model, caplog):
    task = task_of(model)
    with caplog.at_level(logging.WARNING):
        computed = CoordinateDifference(no_norm, 0.1).direction(task, task.batch(1), 1)
    weights = sum(p.numel() for p in model.parameters())
    assert f"not a row of linear layers and activations: {2 * weights} forward passes" in caplog.text
    for name, expected in by_two_passes_a_weight(task, 0.1).items():
        np.testing.assert_allclose(computed[name].numpy(), expected, rtol=0, atol=1e-11)


class Shifted(BinaryActivation):
    """Not the sign, though it is a binary activation."""

    def forward(self, a):
        return super().forward(a - 0.3)


def test_an_activation_of_another_forward_is_not_taken_for_a_sign():
    task = task_of(network(kind=Shifted))
    computed = CoordinateDifference(no_norm, 0.5).direction(task, task.batch(1), 1)
    for name, expected in by_two_passes_a_weight(task, 0.5).items():
        np.testing.assert_allclose(computed[name].numpy(), expected, rtol=0, atol=1e-11)


def test_what_is_not_to_move_has_no_difference():
    task = task_of(network())
    task.model[2].weight.requires_grad_(False)
    computed = CoordinateDifference(no_norm, 0.5).direction(task, task.batch(1), 1)
    assert not computed["2.weight"].any()
    assert computed["0.weight"].any()


def test_a_loss_elsewhere_leaves_the_weights():
    task = task_of(network())
    before = {name: p.clone() for name, p in task.model.named_parameters()}
    offset = {name: torch.full_like(p, 0.3) for name, p in before.items()}
    computed = loss_at(task, task.batch(1), offset)
    for name, p in task.model.named_parameters():
        assert torch.equal(p, before[name])
    with torch.no_grad():
        for p in task.model.parameters():
            p.add_(0.3)
        assert computed == float(task.loss(task.model(task.inputs), task.targets))


def test_evolution_strategies_by_hand():
    """(L(w + e z) - L(w - e z)) / (2 e) z, averaged over two samples of three pairs."""
    task = task_of(network(), seed=5)
    computed = NES(no_norm, 0.2, 3).direction(task, task.batch(1), 2)
    expected = {name: np.zeros(tuple(p.shape)) for name, p in task.model.named_parameters()}
    weights = [(n, p.detach().numpy().copy()) for n, p in task.model.named_parameters()]

    def loss(z, sign):
        moved = [w + sign * 0.2 * z[n] for n, w in weights]
        pairs = list(zip(moved[::2], moved[1::2], strict=True))
        return oracle.loss(pairs, task.inputs.numpy(), task.targets.numpy())

    for sample in (1, 2):
        generator = oracle.named_stream(5, "smoothing", "batch", 1, "sample", sample)
        for _ in range(3):
            z = {
                n: generator.standard_normal(w.shape, dtype=np.float32).astype(float) for n, w in weights
            }
            slope = (loss(z, 1) - loss(z, -1)) / 0.4
            for name in z:
                expected[name] += slope * z[name] / 6
    for name, tensor in computed.items():
        np.testing.assert_allclose(tensor.numpy(), expected[name], rtol=0, atol=1e-10)


def test_directions_of_the_random_searches():
    """Signs; a part along the STE gradient, and the rest in all dimensions alike."""
    task = task_of(network(), seed=2)
    moving = dict(task.model.named_parameters())
    size = sum(p.numel() for p in moving.values())
    batch, generator = task.batch(1), task.stream("test")
    v = SPSA(no_norm, 0.1, 1)._along(moving, {}, generator)
    assert {abs(x) for t in v.values() for x in t.flatten().tolist()} == {1.0}
    ste = api.estimate(
        "ste", task.model, task.inputs, task.targets, overrides=["estimator/normalisation=none"]
    )
    unit = torch.cat([g.flatten() for g in ste.values()])
    unit = unit / unit.norm()
    for name, along, beyond in (("guided_es", 0.5, 0.5 / size), ("fogzo", 0.999, 0.001)):
        estimator = api.part("estimator", name)
        guide = estimator._guide(task, batch)
        torch.testing.assert_close(torch.cat([g.flatten() for g in guide.values()]), unit)
        drawn = torch.stack(
            [
                torch.cat([t.flatten() for t in estimator._along(moving, guide, generator).values()])
                for _ in range(4000)
            ]
        )
        covariance = drawn.T @ drawn / len(drawn)
        expected = beyond * torch.eye(size, dtype=torch.float64) + along * torch.outer(unit, unit)
        error = 5 * math.sqrt(3 / len(drawn)) * (beyond + along * unit.abs().max() ** 2)
        assert (covariance - expected).abs().max() < error


@pytest.mark.parametrize("name", ["nes", "spsa", "guided_es", "fogzo"])
def test_more_pairs_come_nearer_to_a_smooth_loss_s_gradient(name):
    """Where no sign changes nearby, and the radius is small, the loss is quadratic in the last layer,
    whose gradient the differences have on average."""
    task = task_of(network(sizes=(4, 2, 3)), batch=200)
    with torch.no_grad():
        task.model[0].weight.mul_(100)
    estimator = api.part("estimator", name, ["estimator.radius=1e-3", "estimator/normalisation=none"])
    loss = task.loss(task.model(task.inputs), task.targets)
    exact = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(task.model[2].parameters()))])

    def cosine(samples):
        computed = estimator.direction(task, task.batch(1), samples)
        ours = torch.cat([computed["2.weight"].flatten(), computed["2.bias"]])
        return float(nn.functional.cosine_similarity(ours, exact, dim=0))

    assert cosine(60) > 0.85
    assert cosine(60) > cosine(1) - 0.05


@pytest.mark.parametrize(
    ("name", "override", "says"),
    [
        ("cdg", "estimator.radius=0", "must be > 0"),
        ("nes", "estimator.pairs=0", "must be an integer >= 1"),
        ("nes", "estimator.radius=-1", "must be > 0"),
        ("guided_es", "estimator.alpha=2", "must be in [0, 1]"),
        ("fogzo", "estimator.beta=1.5", "must be in [0, 1]"),
        ("spsa", "estimator.draws=some", "must be one of nested, independent"),
    ],
)
def test_arguments_out_of_range(name, override, says):
    with pytest.raises(ValueError) as error:
        api.part("estimator", name, [override])
    assert says in str(error.value)
