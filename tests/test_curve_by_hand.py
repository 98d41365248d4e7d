"""The exact loss curve against cases worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from srste.networks.models.mlp import MLP
from tests.curves import TINY, assert_equals_brute_force, make
from tests.lines import loss_curve


def one_unit(w1, g1, w2, g2, x=1.0, y=0.0, lr_max=2.0):
    """x -> sign(w1 x) -> w2: one example, one unit."""
    model = MLP(1, 1, 1, 1).double()
    with torch.no_grad():
        for parameter, value in zip(model.parameters(), (w1, w2), strict=True):
            parameter.fill_(value)
    names = [name for name, _ in model.named_parameters()]
    direction = {
        n: torch.full((1, 1), g, dtype=torch.float64) for n, g in zip(names, (g1, g2), strict=True)
    }
    as_batch = [torch.tensor([[v]], dtype=torch.float64) for v in (x, y)]
    return loss_curve(model, direction, *as_batch, lr_max=lr_max)


class TestByHand:
    def test_a_unit_that_falls_through_zero_is_still_up_at_zero(self):
        # a = 1 - t: +1 up to and at t = 1. y_hat = +1, then -1.
        curve = one_unit(w1=1, g1=1, w2=1, g2=0, y=-1)
        np.testing.assert_array_equal(curve([0, 0.5, 1, np.nextafter(1, 2), 2]), [4, 4, 4, 0, 0])
        np.testing.assert_array_equal(curve.breakpoints, [np.nextafter(1, 2)])

    def test_a_unit_that_rises_through_zero_is_up_at_zero(self):
        # a = -1 + t: -1 before t = 1, +1 from there.
        curve = one_unit(w1=-1, g1=-1, w2=1, g2=0, y=-1)
        np.testing.assert_array_equal(curve([0, np.nextafter(1, 0), 1, 2]), [0, 0, 4, 4])

    def test_a_minimum_inside_a_piece(self):
        # y_hat = 1 - t, target 0.25: zero loss at t = 0.75.
        assert one_unit(w1=1, g1=0, w2=1, g2=1, y=0.25).minimum() == (0.75, 0.0, True)

    def test_an_infimum_that_is_not_attained(self):
        # For t > 1: y_hat = -(1 + t), target -1, loss t^2, down to 1 as t falls to 1, where it is 9.
        lr, loss, attained = one_unit(w1=1, g1=1, w2=1, g2=-1, y=-1).minimum()
        assert (lr, attained) == (np.nextafter(1, 2), False)
        assert loss == pytest.approx(1, abs=1e-14)

    def test_a_minimum_attained_at_a_breakpoint(self):
        # For t >= 1: y_hat = 1 + t, target 1, loss t^2, lowest at t = 1 itself.
        assert one_unit(w1=-1, g1=-1, w2=1, g2=-1, y=1).minimum() == (1.0, 1.0, True)

    def test_a_limit_from_the_left_is_not_attained(self):
        # For t < 1: y_hat = -(1 - 0.1 t), target 0, falling to 0.81; from t = 1 on y_hat = 1 - 0.1 t
        # with the same loss, so make the target -0.5: left (0.5 - 0.1 t)^2 -> 0.16, right above 1.
        lr, loss, attained = one_unit(w1=-1, g1=-1, w2=1, g2=0.1, y=-0.5, lr_max=1.5).minimum()
        assert (lr, attained) == (np.nextafter(1, 0), False)
        assert loss == pytest.approx(0.16, abs=1e-14)

    def test_no_descent_at_all_has_its_infimum_at_zero(self):
        # y_hat = 1 + t, target 0: the loss only grows; (0, lr_max] does not include 0.
        lr, loss, attained = one_unit(w1=1, g1=0, w2=1, g2=-1, y=0).minimum()
        assert (lr, loss, attained) == (TINY, 1.0, False)

    def test_the_end_of_the_range_belongs_to_it(self):
        assert one_unit(w1=1, g1=0, w2=1, g2=0.1, y=0, lr_max=2.0).minimum()[::2] == (2.0, True)

    def test_of_a_level_stretch_the_smallest_learning_rate_is_taken(self):
        assert one_unit(w1=1, g1=1, w2=1, g2=0, y=-1).minimum() == (np.nextafter(1, 2), 0, True)

    def test_zero_direction(self):
        curve = one_unit(w1=1, g1=0, w2=1, g2=0, y=3)
        np.testing.assert_array_equal(curve(np.linspace(0, 2, 9)), np.full(9, 4.0))
        assert curve.minimum() == (TINY, 4.0, True)
        assert curve.breakpoints.size == 0

    def test_a_pre_activation_of_exactly_zero(self):
        # a = 0 - t: +1 at t = 0 only. a = 0 + t: +1 always. a = 0: +1 always.
        np.testing.assert_array_equal(one_unit(w1=0, g1=1, w2=1, g2=0, y=-1)([0, TINY, 1]), [4, 0, 0])
        np.testing.assert_array_equal(one_unit(w1=0, g1=-1, w2=1, g2=0, y=-1)([0, TINY, 1]), [4] * 3)
        np.testing.assert_array_equal(one_unit(w1=0, g1=0, w2=1, g2=0, y=-1)([0, TINY, 1]), [4] * 3)

    def test_lr_max_before_the_first_breakpoint(self):
        curve = one_unit(w1=1, g1=1, w2=1, g2=0, y=-1, lr_max=0.5)
        assert curve.breakpoints.size == 0
        assert curve.minimum() == (TINY, 4.0, True)

    def test_breakpoints_on_grid_points(self):
        # A unit per grid point: unit k flips at t = k / 8, exactly representable.
        k = np.arange(1, 9)
        model = MLP(1, 8, 1, 1).double()
        names = [name for name, _ in model.named_parameters()]
        with torch.no_grad():
            model[0].weight.copy_(torch.tensor(k / 8)[:, None])
            model[2].weight.fill_(1.0)
        direction = {names[0]: torch.ones(8, 1).double(), names[1]: torch.zeros(1, 8).double()}
        one = torch.ones(1, 1).double()
        curve = loss_curve(model, direction, one, 0 * one, lr_max=1.0)
        # At t = k / 8 unit k is still up: k - 1 units are down, y_hat = 8 - 2 (k - 1).
        np.testing.assert_array_equal(curve(k / 8), (8.0 - 2 * (k - 1)) ** 2)

    def test_two_units_that_cross_at_once_in_opposite_senses(self):
        # At t = 1 itself both are up: y_hat = 2; before and after one is down: y_hat = 0.
        model = MLP(1, 2, 1, 1).double()
        names = [name for name, _ in model.named_parameters()]
        with torch.no_grad():
            model[0].weight.copy_(torch.tensor([[1.0], [-1.0]]))
            model[2].weight.fill_(1.0)
        direction = {
            names[0]: torch.tensor([[1.0], [-1.0]]).double(),
            names[1]: torch.zeros(1, 2).double(),
        }
        one = torch.ones(1, 1).double()
        curve = loss_curve(model, direction, one, 2 * one, lr_max=2.0)
        np.testing.assert_array_equal(
            curve([0.5, np.nextafter(1, 0), 1, np.nextafter(1, 2), 1.5]), [4, 4, 0, 4, 4]
        )
        assert curve.minimum() == (1.0, 0.0, True)

    def test_a_dead_unit_adds_nothing(self):
        case = {
            "seed": 3,
            "width": 4,
            "depth": 2,
            "out": 1,
            "bias": False,
            "batch": 20,
            "how": "none",
            "whole": False,
        }
        model, direction, x, y = make(**case)
        names = [name for name, _ in model.named_parameters()]
        with torch.no_grad():
            model[0].weight[2] = 0  # always +1 ...
            direction[names[0]][2] = 0
        assert_equals_brute_force(model, direction, x, y, False, np.linspace(0, 0.5, 101))

    def test_duplicate_examples_change_nothing(self):
        case = {
            "seed": 5,
            "width": 5,
            "depth": 3,
            "out": 2,
            "bias": True,
            "batch": 7,
            "how": "row",
            "whole": False,
        }
        model, direction, x, y = make(**case)
        lrs = np.linspace(0, 0.5, 1001)
        once = loss_curve(model, direction, x, y)
        thrice = loss_curve(model, direction, x.repeat(3, 1), y.repeat(3, 1))
        np.testing.assert_allclose(thrice(lrs), once(lrs), rtol=1e-13)
        np.testing.assert_array_equal(thrice.breakpoints, once.breakpoints)
