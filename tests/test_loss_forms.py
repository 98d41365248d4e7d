"""Which losses are exact, PyTorch's among them, and how large each can be."""

from __future__ import annotations

import functools
import itertools
import re

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn
from torch.nn import functional

from srste.curve import NotExactError
from srste.losses import AbsoluteError, CrossEntropy, Logistic, SquaredError
from tests.lines import curve_and_reason, loss_curve, replayed
from tests.support import CONF, choices
from tests.test_curve_losses import LOSSES, case

SAME = {
    "squared": [
        nn.MSELoss(),
        functional.mse_loss,
        functools.partial(functional.mse_loss, reduction="mean"),
    ],
    "absolute": [nn.L1Loss(), functional.l1_loss],
    "logistic": [nn.SoftMarginLoss(), functional.soft_margin_loss],
    "cross-entropy": [nn.CrossEntropyLoss(), functional.cross_entropy],
}


@pytest.mark.parametrize("name", SAME)
def test_pytorch_s_are_exact(name):
    parts = case(name, 5, 4, 2, 2, True, 12, "tensor")
    expected = loss_curve(*parts, 0.5, LOSSES[name])
    lrs = np.linspace(0, 0.5, 9)
    for loss in SAME[name]:
        curve, why = curve_and_reason(*parts, 0.5, loss)
        assert (curve.exact, why) == (True, "")
        np.testing.assert_array_equal(curve(lrs), expected(lrs))
        assert curve.minimum() == expected.minimum()
        assert curve.pre_loss == pytest.approx(loss(parts[0](parts[2]), parts[3]).item(), rel=1e-12)
        assert replayed(*parts, 0.1, float(curve(0.1)), loss).explained


class Subclass(nn.MSELoss):
    pass


def hooked():
    loss = nn.MSELoss()
    loss.register_forward_hook(lambda _, __, result: 2 * result)
    return loss


class Unhashable:
    __hash__ = None

    def __call__(self, outputs, targets):
        return (outputs - targets).abs().sum()


WEIGHTS = torch.tensor([1.0, 2.0, 3.0]).double()
SUMMED = functools.partial(functional.mse_loss, reduction="sum")
OTHERS = {
    "a sum": (
        nn.MSELoss(reduction="sum"),
        r"^MSELoss\(reduction='sum'\) has .* srste\.losses\.SquaredError\(\)$",
    ),
    "part of one": (SUMMED, r"^mse_loss\(reduction='sum'\) has .* srste\.losses\.SquaredError\(\)$"),
    "absolute": (nn.L1Loss(reduction="sum"), r"^L1Loss\(.* pass srste\.losses\.AbsoluteError\(\)$"),
    "smoothed": (
        nn.CrossEntropyLoss(label_smoothing=0.1),
        r"^CrossEntropyLoss\(label_smoothing=0\.1\) has no exact form; .*\.CrossEntropy\(\)$",
    ),
    "weighted": (nn.CrossEntropyLoss(weight=WEIGHTS), r"\(weight=\.\.\.\) has no exact form; "),
    "ignoring": (nn.CrossEntropyLoss(ignore_index=0), r"\(ignore_index=0\) has no exact form; "),
    "two settings": (
        nn.CrossEntropyLoss(WEIGHTS, reduction="sum"),
        r"\(reduction='sum', weight=\.\.\.\)",
    ),
    "another": (nn.HuberLoss(), "^HuberLoss has no exact form$"),
    "a subclass": (Subclass(), "^Subclass has no exact form$"),
    "with a hook": (hooked(), "^MSELoss has no exact form$"),
    "not hashable": (Unhashable(), "^Unhashable has no exact form$"),
    "a lambda": (lambda o, t: ((o - t) ** 2).mean(), "^<lambda> has no exact form$"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_with_other_settings_they_are_evaluated(name):
    loss, says = OTHERS[name]
    form = "cross-entropy" if isinstance(loss, nn.CrossEntropyLoss) else "squared"
    model, direction, x, y = case(form, 1, 4, 1, 2, True, 9, "tensor")
    curve, why = curve_and_reason(model, direction, x, y, 0.5, loss)
    assert not curve.exact
    assert re.search(says, why)
    assert curve.pre_loss == pytest.approx(loss(model(x), y).item(), rel=1e-9)
    with pytest.raises(NotExactError, match=says):
        replayed(model, direction, x, y, 0.1, 1.0, loss)


def test_targets_that_pytorch_s_take_and_ours_do_not():
    model, direction, x, classes = case("cross-entropy", 1, 4, 1, 2, True, 9, "tensor")
    ignored = torch.where(classes == 0, -100, classes)
    soft = functional.one_hot(classes, 3).double() * 0.9 + 0.1 / 3
    for targets, says in (
        (ignored, "targets must be classes from 0 to 2"),
        (soft, r"targets must be \(9,\) integer classes, not float64 \(9, 3\)"),
    ):
        curve, why = curve_and_reason(model, direction, x, targets, 0.5, nn.CrossEntropyLoss())
        assert not curve.exact
        assert re.search(f"^CrossEntropy: {says}$", why)
        expected = nn.CrossEntropyLoss()(model(x), targets).item()
        assert curve.pre_loss == pytest.approx(expected, rel=1e-9)
        with pytest.raises(ValueError, match=says):
            curve_and_reason(model, direction, x, targets, 0.5, CrossEntropy())


class StatesAForm:
    """A loss of its own that says which form it has, and has another or none."""

    def __init__(self, form):
        self.form = form

    def __call__(self, outputs, targets):
        return ((outputs - targets) ** 4).mean()

    def targets(self, outputs):
        return outputs


@pytest.mark.parametrize("form", ["squared", "huber", "absolute", "", None])
def test_what_a_loss_says_of_itself_makes_it_no_exact_one(form):
    parts = case("squared", 1, 4, 1, 2, True, 9, "tensor")
    loss = StatesAForm(form)
    curve, why = curve_and_reason(*parts, 0.5, loss)
    assert (curve.exact, why) == (False, "StatesAForm has no exact form")
    assert curve.pre_loss == pytest.approx(loss(parts[0](parts[2]), parts[3]).item(), rel=1e-9)
    with pytest.raises(NotExactError, match="StatesAForm has no exact form"):
        replayed(*parts, 0.1, 1.0, loss)


@pytest.mark.parametrize("choice", choices("loss"))
def test_bounds_are_reached_at_some_corner_and_nowhere_passed(choice):
    """All losses are convex in the outputs, so that the largest is at a corner of what they reach."""
    node = OmegaConf.load(CONF / "loss" / f"{choice}.yaml")
    loss = instantiate({"_target_": node._target_})
    generator = torch.Generator().manual_seed(0)
    for size in (1e-3, 1.0, 50.0):
        reach = size * torch.rand(6, 3, generator=generator).double()
        targets = loss.targets(torch.randn(6, 3, generator=generator).double())
        corners = [
            [
                float(loss((reach[k] * torch.tensor(signs))[None], targets[k : k + 1]))
                for signs in itertools.product((-1.0, 1.0), repeat=3)
            ]
            for k in range(6)
        ]
        largest = np.max(corners, axis=1)
        bound = loss.bound(reach, targets).numpy()
        assert (bound >= largest * (1 - 1e-12)).all()
        assert (bound <= largest * (1 + 1e-12)).all()


def test_the_classes_are_those_of_the_configuration():
    kinds = {SquaredError, AbsoluteError, Logistic, CrossEntropy}
    assert {type(loss) for loss in LOSSES.values()} == kinds
    assert len(choices("loss")) == len(kinds)


class FalseLoss(nn.ModuleList):
    """A loss that is a module without parts, so that its truth is false."""

    def forward(self, outputs, targets):
        return ((outputs - targets) ** 4).mean()


def test_a_loss_that_is_false_is_not_taken_for_none():
    parts = case("squared", 1, 4, 1, 2, True, 9, "tensor")
    curve, why = curve_and_reason(*parts, 0.5, FalseLoss())
    assert why == "FalseLoss has no exact form"
    assert curve.pre_loss == pytest.approx(FalseLoss()(parts[0](parts[2]), parts[3]).item(), rel=1e-9)
