"""The compiled curve, held to the reference in rational arithmetic, and that to a brute force."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from srste.curve.reference import ReferenceCurve
from srste.networks.activations import BinaryActivation
from tests import oracle
from tests.curves import as_oracle, make
from tests.lines import loss_curve

CASES = {
    "seed": st.integers(0, 10**6),
    "width": st.integers(1, 4),
    "depth": st.integers(1, 3),
    "out": st.integers(1, 2),
    "bias": st.booleans(),
    "batch": st.integers(1, 5),
    "whole": st.booleans(),
}


@settings(max_examples=60)
@given(**CASES, lr_max=st.sampled_from([0.25, 1.0, 3.0]))
def test_the_kernels(lr_max, **case):
    parts = make(**case, how="none")
    curve, reference = loss_curve(*parts, lr_max), ReferenceCurve(*parts, lr_max)
    scale = float(max(reference(0.0), reference(lr_max)))
    # Not all places are breakpoints: a flip may do nothing to the output.
    places = np.array([float(t) for t, _ in reference.places])
    for t in curve.breakpoints:
        assert np.abs(places - t).min() <= 1e-12 * max(t, 1)
    for lr in np.linspace(0, lr_max, 23)[1:-1] * (1 - 1e-7):
        assert float(curve(lr)) == pytest.approx(float(reference(lr)), rel=1e-12, abs=1e-13 * scale)
    lowest = float(reference.infimum())
    assert curve.minimum().loss == pytest.approx(lowest, rel=1e-11, abs=1e-13 * scale)


@settings(max_examples=30)
@given(**CASES)
def test_the_reference(**case):
    parts = make(**case, how="none")
    network, g, x, y = as_oracle(*parts, case["bias"])
    lrs = np.arange(17) / 16  # with these the brute force too is exact on whole numbers
    expected = oracle.brute_force(network, g, x, y, lrs)
    reference = ReferenceCurve(*parts, 1.0)
    np.testing.assert_allclose([float(reference(lr)) for lr in lrs], expected, rtol=1e-12)


def test_two_units_that_cross_at_once_in_opposite_senses():
    # At t = 1 itself both are up, y_hat = 2; before and after it one is down, y_hat = 0.
    model = nn.Sequential(nn.Linear(1, 2, bias=False), BinaryActivation(), nn.Linear(2, 1, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0], [-1.0]]))
        model[2].weight.fill_(1.0)
    direction = {"0.weight": torch.tensor([[1.0], [-1.0]]), "2.weight": torch.zeros(1, 2)}
    reference = ReferenceCurve(model, direction, torch.ones(1, 1), 2 * torch.ones(1, 1), 2.0)
    assert reference.places == [(0, False), (1, False), (1, True)]
    assert [reference(lr) for lr in (0.5, np.nextafter(1, 0), 1.0, np.nextafter(1, 2))] == [4, 4, 0, 4]
    assert reference.infimum() == 0
