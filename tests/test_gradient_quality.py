"""The quality of gradients, against what is computed by hand and what is published."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
import torch
from torch import nn

import srste
from srste import api
from srste.estimators.base import gradient_of
from srste.estimators.expected_loss import expected_loss
from srste.losses import SquaredError
from srste.networks.units import HardSigmoid
from srste.study.gradient_quality import BAND, discrete_gradient, expected_gradient
from srste.study.gradient_quality import gradient_quality as quality_of
from tests.support import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
import published


@pytest.fixture(scope="module")
def case():
    generator = torch.Generator().manual_seed(4)
    model = nn.Sequential(
        nn.Linear(4, 5),
        srste.BinaryActivation(),
        nn.Linear(5, 3),
        srste.BinaryActivation(),
        nn.Linear(3, 1),
    )  # fmt: skip
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) / 2)
    x, y = torch.randn(30, 4, generator=generator), torch.randn(30, 1, generator=generator)
    return model, x, y


def test_against_loops_over_the_estimates(case):
    """Each number of one layer, in NumPy."""
    model, x, y = case
    counts, repeats = [1, 4], 6
    estimator = api.part("estimator", "reinmax", ["estimator/normalisation=none"])
    task = srste.api.OneBatch(model, SquaredError(), x, y, 0)
    truth = expected_gradient(task, task.batch(1), estimator.units)
    rows = {
        (r.layer, r.samples): r
        for r in quality_of(task, task.batch(1), estimator, truth, counts, repeats)
    }
    singles = []
    for i in range(24):

        class Repeat(srste.api.OneBatch):
            def stream(self, *names, _i=i):
                return super().stream(*names, "repeat", _i)

        one = Repeat(model, SquaredError(), x, y, 0)
        d = estimator.direction(one, one.batch(1), 1)
        singles.append(np.concatenate([d["2.weight"].numpy().ravel(), d["2.bias"].numpy()]))
    t = np.concatenate([truth["2.weight"].numpy().ravel(), truth["2.bias"].numpy()])
    norm = np.linalg.norm(t)
    for n in counts:
        means = np.array(singles, dtype=np.float64).reshape(24 // n, n, -1).mean(1)
        cosines = [m @ t / np.linalg.norm(m) / norm for m in means]
        row = rows["2", n]
        assert row.cosine == pytest.approx(np.mean(cosines), rel=1e-9)
        assert (row.cosine_low, row.cosine_high) == pytest.approx(np.quantile(cosines, BAND), rel=1e-9)
        assert row.rmse == pytest.approx(
            math.sqrt(np.mean([((m - t) ** 2).sum() for m in means])) / norm
        )
        variance = means.var(0, ddof=1).sum()
        squared = ((means.mean(0) - t) ** 2).sum() - variance / len(means)
        assert row.bias == pytest.approx(math.sqrt(max(0, squared)) / norm, abs=1e-9)
        assert row.deviation == pytest.approx(math.sqrt(variance) / norm)
        length = (means.mean(0) ** 2).sum() - variance / len(means)
        if length <= 0:
            assert math.isnan(row.scale_free_deviation)
            continue
        scaled = means * norm / math.sqrt(length)
        assert row.scale_free_deviation == pytest.approx(math.sqrt(scaled.var(0, ddof=1).sum()) / norm)


def test_mean_field_s_published_errors():
    model, x, y = published.psa_network()
    computed = srste.gradient_quality(
        model, x, y, estimator="mean_field", loss=published.logistic_loss, samples=[1]
    )
    layers = [row for row in computed.rows if row.layer]
    assert [f"{row.rmse:.4f}" for row in layers] == ["0.2478", "0.4153", "0.4849", "0.3306"]
    assert [f"{row.cosine:.4f}" for row in layers] == ["0.9954", "0.9109", "0.9382", "0.9533"]
    assert all(row.deviation == 0 for row in layers)
    assert all(row.bias == row.rmse for row in layers)
    assert computed.truth == "the exact gradient of the network of Logistic units"


def test_the_truth_of_a_sign_is_that_of_the_noise_of_its_surrogate(case):
    model, x, y = case
    computed = srste.gradient_quality(model, x, y, estimator="ste", samples=[1])
    assert computed.truth == "the exact gradient of the network of HardSigmoid units"
    exact = gradient_of(
        expected_loss(model.double(), HardSigmoid(), SquaredError(), x.double(), y.double()), model
    )
    model.float()
    g = srste.estimate("ste", model, x, y, overrides=["estimator/normalisation=none"])
    a, b = (torch.cat([t.double().flatten() for t in d.values()]) for d in (g, exact))
    (row,) = [row for row in computed.rows if not row.layer]
    assert row.cosine == pytest.approx(float(nn.functional.cosine_similarity(a, b, dim=0)), abs=1e-5)


@pytest.mark.parametrize("name", ["sr_ste", "swish_sign", "nes"])
def test_without_an_expected_gradient_it_is_the_discrete_one(case, name):
    model, x, y = case
    computed = srste.gradient_quality(model, x, y, estimator=name, samples=[1, 2], repeats=3, radius=0.2)
    assert computed.truth == "the discrete gradient with radius 0.2"
    with pytest.raises(ValueError, match="truth=expected: "):
        srste.gradient_quality(model, x, y, estimator=name, truth="expected")


def test_the_discrete_gradient_is_its_own_truth(case):
    model, x, y = case
    computed = srste.gradient_quality(model, x, y, estimator="cdg", samples=[1])
    assert all(row.cosine == pytest.approx(1) and row.rmse < 1e-6 for row in computed.rows)
    task = srste.api.OneBatch(model, SquaredError(), x, y, 0)
    assert set(discrete_gradient(task, task.batch(1), 0.1)) == set(dict(model.named_parameters()))


def test_a_table_a_picture_and_words(case):
    model, x, y = case
    computed = srste.gradient_quality(model, x, y, estimator="disarm", samples=[1, 10])
    frame = computed.frame()
    assert list(frame["layer"]) == ["", "", "0", "0", "2", "2", "4", "4"]
    assert "n = 10: cosine 0." in repr(computed)
    axes = computed.plot()
    assert axes.get_xscale() == "log"
    assert computed.plot(axes, "rmse") is axes
    with pytest.raises(ValueError, match="quantity='nope': must be one of cosine, "):
        computed.plot(quantity="nope")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"samples": [0]}, "samples=0: must be a whole number >= 1"),
        ({"repeats": 1}, "repeats=1: must be a whole number >= 2"),
        ({"truth": "real"}, "truth='real': must be one of auto, expected, discrete"),
        ({"radius": 0, "truth": "discrete"}, "must be > 0"),
    ],
)
def test_bad_input(case, given, says):
    with pytest.raises(ValueError, match=says):
        srste.gradient_quality(*case, **given)
