"""The exact loss curve against a float64 brute force."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

from srste.curve import EvaluatedCurve
from srste.losses import SquaredError
from srste.networks.activations import BinaryActivation
from srste.networks.models.mlp import MLP
from tests import oracle
from tests.curves import TINY, as_oracle, assert_equals_brute_force, make, normalised
from tests.lines import loss_curve

shapes = {
    "seed": st.integers(0, 2**31),
    "width": st.integers(1, 6),
    "depth": st.integers(1, 4),
    "out": st.integers(1, 3),
    "bias": st.booleans(),
    "batch": st.integers(1, 12),
}
cases = st.fixed_dictionaries(
    shapes | {"how": st.sampled_from(["tensor", "row", "global", "none"]), "whole": st.just(False)}
)
whole_cases = st.fixed_dictionaries(shapes | {"how": st.just("none"), "whole": st.just(True)})


@settings(max_examples=200)
@given(case=cases, lr_max=st.floats(1e-3, 4.0), picks=st.lists(st.floats(0, 1), max_size=6))
@example(
    case={
        "seed": 1,
        "width": 1,
        "depth": 1,
        "out": 1,
        "bias": False,
        "batch": 1,
        "how": "none",
        "whole": False,
    },
    lr_max=2.0,
    picks=[0.5],
)
def test_equals_the_brute_force(case, lr_max, picks):
    model, direction, x, y = make(**case)
    curve = loss_curve(model, direction, x, y, lr_max)
    network, g, inputs, targets = as_oracle(model, direction, x, y, case["bias"])
    lrs = np.concatenate(([0.0, lr_max], np.array(picks) * lr_max, np.linspace(0, lr_max, 40)))
    # 1e-12 relative; the absolute part, a few roundings of the terms that the loss is made of, matters
    # only where they cancel in it, as in a perfect fit.
    floor = 1e-15 * oracle.scale(network, g, inputs, targets, lr_max)
    clear = [lr for lr in lrs if lr == 0 or oracle.distance_to_breakpoint(network, g, inputs, lr) > 1e-9]
    expected = oracle.brute_force(network, g, inputs, targets, clear)
    np.testing.assert_allclose(curve(clear), expected, rtol=1e-12, atol=floor)
    assert len(clear) >= 20
    assert curve.exact
    assert curve.pre_loss == curve(0.0)


@settings(max_examples=100)
@given(case=cases, lr_max=st.floats(1e-1, 4.0))
def test_within_1e_9_of_a_breakpoint_either_side_is_right(case, lr_max):
    model, direction, x, y = make(**case)
    curve = loss_curve(model, direction, x, y, lr_max)
    network, g, inputs, targets = as_oracle(model, direction, x, y, case["bias"])
    at = curve.breakpoints[:: max(1, curve.breakpoints.size // 20)]
    # The loss moves by less than this over 1e-9 of a piece: its slope is bounded by scale / lr_max.
    size = oracle.scale(network, g, inputs, targets, lr_max)
    tolerance = size * (1e-12 + 1e-8 / lr_max)
    left = oracle.brute_force(network, g, inputs, targets, at - 1e-9)
    right = oracle.brute_force(network, g, inputs, targets, at + 1e-9)
    for lr, found, sides in zip(at, curve(at), np.stack([left, right], 1), strict=True):
        near = np.abs(curve.breakpoints - lr)
        if ((near > 0) & (near < 1e-8)).any():
            continue  # several breakpoints so close that both sides jump more than once
        assert np.abs(sides - found).min() <= tolerance


@settings(max_examples=200)
@given(case=whole_cases, lr_max=st.sampled_from([0.5, 1.0, 2.0, 4.0]))
def test_small_integers_are_exact_even_at_breakpoints(case, lr_max):
    """Integer weights, inputs and directions, learning rates k / 64: the brute force has no rounding
    then, pre-activations are often exactly zero, and many breakpoints lie on the learning rates."""
    model, direction, x, y = make(**case)
    curve = loss_curve(model, direction, x, y, lr_max)
    network, g, inputs, targets = as_oracle(model, direction, x, y, case["bias"])
    lrs = np.arange(0, lr_max + 1 / 128, 1 / 64)
    expected = oracle.brute_force(network, g, inputs, targets, lrs)
    tolerance = 1e-12 * oracle.scale(network, g, inputs, targets, lr_max)
    np.testing.assert_allclose(curve(lrs), expected, rtol=0, atol=tolerance)


@settings(max_examples=80)
@given(case=cases, lr_max=st.floats(1e-2, 4.0))
def test_the_minimum_is_below_a_dense_scan_and_is_a_value_of_the_curve(case, lr_max):
    model, direction, x, y = make(**case)
    curve = loss_curve(model, direction, x, y, lr_max)
    network, g, inputs, targets = as_oracle(model, direction, x, y, case["bias"])
    tolerance = 1e-12 * oracle.scale(network, g, inputs, targets, lr_max)

    lr, lowest, attained = curve.minimum()
    scan = np.linspace(lr_max / 500, lr_max, 500)
    assert 0 < lr <= lr_max
    assert lowest <= oracle.brute_force(network, g, inputs, targets, scan).min() + tolerance
    assert curve(lr) == lowest
    assert isinstance(attained, bool)
    # The brute force sees the same value there or, if rounding moved a breakpoint, right beside it; or
    # only in the crossing itself, where one unit falls as another rises, if almost zero counts as zero.
    near = np.clip([lr, lr - 1e-9, lr + 1e-9], TINY, lr_max)
    around = oracle.brute_force(network, g, inputs, targets, near)
    crossing = oracle.brute_force(network, g, inputs, targets, [lr], zero=1e-13)
    assert np.abs([*(around - lowest), *(crossing - lowest)]).min() <= tolerance * (1 + 1e4 / lr_max)


def test_a_minimum_in_a_crossing_itself():
    """Of width 1 all examples cross at one learning rate, some fall, some rise: all are up there."""
    parts = make(seed=327741, width=1, depth=4, out=2, bias=False, batch=5, how="tensor", whole=False)
    lr, lowest, attained = loss_curve(*parts, 1.0).minimum()
    oracle_parts = as_oracle(*parts, False)
    assert attained
    assert oracle.brute_force(*oracle_parts, [lr], zero=1e-13) == pytest.approx(lowest, rel=1e-9)
    assert (oracle.brute_force(*oracle_parts, [lr - 1e-9, lr + 1e-9]) > 1.1 * lowest).all()


@settings(max_examples=40)
@given(case=cases, lr_max=st.floats(1e-2, 4.0))
def test_order_and_shape_of_the_learning_rates_do_not_matter(case, lr_max):
    curve = loss_curve(*make(**case), lr_max=lr_max)
    lrs = np.linspace(0, lr_max, 60)
    shuffled = np.random.default_rng(case["seed"]).permutation(60)
    np.testing.assert_array_equal(curve(lrs[shuffled]), curve(lrs)[shuffled])
    np.testing.assert_array_equal(curve(lrs.reshape(3, 4, 5)), curve(lrs).reshape(3, 4, 5))
    assert curve(lrs[7]).shape == ()


def test_the_note_s_size_in_float32():
    """1,024 examples, width 32, a per-tensor direction: against the brute force at 60 rates."""
    torch.manual_seed(0)
    model, teacher = MLP(), MLP()
    x = torch.randn(1024, 32)
    y = teacher(x).detach()
    direction = normalised({n: torch.randn_like(p) for n, p in model.named_parameters()}, "tensor")
    network, g, inputs, _ = as_oracle(model, direction, x, y, bias=False)
    lrs = np.random.default_rng(0).uniform(0, 0.5, 60)
    clear = [t for t in lrs if oracle.distance_to_breakpoint(network, g, inputs, t) > 1e-9]
    assert len(clear) > 50
    assert_equals_brute_force(model, direction, x, y, False, clear)


def test_any_sequential_of_linear_and_sign_is_exact():
    torch.manual_seed(1)
    block = nn.Sequential(nn.Linear(4, 3), BinaryActivation())
    model = nn.Sequential(block, nn.Sequential(nn.Linear(3, 2))).double()
    direction = {n: torch.randn_like(p) for n, p in model.named_parameters()}
    x, y = torch.randn(6, 4).double(), torch.randn(6, 2).double()
    assert_equals_brute_force(model, direction, x, y, True, np.linspace(0, 0.5, 50))


def test_one_activation_in_several_places():
    torch.manual_seed(1)
    act = BinaryActivation()
    model = nn.Sequential(nn.Linear(4, 3), act, nn.Linear(3, 3), act, nn.Linear(3, 1)).double()
    direction = {n: torch.randn_like(p) for n, p in model.named_parameters()}
    x, y = torch.randn(6, 4).double(), torch.randn(6, 1).double()
    assert_equals_brute_force(model, direction, x, y, True, np.linspace(0, 0.5, 50))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_any_float_dtype_is_taken_as_it_is(dtype):
    model, direction, x, y = make(3, 4, 2, 1, True, 5, "tensor", False)
    model, x, y = model.to(dtype), x.to(dtype), y.to(dtype)
    direction = {name: g.to(dtype) for name, g in direction.items()}
    network, g, inputs, targets = as_oracle(
        model.double(), {n: d.double() for n, d in direction.items()}, x.double(), y.double(), True
    )
    lrs = np.linspace(0.001, 0.5, 7)
    np.testing.assert_allclose(
        loss_curve(model.to(dtype), direction, x, y)(lrs),
        oracle.brute_force(network, g, inputs, targets, lrs),
        rtol=1e-12,
    )


def unclamped(curve, lrs):
    """The sums of the pieces at learning rates, of which `curve` gives 0 where they are below it."""
    at = np.searchsorted(curve._pieces.starts, lrs, side="right")
    c0, c1, c2 = curve._pieces._table[at, 1:].T
    return (c2 * lrs + c1) * lrs + c0


@settings(max_examples=100)
@given(case=cases)
def test_losses_near_zero(case):
    """From a perfect fit, where all that the sums cancel to is rounding: what is set to 0 for being
    below it is no more than that, and nothing else is."""
    model, direction, x, _ = make(**case)
    with torch.no_grad():
        y = model(x)
    curve = loss_curve(model, direction, x, y, 1.0)
    network, g, inputs, targets = as_oracle(model, direction, x, y, case["bias"])
    clear = [
        t
        for t in np.linspace(0, 1, 200)[1:]
        if oracle.distance_to_breakpoint(network, g, inputs, t) > 1e-9
    ]
    lrs = np.array([0.0, *clear])
    expected = oracle.brute_force(network, g, inputs, targets, lrs)
    allowed = 1e-13 * oracle.scale(network, g, inputs, targets, 1.0)
    sums = unclamped(curve, lrs)
    np.testing.assert_allclose(sums, expected, rtol=0, atol=allowed)
    np.testing.assert_array_equal(curve(lrs), np.maximum(sums, 0))
    assert curve.pre_loss == pytest.approx(0, abs=allowed)
    lowest = curve.minimum().loss
    assert 0 <= lowest <= expected[1:].min(initial=np.inf) + allowed
    assert lowest >= unclamped(curve, np.array([curve.minimum().lr]))[0] - allowed


def test_the_model_is_left_alone():
    model, direction, x, y = make(7, 3, 2, 1, True, 4, "none", False)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    loss_curve(model, direction, x, y).minimum()
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


class TestRefused:
    model, direction, x, y = make(0, 3, 2, 1, False, 4, "none", False)

    def test_a_direction_that_does_not_fit(self):
        with pytest.raises(ValueError, match=r"lacks 0\.weight"):
            loss_curve(
                self.model, {k: v for k, v in self.direction.items() if k != "0.weight"}, self.x, self.y
            )
        wrong = self.direction | {"0.weight": torch.zeros(1)}
        with pytest.raises(ValueError, match=r"0\.weight.* has shape \(1,\), the parameter \(3, 3\)"):
            loss_curve(self.model, wrong, self.x, self.y)

    @pytest.mark.parametrize("bad", [float("nan"), float("inf")])
    def test_values_that_are_not_finite(self, bad):
        spoilt = {k: v.clone() for k, v in self.direction.items()}
        spoilt["2.weight"][0, 0] = bad
        with pytest.raises(
            ValueError, match=r"direction\['2\.weight'\] holds a value that is not finite"
        ):
            loss_curve(self.model, spoilt, self.x, self.y)
        with pytest.raises(ValueError, match="inputs holds"):
            loss_curve(self.model, self.direction, self.x * bad, self.y)
        with pytest.raises(ValueError, match="targets holds"):
            loss_curve(self.model, self.direction, self.x, self.y * bad)

    @pytest.mark.parametrize("lr_max", [0.0, -1.0, float("nan"), float("inf")])
    def test_lr_max(self, lr_max):
        with pytest.raises(ValueError, match=r"lr_max=.* must be > 0 and finite"):
            loss_curve(self.model, self.direction, self.x, self.y, lr_max)

    @pytest.mark.parametrize("lr", [-1e-9, 0.6, float("nan")])
    def test_learning_rates_out_of_range(self, lr):
        with pytest.raises(ValueError, match="is outside"):
            loss_curve(self.model, self.direction, self.x, self.y)([0.1, lr])

    def test_shapes(self):
        with pytest.raises(ValueError, match="inputs must be"):
            loss_curve(self.model, self.direction, self.x[:, :2], self.y)
        with pytest.raises(ValueError, match="inputs must be"):
            loss_curve(self.model, self.direction, self.x[:0], self.y[:0])
        with pytest.raises(ValueError, match="targets must be"):
            loss_curve(self.model, self.direction, self.x, self.y[:, 0])


class TestLearningRatesOfOtherDtypes:
    """`lr_max` itself may lie above it in another dtype."""

    def curves(self, lr_max):
        model, direction, x, y = make(0, 3, 2, 1, False, 4, "none", False)
        return (
            loss_curve(model, direction, x, y, lr_max),
            EvaluatedCurve(model, direction, x, y, lr_max, SquaredError()),
        )

    @pytest.mark.parametrize("lr_max", [0.1, 0.2, 0.3, 0.7, 1.1, 1e-7, 1e-40, 3e-42, 12345.678])
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
    def test_a_grid_that_ends_there(self, dtype, lr_max):
        grid = torch.linspace(0, lr_max, 9, dtype=dtype)
        expected = np.minimum(grid.double().numpy(), lr_max)
        for curve in self.curves(lr_max):
            np.testing.assert_array_equal(curve(grid), curve(expected))
            np.testing.assert_array_equal(curve(grid[-1]), curve(expected[-1]))
            if dtype != torch.bfloat16:
                np.testing.assert_array_equal(curve(grid.numpy()), curve(expected))
                np.testing.assert_array_equal(curve(list(grid.numpy())), curve(expected))

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
    def test_multiples_of_a_step(self, dtype):
        """The step is rounded, and so is the product: 700 times 0.001 is above 0.7 in float32, and above
        what is nearest to it."""
        for count, step in ((700, 1e-3), (300, 1e-3), (7, 0.1), (100, 1e-3)):
            grid = torch.arange(1, count + 1, dtype=dtype) * torch.tensor(step, dtype=dtype)
            for curve in self.curves(count * step)[:1]:
                expected = np.minimum(grid.double().numpy(), count * step)
                np.testing.assert_array_equal(curve(grid), curve(expected))

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
    def test_beyond_their_rounding(self, dtype):
        beyond = torch.tensor(0.1 * (1 + 2.1 * torch.finfo(dtype).eps), dtype=dtype)
        for curve in self.curves(0.1):
            for lr in (beyond, torch.tensor(torch.inf, dtype=dtype), torch.tensor(-1e-7, dtype=dtype)):
                with pytest.raises(ValueError, match=r"is outside \[0, lr_max=0\.1\]"):
                    curve(lr)
        for curve in self.curves(1e39):  # infinite in all of them
            with pytest.raises(ValueError, match="learning rate inf is outside"):
                curve(torch.tensor(torch.inf, dtype=dtype))

    def test_in_float64_there_is_none(self):
        for curve in self.curves(0.1):
            beyond = np.nextafter(0.1, 1)
            for lr in (beyond, float(beyond), [0.05, beyond], torch.from_numpy(np.array([beyond]))):
                with pytest.raises(ValueError, match="is outside"):
                    curve(lr)

    def test_what_is_given_is_not_written(self):
        grid = torch.linspace(0, 0.1, 5)
        array, before = grid.numpy(), grid.clone()
        for curve in self.curves(0.1):
            curve(grid)
            curve(array)
        assert torch.equal(grid, before)
