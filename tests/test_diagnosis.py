"""Gradient diagnostics: each number by hand, and where a launch puts them."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
import torch
from torch import nn

from srste import api
from srste.curve import Line
from srste.estimators.base import no_norm
from srste.estimators.coordinate_difference import CoordinateDifference
from srste.losses import SquaredError
from srste.networks.activations import BinaryActivation, BinaryStep
from srste.problem.task import OneBatch
from srste.study.diagnosis import PARTS, Diagnosed, GradientDiagnostics, flip_ratios
from srste.study.study import run_study
from tests import oracle


def network(seed=0, sizes=(4, 5, 6, 1), act=BinaryActivation):
    torch.manual_seed(seed)
    modules = []
    for below, above in itertools.pairwise(sizes):
        modules += [nn.Linear(below, above), act()]
    return nn.Sequential(*modules[:-1])


def task_of(model, examples=80, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(examples, 4, generator=generator)
    y = torch.randn(examples, 1, generator=generator)
    return OneBatch(model, SquaredError(), x, y, seed)


def plain(name, *more):
    return api.part("estimator", name, ["estimator/normalisation=none", *more])


def diagnosed(task, estimator, samples=1, flipped=None, **arguments):
    diagnosis = GradientDiagnostics(**arguments).of(
        task, task.batch(1), estimator, samples, flipped or {}
    )
    return diagnosis, {layer.layer: layer for layer in diagnosis.layers}


def vector(direction, *names):
    return np.concatenate([direction[n].double().numpy().ravel() for n in names])


ALL = ("0.weight", "0.bias", "2.weight", "2.bias", "4.weight", "4.bias")


@pytest.mark.parametrize("name", ["ste", "swish_sign", "mean_field"])
def test_a_deterministic_estimator_against_the_discrete_gradient(name):
    task, estimator = task_of(network()), plain(name)
    diagnosis, layers = diagnosed(task, estimator, truth="discrete", radius=0.2)
    assert diagnosis.truth == "the discrete gradient with radius 0.2"
    truth = CoordinateDifference(no_norm, 0.2).direction(task, task.batch(1), 1)
    estimate = estimator.direction(task, task.batch(1), 1)
    ste = plain("ste").direction(task, task.batch(1), 1)
    assert list(layers) == ["", "0", "2", "4"]
    for layer, row in layers.items():
        names = [n for n in ALL if n.startswith(layer)]
        e, t, s = (vector(d, *names) for d in (estimate, truth, ste))
        length = np.linalg.norm(t)
        assert row.cosine == pytest.approx(e @ t / np.linalg.norm(e) / length, rel=1e-9)
        assert row.cosine_low == row.cosine_high == pytest.approx(row.cosine, rel=1e-9)
        assert row.relative_error == pytest.approx(np.linalg.norm(e - t) / length, rel=1e-9)
        assert row.bias == pytest.approx(row.relative_error)
        assert row.deviation == 0
        assert (row.norm, row.true_norm) == pytest.approx((np.linalg.norm(e), length))
        cosine = min(1, e @ s / np.linalg.norm(e) / np.linalg.norm(s))
        assert row.angle_to_ste == pytest.approx(math.degrees(math.acos(cosine)), abs=1e-4)
        # Of eight parts of ten examples, whose gradients have the batch's as their mean.
        parts = []
        for part in range(PARTS):
            x, y = (t[part * 10 : part * 10 + 10] for t in (task.inputs, task.targets))
            one = OneBatch(task.model, task.loss, x, y, 0)
            parts.append(vector(estimator.direction(one, one.batch(1), 1), *names))
        variance = np.array(parts).var(0, ddof=1).sum() / PARTS
        assert row.deviation_of_examples == pytest.approx(math.sqrt(variance) / length, rel=1e-4)
        assert row.signal_to_noise == pytest.approx(max(0, (e @ e) / variance - 1), rel=1e-3)


class Noisy:
    """Gradients of examples, c + its input, and noise: of variance 1 an example, and 9 / n a batch."""

    stochastic = True

    def direction(self, task, batch, samples):
        noise = torch.from_numpy(task.stream("noise", batch.index).standard_normal((samples, 4)))
        mean = 2 + batch.inputs.mean(0) + 3 * noise.mean(0)
        return {n: mean.reshape(p.shape).to(p) for n, p in task.model.named_parameters()}


@pytest.mark.parametrize("samples", [1, 4])
def test_the_variance_of_draws_and_that_of_examples(samples):
    """Averaged over many batches: what the noise and the examples were drawn with."""
    model, total = nn.Sequential(nn.Linear(4, 1, bias=False)), []
    for seed in range(60):
        task = task_of(model, examples=800, seed=seed)
        diagnostics = GradientDiagnostics(truth="discrete", repeats=30)
        (row,) = diagnostics.of(task, task.batch(1), Noisy(), samples, {}).layers
        total.append([(row.deviation * row.true_norm) ** 2, row.norm])
    of_draws = np.mean([one[0] for one in total])
    # 60 variances of four numbers with 29 degrees of freedom each.
    assert of_draws == pytest.approx(4 * 9 / samples, rel=5 * math.sqrt(2 / (60 * 4 * 29)))


class OfExamples(Noisy):
    """Without noise that is the batch's: of each example's own draws."""

    def direction(self, task, batch, samples):
        noise = torch.from_numpy(task.stream("noise").standard_normal((len(batch.inputs), 4)))
        mean = 2 + (batch.inputs + 3 * noise).mean(0)
        return {n: mean.reshape(p.shape).to(p) for n, p in task.model.named_parameters()}


def test_the_variance_of_examples_leaves_out_that_of_their_draws():
    model, squares = nn.Sequential(nn.Linear(4, 1, bias=False)), []
    for seed in range(200):
        task = task_of(model, examples=160, seed=seed)
        diagnostics = GradientDiagnostics(truth="discrete", repeats=2)
        (row,) = diagnostics.of(task, task.batch(1), OfExamples(), 1, {}).layers
        squares.append((row.deviation_of_examples * row.true_norm) ** 2)
    # 4 / 160 is the variance of the mean of 160 examples; the parts' draws add nine times as much, so
    # that a part's estimate is often cut off at 0, which lets their mean come out higher.
    assert 4 / 160 < np.mean(squares) < 4 * 10 / 160 / 3
    assert np.median(squares) < 2.5 * 4 / 160


def test_an_expected_gradient_where_it_fits():
    model = network(sizes=(4, 3, 2, 1))
    task = task_of(model, examples=20)
    diagnosis, layers = diagnosed(task, plain("disarm"), samples=50)
    assert diagnosis.truth == "the exact gradient of the network of Logistic units"
    assert layers[""].cosine > 0.8
    assert layers[""].bias < 2.5 * layers[""].deviation / math.sqrt(20)
    diagnosis, _ = diagnosed(task, plain("sr_ste"))
    assert diagnosis.truth == "the discrete gradient with radius 0.1"
    assert GradientDiagnostics().check(task, task.batch(1), plain("sr_ste")) is None
    with pytest.raises(ValueError, match="truth=expected: quantiser=stochastic_rounding: must be one"):
        GradientDiagnostics(truth="expected").check(task, task.batch(1), plain("sr_ste"))
    with pytest.raises(ValueError, match="truth=expected: CoordinateDifference has no stochastic units"):
        GradientDiagnostics(truth="expected").check(task, task.batch(1), plain("cdg"))


@pytest.mark.parametrize("act", [BinaryActivation, BinaryStep])
def test_flip_ratios_by_the_pre_activations(act):
    model = network(act=act)
    task = task_of(model)
    direction = plain("ste").direction(task, task.batch(1), 1)
    lr = 0.5
    ratios = flip_ratios(model, Line(model, direction), task.inputs, lr)
    nets = [oracle.network_of(model.state_dict(), bias=True)]
    nets.append(oracle.step(nets[0], oracle.network_of(direction, bias=True), lr))
    low = act.levels[0]
    signs = []
    for net in nets:
        h, of_net = task.inputs.double().numpy(), []
        for w, b in net[:-1]:
            h = np.where(h @ w.T + b >= 0, 1.0, low)
            of_net.append(h)
        signs.append(of_net)
    flips = [(one != other) for one, other in zip(*signs, strict=True)]
    assert ratios == pytest.approx(
        {"": np.mean(np.concatenate(flips, 1)), "0": flips[0].mean(), "2": flips[1].mean()}
    )
    assert ratios[""] > 0
    assert set(flip_ratios(model, Line(model, direction), task.inputs, 0.0).values()) == {0.0}
    straight = nn.Linear(4, 1, bias=False)
    line = Line(straight, {"weight": torch.ones(1, 4)})
    assert flip_ratios(straight, line, task.inputs, 0.1) == {}


@pytest.mark.parametrize("seed", range(4))
def test_the_gauge_by_a_fine_grid(seed):
    model = network(seed)
    task = task_of(model, seed=seed)
    direction = plain("ste").direction(task, task.batch(1), 1)
    curve = Line(model, direction).loss(task.inputs, task.targets, lr_max=4.0)
    lrs = np.linspace(0, 4, 400_001)
    losses = curve(lrs)
    lowest = lrs[np.argmin(losses)]
    beyond = lrs[(lrs > lowest) & (losses >= curve.pre_loss)]
    assert curve.gauge(0) == -1
    assert curve.gauge(lowest / 2) == pytest.approx(-0.5, abs=1e-3)
    assert curve.gauge(curve.minimum().lr) == 0
    assert beyond.size
    wall = beyond[0]
    assert curve.gauge(wall) == pytest.approx(1, abs=1e-3)
    assert curve.gauge((lowest + wall) / 2) == pytest.approx(0.5, abs=2e-3)
    short = Line(model, direction).loss(task.inputs, task.targets, lr_max=float((lowest + wall) / 2))
    assert short.gauge(short.lr_max) is None
    up = {name: -g for name, g in direction.items()}
    rising = Line(model, up).loss(task.inputs, task.targets, lr_max=1e-3)
    assert rising.descents() or rising.gauge(5e-4) is None


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"truth": "right"}, r"\(truth=right\)` must be one of auto, expected, discrete"),
        ({"radius": 0}, r"\(radius=0\)` must be > 0"),
        ({"repeats": 1}, r"\(repeats=1\)` must be an integer >= 2"),
    ],
)
def test_bad_arguments(arguments, says):
    with pytest.raises(ValueError, match=says):
        GradientDiagnostics(**arguments)


class Tied(nn.Module):
    """Two layers of the same weights."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.out = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 1)
        self.b.weight = self.a.weight
        self.act = BinaryActivation()

    def forward(self, x):
        return self.out(self.act(self.b(self.act(self.a(x)))))


def first(*modules):
    return nn.Sequential(
        BinaryActivation(), nn.Linear(4, 3), *modules, BinaryActivation(), nn.Linear(3, 1)
    )


def test_flips_of_networks_of_other_shapes():
    for model in (Tied(), first()):
        task = task_of(model)
        direction = plain("ste").direction(task, task.batch(1), 1)
        ratios = flip_ratios(model, Line(model, direction), task.inputs, 1.0)
        assert 0 < ratios[""] < 1
        assert ratios[""] == pytest.approx(np.mean([r for n, r in ratios.items() if n]), abs=0.5)
    random = first(nn.Dropout(0.5))
    task = task_of(random)
    direction = {n: torch.ones_like(p) for n, p in random.named_parameters()}
    state = torch.get_rng_state()
    assert set(flip_ratios(random, Line(random, direction), task.inputs, 0.0).values()) == {0.0}
    assert torch.equal(torch.get_rng_state(), state)


def test_networks_that_have_no_exact_gradient():
    norm = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), BinaryActivation(), nn.Linear(3, 1))
    task, before = task_of(norm), norm[1].num_batches_tracked.clone()
    with pytest.raises(
        ValueError, match=r"truth=expected: module 1 \(BatchNorm1d\) normalises by the batch"
    ):
        GradientDiagnostics(truth="expected").check(task, task.batch(1), plain("logistic_st"))
    assert torch.equal(norm[1].num_batches_tracked, before)
    dropout = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5), BinaryActivation(), nn.Linear(3, 1))
    task = task_of(dropout)
    with pytest.raises(
        ValueError, match="draws random numbers, as dropout does: there is no exact gradient"
    ):
        GradientDiagnostics(truth="expected").check(task, task.batch(1), plain("logistic_st"))
    sums = task_of(network(sizes=(4, 3, 1)))
    sums = OneBatch(sums.model, lambda o, t: ((o - t) ** 2).sum(), sums.inputs, sums.targets, 0)
    with pytest.raises(ValueError, match="is not the mean of its examples' losses"):
        GradientDiagnostics(truth="expected").check(sums, sums.batch(1), plain("logistic_st"))


def test_the_discrete_gradient_of_a_loss_that_is_no_mean_and_of_inputs_of_three_axes():
    task = task_of(network(sizes=(4, 3, 1)), examples=6)
    rooted = OneBatch(
        task.model, lambda o, t: ((o - t) ** 2).mean().sqrt(), task.inputs, task.targets, 0
    )
    diagnosis, layers = diagnosed(rooted, plain("ste"), truth="discrete")
    assert layers["2"].cosine > 0.99
    deep = OneBatch(task.model, SquaredError(), torch.randn(6, 2, 4), torch.randn(6, 2, 1), 0)
    diagnosis, layers = diagnosed(deep, plain("ste"), truth="discrete")
    assert diagnosis.truth == "the discrete gradient with radius 0.1"
    assert layers["2"].cosine > 0.99


def test_what_is_not_finite_is_none():
    model = network(sizes=(4, 3, 1))
    with torch.no_grad():
        model[2].weight[0, 0] = float("nan")
    task = task_of(model)
    _, layers = diagnosed(task, plain("ste"), truth="discrete")
    for name in ("cosine", "norm", "true_norm", "deviation_of_examples", "signal_to_noise"):
        assert getattr(layers["2"], name) is None
    assert json.dumps(vars(layers["2"]), allow_nan=False)


class Noise:
    """Estimates of zero mean."""

    stochastic = True
    units = 32  # of a user's, and nothing to do with stochastic units

    def direction(self, task, batch, samples):
        g = task.stream("noise", len(batch.inputs))
        return {n: torch.from_numpy(g.standard_normal(tuple(p.shape))).to(p)
                for n, p in task.model.named_parameters()}  # fmt: skip


def test_noise_has_no_signal_and_no_bias_free_of_scale():
    task = task_of(network())
    _, layers = diagnosed(task, Noise(), repeats=40)
    assert layers[""].signal_to_noise < 0.2
    means = [row for row in layers.values() if row.scale_free_bias is None]
    assert all(row.scale_free_deviation is None for row in means)


def test_a_gradient_of_noise_alone_has_little_signal_to_noise():
    """A deterministic one, of targets that do not depend on the inputs: the examples are the noise."""
    ratios = []
    for seed in range(30):
        model = nn.Sequential(BinaryActivation(), nn.Linear(4, 1, bias=False))
        with torch.no_grad():
            model[1].weight.zero_()
        task = task_of(model, examples=400, seed=seed)
        _, layers = diagnosed(task, plain("ste"), truth="discrete")
        ratios.append(layers[""].signal_to_noise)
    # Without examples' variance subtracted it would be 1 on average.
    assert np.mean(ratios) < 0.75
    assert np.median(ratios) < 0.5


class Nowhere:
    """A gradient that is not finite."""

    stochastic = False

    def direction(self, task, batch, samples):
        return {n: torch.full_like(p, torch.nan) for n, p in task.model.named_parameters()}


def test_an_estimate_that_is_not_finite_fails_its_study_and_not_the_launch(caplog):
    task = task_of(network())
    diagnostics = Diagnosed(GradientDiagnostics(truth="discrete"), Nowhere())
    evaluation = api.part("evaluation", "stochastic")
    grid = api.part("sampling", "grid", ["sampling.step=0.1"])
    study = run_study(
        task, task.batch(1), Nowhere(), 1, grid, "nowhere",
        evaluation=evaluation, diagnosed=diagnostics,
    )  # fmt: skip
    assert study.best is None
    assert study.drawn is None
    assert study.trials.failed.all()
    assert "The direction is not finite in 0.weight, 0.bias, 2.weight" in caplog.text
    assert study.diagnosis.layers[0].cosine is None
