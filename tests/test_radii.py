"""Estimators by differences of the loss at many radii, against one radius at a time."""

from __future__ import annotations

import math

import matplotlib
import numpy as np
import pytest
import torch
from torch import nn

import srste
from srste import api
from srste.estimators.base import no_norm
from srste.estimators.coordinate_difference import CoordinateDifference
from srste.losses import SquaredError
from srste.networks.activations import BinaryActivation
from srste.problem.task import OneBatch
from srste.study.gradient_quality import BAND, Repeated
from srste.study.radii import slopes

NAMES = ["nes", "spsa", "guided_es", "fogzo"]
RADII = [0.003, 0.1, 0.7, 2.5]


def case(seed=0, middle=BinaryActivation):
    torch.manual_seed(seed)
    layers = nn.Linear(4, 6), BinaryActivation(), nn.Linear(6, 5), middle(), nn.Linear(5, 1)
    model = nn.Sequential(*layers)
    return model.double(), torch.randn(50, 4).double(), torch.randn(50, 1).double()


@pytest.mark.parametrize("name", NAMES)
def test_each_radius_is_that_of_the_estimator_with_it(name):
    model, x, y = case()
    computed = srste.radius_quality(
        model, x, y, estimator=name, radii=RADII, samples=2, repeats=5, overrides=["estimator.pairs=3"]
    )
    assert computed.exact
    assert [row.radius for row in computed.rows] == RADII
    task = OneBatch(model, SquaredError(), x, y, 0)
    truth = CoordinateDifference(no_norm, 0.1).direction(task, task.batch(1), 1)
    t = torch.cat([g.flatten() for g in truth.values()]).numpy()
    for row in computed.rows:
        overrides = [
            "estimator.pairs=3", f"estimator.radius={row.radius}", "estimator/normalisation=none"
        ]  # fmt: skip
        estimator = api.part("estimator", name, overrides)
        estimates = []
        for i in range(5):
            one = estimator.direction(Repeated(task, "repeat", i), task.batch(1), 2)
            estimates.append(torch.cat([g.flatten() for g in one.values()]).numpy())
        cosines = [e @ t / np.linalg.norm(e) / np.linalg.norm(t) if e.any() else 0.0 for e in estimates]
        assert row.cosine == pytest.approx(np.mean(cosines), abs=1e-9)
        assert (row.cosine_low, row.cosine_high) == pytest.approx(np.quantile(cosines, BAND), abs=1e-9)
        errors = [((e - t) ** 2).sum() for e in estimates]
        assert row.rmse == pytest.approx(math.sqrt(np.mean(errors)) / np.linalg.norm(t), rel=1e-9)


def test_without_an_exact_curve_it_is_by_passes():
    model, x, y = case(middle=nn.Tanh)
    task = OneBatch(model, SquaredError(), x, y, 0)
    v = {name: torch.randn_like(p) for name, p in model.named_parameters()}
    given, exact = slopes(task, task.batch(1), v, RADII)
    assert not exact
    for e, slope in zip(RADII, given, strict=True):
        losses = []
        for sign in (1, -1):
            moved = {n: p.detach() + sign * e * v[n] for n, p in model.named_parameters()}
            with torch.no_grad():
                losses.append(float(((torch.func.functional_call(model, moved, (x,)) - y) ** 2).mean()))
        assert slope == pytest.approx((losses[0] - losses[1]) / (2 * e), rel=1e-9)


def test_parameters_that_are_not_to_move_stay():
    model, x, y = case()
    model[0].bias.requires_grad_(False)
    task = OneBatch(model, SquaredError(), x, y, 0)
    estimator = api.part("estimator", "spsa", ["estimator.pairs=2"])
    drawn = list(estimator.directions(task, task.batch(1), 3))
    assert len(drawn) == 6
    assert all(not v["0.bias"].any() and v["0.weight"].abs().eq(1).all() for v in drawn)
    assert srste.radius_quality(model, x, y, radii=[0.1], samples=1, repeats=2).exact


def test_a_table_a_picture_and_words():
    computed = srste.radius_quality(*case(), radii=[0.5, 0.05], samples=3, repeats=3)
    frame = computed.frame()
    assert [*frame["radius"]] == [0.05, 0.5]
    assert computed.best.cosine == frame["cosine"].max()
    matplotlib.use("Agg")
    axes = computed.plot()
    assert axes.get_xscale() == "log"
    assert axes.get_title() == "against the discrete gradient with radius 0.1"
    assert repr(computed).startswith(
        "<spsa, n = 3, at 2 radii by exact loss curves, against the discrete"
    )


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"estimator": "ste"}, "estimator='ste': must be one of fogzo, guided_es, nes, spsa"),
        ({"radii": [0.1, 0]}, r"radii=\[0.1, 0\]: must be numbers > 0"),
        ({"radii": []}, r"radii=\[\]: must be numbers > 0"),
        ({"repeats": 1}, "repeats=1: must be a whole number >= 2"),
        ({"samples": 0}, "samples=0: must be a whole number >= 1"),
    ],
)
def test_bad_arguments(given, says):
    with pytest.raises(ValueError, match=says):
        srste.radius_quality(*case(), **given)
