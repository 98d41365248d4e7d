"""The exact loss curve over many flips, and of any shape of network or batch."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
import torch
from numba.core.caching import InTreeCacheLocator, UserWideCacheLocator
from torch import nn

from srste.curve.engine import follower as following
from srste.curve.engine.kernels import compiling
from srste.curve.engine.kernels.cache_folder import KernelLocator, digest
from srste.curve.engine.link_table import _grid, rounded
from srste.curve.network.base import Dense
from srste.networks.activations import BinaryActivation
from tests import oracle
from tests.curves import a_case, as_oracle, make, normalised
from tests.lines import loss_curve


def network(*widths):
    """Layers of these widths, the inputs first, and a case for it: model, direction, x, y."""
    torch.manual_seed(sum(widths))
    layers = []
    for inputs, outputs in itertools.pairwise(widths):
        layers += [nn.Linear(inputs, outputs), BinaryActivation()]
    model = nn.Sequential(*layers[:-1]).double()
    direction = {name: torch.randn_like(p) for name, p in model.named_parameters()}
    x, y = torch.randn(7, widths[0]).double(), torch.randn(7, widths[-1]).double()
    return model, normalised(direction, "row"), x, y


def assert_close_to_brute_force(case, bias, lr_max, count=60):
    """To 1e-12 of the size of the terms, at random rates that are no breakpoints. Returns the curve."""
    curve = loss_curve(*case, lr_max=lr_max)
    net, g, inputs, targets = as_oracle(*case, bias)
    lrs = np.random.default_rng(0).uniform(0, lr_max, count)
    clear = [t for t in lrs if oracle.distance_to_breakpoint(net, g, inputs, t) > 1e-10]
    assert len(clear) > count / 2
    expected = oracle.brute_force(net, g, inputs, targets, clear)
    tolerance = 1e-13 * oracle.scale(net, g, inputs, targets, lr_max)
    np.testing.assert_allclose(curve(clear), expected, rtol=1e-12, atol=tolerance)
    return curve


def test_rounding_does_not_pile_up_over_many_flips():
    case = make(**a_case(seed=1, width=200, depth=6, out=1, bias=True, batch=1, how="none"))
    curve = assert_close_to_brute_force(case, bias=True, lr_max=3.0)
    assert curve.breakpoints.size > 400


def test_examples_with_the_same_signs_flip_together_whatever_turned_before():
    """The first layer's units all fall by t = 0.7, for each example in an order of its own; then all
    examples have the same signs, and the second layer's flips coincide to the bit."""
    model, direction, _, _ = network(1, 50, 30, 1)
    with torch.no_grad():
        model[0].bias.abs_()
        model[0].weight.mul_(0.1)
        direction["0.weight"].zero_()
        direction["0.bias"].copy_(model[0].bias + 1)
    x = torch.linspace(-1, 1, 20).double()[:, None]
    curve = loss_curve(model, direction, x, torch.zeros(20, 1).double(), lr_max=40.0)
    late = curve.breakpoints[curve.breakpoints > 0.7]
    assert late.size > 3
    assert (np.diff(late) > 1e-9).all()


@pytest.mark.parametrize(
    "widths",
    [(3, 300, 2), (5, 70, 3, 130, 2), (4, 1, 1, 6), (200, 64, 65, 1), (3, *[24] * 10, 1), (2, 3, 400)],
)
def test_any_widths(widths):
    assert_close_to_brute_force(network(*widths), bias=True, lr_max=1.0)


def exactly_summable(weights, bias):
    """(out, in) weights and (out,) biases as they are rounded before sums over signs."""
    columns, beginning = np.repeat(weights.T, 2, axis=1), np.repeat(bias, 2)[None]
    grid = _grid([Dense(columns)], beginning, len(bias))
    return rounded(columns, grid)[:, ::2].T, rounded(beginning, grid)[0, ::2]


def test_sums_over_signs_are_exact():
    """In fractions, with weights of very different sizes; and float32 weights stay as they are."""
    rng = np.random.default_rng(0)
    before = rng.normal(size=(5, 40)) * 10.0 ** rng.integers(-9, 9, (5, 40)), rng.normal(size=5)
    weights, bias = exactly_summable(*before)
    signs = np.where(rng.normal(size=40) > 0, 1.0, -1.0)
    for row in range(5):
        terms = [*(signs * weights[row]), bias[row]]
        assert Fraction(sum(terms)) == sum(Fraction(term) for term in terms)
        allowed = 2.0**-51 * (np.abs(before[0][row]).sum() + abs(before[1][row]))
        assert np.abs(weights[row] - before[0][row]).max() <= allowed
        assert abs(bias[row] - before[1][row]) <= allowed

    single = rng.normal(size=(33, 32)).astype(np.float32).astype(np.float64)
    np.testing.assert_array_equal(exactly_summable(single, 0 * single[:, 0])[0], single)


def test_a_linear_model_has_one_piece():
    model, direction, x, y = network(4, 3)
    curve = assert_close_to_brute_force((model, direction, x, y), bias=True, lr_max=1.0)
    assert curve.breakpoints.size == 0
    zeros = {name: torch.zeros_like(g) for name, g in direction.items()}
    assert loss_curve(model, zeros, x, y).minimum().loss == pytest.approx(curve.pre_loss, rel=1e-15)


def test_the_curve_is_the_mean_over_its_examples():
    case = a_case(seed=2, width=9, depth=3, out=2, bias=True, batch=40, how="tensor")
    model, direction, x, y = make(**case)
    lrs = np.linspace(0, 0.5, 3001)
    one_by_one = [loss_curve(model, direction, x[k : k + 1], y[k : k + 1])(lrs) for k in range(40)]
    together = loss_curve(model, direction, x, y)
    np.testing.assert_allclose(together(lrs), np.mean(one_by_one, axis=0), rtol=1e-12)


@pytest.mark.parametrize("examples", [1, 2, 7, 40])
def test_blocks_of_any_size_give_the_same(examples, monkeypatch):
    case = make(**a_case(seed=3, width=9, depth=3, out=2, bias=True, batch=41, how="row"))
    lrs = np.linspace(0, 0.5, 3001)
    at_once = loss_curve(*case)
    monkeypatch.setattr(following, "_BLOCK", 1)
    monkeypatch.setattr(following, "_FEWEST", examples)
    in_blocks = loss_curve(*case)
    np.testing.assert_allclose(in_blocks(lrs), at_once(lrs), rtol=1e-12)
    np.testing.assert_allclose(in_blocks.breakpoints, at_once.breakpoints, rtol=1e-12)


def test_the_same_bits_again_whatever_came_between():
    case = make(**a_case(seed=4, width=20, depth=3, out=1, bias=True, batch=30, how="row"))
    lrs = np.linspace(0, 0.5, 1001)
    first = loss_curve(*case)
    before = first(lrs)
    for width, batch in ((50, 100), (2, 3)):
        other = a_case(seed=5, width=width, depth=2, out=3, bias=False, batch=batch, how="row")
        loss_curve(*make(**other))
    again = loss_curve(*case)
    np.testing.assert_array_equal(again(lrs), before)
    np.testing.assert_array_equal(first(lrs), before)
    assert again.minimum() == first.minimum()


@pytest.mark.parametrize("scale", [2.0**-100, 2.0**100])
def test_the_scale_of_a_hidden_layer_changes_nothing(scale):
    model, direction, x, y = make(
        **a_case(seed=6, width=8, depth=3, out=1, bias=False, batch=20, how="row")
    )
    lrs = np.linspace(0, 0.5, 1001)
    before = loss_curve(model, direction, x, y)(lrs)
    with torch.no_grad():
        for name, parameter in list(model.named_parameters())[:-1]:
            parameter.mul_(scale)
            direction[name] *= scale
    np.testing.assert_array_equal(loss_curve(model, direction, x, y)(lrs), before)


@pytest.mark.parametrize("falls_first", [True, False])
def test_flips_at_one_float_keep_their_order_on_the_real_line(falls_first):
    """One unit falls just after the float below 1, the other rises at 1: both have flipped at the float
    1, and that is a point where the loss is attained."""
    below = np.nextafter(1.0, 0.0)
    order = [0, 1] if falls_first else [1, 0]
    model = nn.Sequential(nn.Linear(1, 2, bias=False), BinaryActivation(), nn.Linear(2, 1, bias=False))
    model = model.double()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[below], [-1.0]])[order])
        model[2].weight.copy_(torch.tensor([[1.0, -1.0]])[:, order])  # 2 before, -2 after
    down = torch.tensor([[1.0], [-1.0]]).double()[order]
    one = torch.ones(1, 1).double()

    def curve(slope, target):
        moving = {"0.weight": down, "2.weight": slope * torch.tensor([[1.0, -1.0]]).double()[:, order]}
        return loss_curve(model, moving, one, target * one, lr_max=2.0)

    # After: -2 + 0.2 t, target -3, rising from 1 on; before: far off.
    rising = curve(0.1, -3.0)
    np.testing.assert_array_equal(rising.breakpoints, [1.0])
    assert (rising.minimum().lr, rising.minimum().attained) == (1.0, True)
    # Before: 2 + 0.2 t, target 3, falling up to the float below 1, which still belongs to it.
    falling = curve(-0.1, 3.0)
    assert (falling.minimum().lr, falling.minimum().attained) == (below, True)


def test_arrays_may_lie_in_memory_as_they_like():
    case = a_case(seed=7, width=6, depth=2, out=3, bias=True, batch=10, how="tensor")
    model, direction, x, y = make(**case)
    curve = loss_curve(model, direction, x.T.contiguous().T, y.T.contiguous().T)
    lrs = np.linspace(0, 0.5, 64)
    expected = loss_curve(model, direction, x, y)(lrs)
    np.testing.assert_array_equal(curve(lrs), expected)
    frozen = lrs.copy()
    frozen.flags.writeable = False
    np.testing.assert_array_equal(curve(frozen), expected)
    np.testing.assert_array_equal(curve(lrs[::-1]), expected[::-1])
    np.testing.assert_array_equal(curve(lrs.reshape(8, 8).T), expected.reshape(8, 8).T)
    np.testing.assert_array_equal(curve([0]), expected[:1])
    np.testing.assert_array_equal(lrs, np.linspace(0, 0.5, 64))
    assert curve([]).shape == (0,)


class TestCache:
    """Where compiled code cannot be kept, it is compiled for the process."""

    @staticmethod
    def doubled():
        @compiling.compiled
        def double(number: float) -> float:
            return 2 * number

        return double(21.0)

    def test_nowhere_to_write(self, monkeypatch):
        monkeypatch.setattr("numba.config.CACHE_DIR", "")
        monkeypatch.setattr("numba.config.CACHE_LOCATOR_CLASSES", "")
        monkeypatch.setattr(KernelLocator, "from_function", lambda *_: None)
        for elsewhere in (InTreeCacheLocator, UserWideCacheLocator):
            monkeypatch.setattr(elsewhere, "from_function", lambda *_: None)
        assert self.doubled() == 42

    def test_in_the_user_s_cache(self, monkeypatch, tmp_path):
        monkeypatch.setattr("numba.config.CACHE_DIR", "")
        monkeypatch.setattr("numba.config.CACHE_LOCATOR_CLASSES", "")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert self.doubled() == 42
        (folder,) = (tmp_path / "srste").iterdir()
        assert folder.name == f"kernels-{digest()}" and list(folder.glob("*.nbc"))
        saved = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
        assert self.doubled() == 42  # loaded
        assert saved == {path: path.stat().st_mtime_ns for path in folder.iterdir()}

    def test_a_full_disk(self, monkeypatch):
        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("numba.core.caching.IndexDataCacheFile.save", full)
        monkeypatch.setattr("numba.core.caching.IndexDataCacheFile.load", lambda *_: None)
        assert self.doubled() == 42

    def test_a_damaged_file(self, monkeypatch):
        def damaged(*_):
            raise EOFError("Ran out of input")

        monkeypatch.setattr("numba.core.caching.IndexDataCacheFile.load", damaged)
        assert self.doubled() == 42
