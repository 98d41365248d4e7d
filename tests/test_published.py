"""Published results, by the functions of benchmarks/published.py with fewer samples."""

from __future__ import annotations

import json
import math
import sys

import numpy as np
import pytest
import torch
from torch import nn

from srste.estimators.base import gradient_of
from srste.problem.task import OneBatch
from srste.study.gradient_quality import gradient_quality
from tests.support import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
import published
import published_discrete

SAMPLES = 4_000


@pytest.fixture(scope="module")
def truth():
    return published.psa_truth()


@pytest.fixture(scope="module")
def curves():
    return json.loads((published.DATA / "psa_555_curves.json").read_text())


def test_the_exact_loss_and_its_gradient(truth):
    loss, layers = truth
    assert f"{loss:.8f}" == "0.68386823"
    assert [f"{float(g.norm()):.5f}" for g in layers] == ["0.00473", "0.00591", "0.00969", "0.05327"]


def test_the_exact_loss_is_that_of_all_states_of_all_units_together(truth):
    """2^15 states of three layers, with their probabilities as a product, in NumPy."""
    model, x, y = published.psa_network()
    weights = [(m.weight.detach().numpy(), m.bias.detach().numpy()) for m in list(model)[::2]]
    states = (np.arange(32)[:, None] >> np.arange(5)) & 1

    def probabilities(below, layer):
        """P(each state | each state below), (below, 32)."""
        weight, bias = weights[layer]
        p = 1 / (1 + np.exp(-(below @ weight.T + bias)))
        return np.prod(np.where(states[None] == 1, p[:, None], 1 - p[:, None]), axis=2)

    first = probabilities(x.numpy(), 0)
    second, third = probabilities(states, 1), probabilities(states, 2)
    weight, bias = weights[3]
    eta = (states @ weight.T + bias)[:, 0]
    of_third = np.log1p(np.exp(-y.numpy() * eta))  # (points, 32)
    total = 0.0
    for i in range(32):
        for j in range(32):
            total += float((first[:, i] * second[i, j] * (third[j] * of_third).sum(1)).mean())
    assert truth[0] == pytest.approx(total, rel=1e-12)


def test_mean_field(truth):
    estimator, _ = published.PSA["mean field"]
    gradients = published.single_samples(estimator, 1, 1)
    computed = [published.accuracy(g, t, 1) for g, t in zip(gradients, truth[1], strict=True)]
    assert [f"{rmse:.4f}" for rmse, _ in computed] == ["0.2478", "0.4153", "0.4849", "0.3306"]
    assert [f"{cosine:.4f}" for _, cosine in computed] == ["0.9954", "0.9109", "0.9382", "0.9533"]


def test_the_expected_straight_through_gradient(truth):
    """Over all 2^15 states of a few points at a time, each weighted with its probability."""
    model, x, y = published.psa_network()
    states = ((torch.arange(2**15)[:, None] >> torch.arange(15)) & 1).double()
    total = None
    for point in range(len(x)):
        repeated = x[point].repeat(len(states), 1)
        probability = torch.ones(len(states), dtype=torch.float64)
        h = repeated
        for layer, linear in enumerate(list(model)[::2]):
            a = linear(h)
            if layer == 3:
                break
            p, drawn = torch.sigmoid(a), states[:, 5 * layer : 5 * layer + 5]
            probability = probability * torch.where(drawn == 1, p, 1 - p).prod(1).detach()
            h = drawn + p - p.detach()  # the draw forward, the slope of its mean backward
        losses = torch.nn.functional.softplus(-y[point] * a[:, 0])
        gradient = gradient_of((probability * losses).sum() / len(x), model)
        total = gradient if total is None else {k: v + gradient[k] for k, v in total.items()}
    expected = [g[0] for g in published.by_layer(total)]
    errors = [float((g - t).norm() / t.norm()) for g, t in zip(expected, truth[1], strict=True)]
    np.testing.assert_allclose(errors[:3], [0.0784, 0.3330, 0.3567], atol=5e-5)
    assert errors[3] < 1e-12
    # The estimator's own mean, within its Monte-Carlo error.
    estimator, copies = published.PSA["ST"]
    drawn = published.single_samples(estimator, SAMPLES, copies)
    for ours, exact in zip(drawn, expected, strict=True):
        error = ours.std(0) / math.sqrt(len(ours))
        assert ((ours.mean(0) - exact).abs() <= 5 * error + 1e-12).all()


@pytest.mark.parametrize("name", ["REINFORCE", "ST"])
def test_the_published_curves(truth, curves, name):
    estimator, copies = published.PSA[name]
    drawn = published.single_samples(estimator, SAMPLES, copies)
    for layer, (ours, exact) in enumerate(zip(drawn, truth[1], strict=True)):
        for n in (1, 4, 10, 40):
            place = curves["n"].index(n)
            rmse, cosine = published.accuracy(ours, exact, n)
            # Of SAMPLES / n squared errors each, whose spread is at most some 1.5 of their mean.
            allowed = 5 * 1.5 / 2 * math.sqrt(2 * n / SAMPLES)
            published_rmse = curves["curves"][f"rmse/layer{layer}/{name}"][place]
            assert rmse == pytest.approx(published_rmse, rel=allowed)
            allowed = 5 * 0.6 * math.sqrt(2 * n / SAMPLES)
            assert cosine == pytest.approx(
                curves["curves"][f"cos/layer{layer}/{name}"][place], abs=allowed
            )


@pytest.mark.parametrize("name", ["REINFORCE", "leave one out", "ARM", "DisARM"])
def test_unbiased_on_the_network(truth, name):
    estimator, copies = published.PSA[name]
    for ours, exact in zip(published.single_samples(estimator, SAMPLES, copies), truth[1], strict=True):
        error = ours.std(0) / math.sqrt(len(ours))
        assert ((ours.mean(0) - exact).abs() <= 5 * error).all()


@pytest.mark.parametrize("name", [n for n, (_, copies) in published.PSA.items() if copies > 1])
def test_the_error_falls_with_n_as_its_bias_and_variance_say(truth, name):
    """RMSE(n)^2 = bias^2 + (RMSE(1)^2 - bias^2) / n."""
    estimator, copies = published.PSA[name]
    drawn = published.single_samples(estimator, SAMPLES, copies)
    for ours, exact in zip(drawn, truth[1], strict=True):
        squares = ((ours - exact) ** 2).sum(1)
        at_one = float(squares.mean())
        # The square of the mean's distance has the variance of the mean in it.
        bias = float(((ours.mean(0) - exact) ** 2).sum() - ours.var(0).sum() / len(ours))
        n = 20
        expected = bias + (at_one - bias) / n
        groups = ours.reshape(len(ours) // n, n, -1).mean(1)
        of_n = ((groups - exact) ** 2).sum(1)
        allowed = 5 * float(of_n.std()) / math.sqrt(len(of_n)) + 5 * at_one / len(ours)
        assert float(of_n.mean()) == pytest.approx(expected, abs=allowed)


def test_disarm_varies_no_more_than_arm(truth):
    variances = [
        [float(g.var(0).sum()) for g in published.single_samples(*_with(SAMPLES, name))]
        for name in ("ARM", "DisARM")
    ]
    for arm, disarm in zip(*variances, strict=True):
        assert disarm <= arm * 1.05


def _with(samples, name):
    estimator, copies = published.PSA[name]
    return estimator, samples, copies


@pytest.mark.parametrize("point", published.YIN)
def test_yin_s_closed_forms(point):
    computed = published.yin(point, 200_000)
    for name, theirs in published.YIN[point][2].items():
        for ours, error, value in zip(*computed[name], theirs, strict=True):
            assert ours == pytest.approx(value, abs=5 * error)


@pytest.mark.parametrize("name", published.bernoulli(0.3, 0.49))
@pytest.mark.parametrize(("p", "t"), [(0.3, 0.49), (0.8, 0.1)])
def test_one_bernoulli_unit(name, p, t):
    samples = 40_000
    drawn = published.bernoulli_samples(name, p, t, samples)
    mean, variance = published.bernoulli(p, t)[name]
    if not variance:
        np.testing.assert_allclose(drawn.numpy(), mean, rtol=1e-12)
        return
    assert float(drawn.mean()) == pytest.approx(mean, abs=5 * math.sqrt(variance / samples))
    fourth = float(((drawn - drawn.mean()) ** 4).mean())
    error = math.sqrt((fourth - variance**2) / samples)
    assert float(drawn.var()) == pytest.approx(variance, abs=5 * error + 1e-4 * variance)


class Categorical:
    """An estimator of dE f(z)/d(logits) of a categorical variable: z is one-hot, f quadratic."""

    stochastic = True

    def __init__(self, seed, size, kind):
        torch.manual_seed(seed)
        q, self.c, self.eta = torch.randn(size, size), torch.randn(size), torch.randn(size)
        self.c, self.eta, self.a = self.c.double(), self.eta.double(), (q.T @ q).double()
        self.kind = kind
        self.p = self.eta.softmax(0)
        unit = torch.eye(size, dtype=torch.float64)
        self.losses = ((unit @ self.a) * unit).sum(1) + unit @ self.c

    def truth(self):
        return {"eta": back_softmax(self.p, self.losses)}

    def direction(self, task, batch, samples):
        generator = task.stream("categorical")
        size = len(self.eta)
        z = torch.zeros(size, dtype=torch.float64)
        k = int(generator.choice(size, p=self.p.numpy()))
        z[k] = 1
        slope = 2 * self.a @ z + self.c
        if self.kind == "ST":
            return {"eta": back_softmax(self.p, slope)}
        if self.kind.startswith("ReinMax"):
            middle = (z + (self.eta / float(self.kind.split()[1])).softmax(0)) / 2
            return {"eta": 2 * back_softmax(middle, slope) - back_softmax(self.p, slope) / 2}
        tau = 0.1  # Gumbel-Rao: noises given that the k-th is the largest
        times = torch.from_numpy(generator.exponential(size=(100, size)))
        least = times[:, k : k + 1].clone()  # of all: of rate 1, as the probabilities sum up to it
        gumbel = -(times / self.p + least).log()
        gumbel[:, k] = -least[:, 0].log()
        y = (gumbel / tau).softmax(1)
        return {"eta": (y * (slope - (y @ slope)[:, None])).mean(0) / tau}


def back_softmax(p, slope):
    return p * (slope - p @ slope)


CATEGORICAL = {
    (4, 0): {"ST": (0.27808, 0.7724), "ReinMax 1": (0, 13.786), "ReinMax 2": (0.05515, 1.6556),
             "Gumbel-Rao": (0.0176, 10.87)},
    (4, 1): {"ST": (0.081071, 0.27009), "ReinMax 1": (0, 1.5338), "ReinMax 2": (0.05184, 2.0887),
             "Gumbel-Rao": (0.00066, 1.601)},
    (8, 0): {"ST": (2.745, 17.852), "ReinMax 1": (0, 77.528), "ReinMax 2": (0.3026, 74.255),
             "Gumbel-Rao": (0.0052, 84.6)},
}  # fmt: skip
"""Hooper and Shekhovtsov (2026): squared bias and variance of one categorical variable, once the mean of
the estimates has the norm of the truth."""


@pytest.mark.parametrize(
    ("size", "seed", "kind"), [(*place, kind) for place, rows in CATEGORICAL.items() for kind in rows]
)
def test_what_is_free_of_scale_is_as_published(size, seed, kind):
    """The estimators of a categorical variable are written out here; the measures are the package's."""
    estimator = Categorical(seed, size, kind)
    truth, repeats = estimator.truth(), 6_000
    model = nn.Module()
    model.eta = nn.Parameter(estimator.eta)
    task = OneBatch(model, None, torch.zeros(1), torch.zeros(1), 0)
    (row,) = gradient_quality(task, task.batch(1), estimator, truth, [1], repeats)
    squared = float(truth["eta"].norm()) ** 2
    bias, variance = CATEGORICAL[size, seed][kind]
    # The error of the mean, of a vector; that of a variance, of draws whose kurtosis is up to some 30.
    mean_error = math.sqrt(variance / repeats)
    assert math.sqrt(squared) * row.scale_free_bias == pytest.approx(math.sqrt(bias), abs=4 * mean_error)
    relative = 5 * math.sqrt(30 / repeats)
    assert squared * row.scale_free_deviation**2 == pytest.approx(variance, rel=relative)


@pytest.fixture(scope="module")
def widths():
    """Case D at an eighth of the examples, of one network; NES at 32 units."""
    rows = {
        width: published_discrete.by_width(width, 1, 20_000, (500,) if width == 32 else (500, 5_000))
        for width in (4, 32)
    }
    return {
        width: {(row.estimator, row.n, row.layer): row.cosine for row in of_width}
        for width, of_width in rows.items()
    }


def test_surrogates_by_width(widths):
    """At 32 units the steeper ones are nearer to CDG than the clipped one, and NES is far; at 4 units it
    is the other way round. Of layer 2, in which the sampling error of CDG is small."""
    names = published_discrete.SURROGATES
    wide, narrow = ({name: widths[width][name, 1, 2] for name in names} for width in (32, 4))
    assert wide["vanilla"] < min(wide["steep"], wide["SwishSign"], wide["polynomial"])
    assert narrow["vanilla"] > max(narrow["steep"], narrow["SwishSign"], narrow["polynomial"])
    for name, cosine in wide.items():
        assert cosine == pytest.approx(published_discrete.WIDTHS[32][name][1][1], abs=0.05)
    for layer in (1, 2, 3):
        assert widths[32]["NES", 500, layer] < 0.2
    assert widths[4]["NES", 5000, 3] > max(
        widths[4][name, 1, 3] for name in published_discrete.SURROGATES
    )


def test_ternary_units_are_nearer_to_cdg_than_binary_ones():
    by_levels = {
        levels: [row.cosine for row in published_discrete.by_precision(0.1, levels, 1, 20_000)]
        for levels in (2, 3)
    }
    assert len(by_levels[2]) == 3
    assert all(b < t for b, t in zip(by_levels[2], by_levels[3], strict=True))
