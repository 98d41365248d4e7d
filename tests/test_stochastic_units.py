"""Stochastic binary units, the slopes that see their draws, and the surrogates that belong to them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import yaml
from scipy import integrate, stats

from srste import api
from srste.launch.job_config import build
from srste.networks.activations import BinaryActivation, BinaryStep
from srste.networks.draws import Draw, GumbelRao, GumbelST, Matched, ReinMax
from srste.networks.estimating import estimating
from srste.networks.rounding import Sign, StochasticRounding
from srste.networks.surrogates import Clipped, Identity, Polynomial, SwishSign, matched_units
from srste.networks.units import HardSigmoid, Logistic, Triangular
from srste.randomness import stream
from tests.support import CONF, choices

A = torch.linspace(-3, 3, 601, dtype=torch.float64)
NOISE = {
    "logistic": (Logistic(), stats.logistic()),
    "narrow logistic": (Logistic(0.3), stats.logistic(scale=0.3)),
    "uniform": (HardSigmoid(), stats.uniform(-1, 2)),
    "wide uniform": (HardSigmoid(2.5), stats.uniform(-2.5, 5)),
    "triangular": (Triangular(), stats.triang(0.5, -1, 2)),
}


@pytest.mark.parametrize("name", NOISE)
def test_a_unit_is_the_sign_of_its_pre_activation_and_noise(name):
    """P(a + noise >= 0), and its derivative, by SciPy's distributions."""
    units, noise = NOISE[name]
    np.testing.assert_allclose(units.probability(A).numpy(), noise.sf(-A.numpy()), atol=1e-14)
    inside = np.abs(np.abs(A.numpy()) - getattr(units, "width", 1)) > 1e-9  # at a jump either will do
    expected = noise.pdf(-A.numpy())
    np.testing.assert_allclose(units.slope(A).numpy()[inside], expected[inside], atol=1e-14)


@pytest.mark.parametrize("name", NOISE)
def test_draws_are_as_frequent_as_they_are_probable(name):
    units, _ = NOISE[name]
    a, draws = torch.linspace(-1.5, 1.5, 7), 40_000
    ups = (units(a.repeat(draws, 1), stream(1, name)) > 0).double().mean(0)
    p = units.probability(a.double())
    assert ((ups - p).abs() <= 5 * torch.sqrt(p * (1 - p) / draws) + 1e-7).all()


def test_the_slope_of_stochastic_rounding_is_that_of_its_probability():
    """1 / max(A) above zero and 1 / |min(A)| below, over two."""
    a = torch.tensor([[0.5, -0.25], [2.0, -4.0], [0.0, 1.0]], dtype=torch.float64)
    slope = StochasticRounding().slope(a)
    expected = [[0.25, 0.125], [0.25, 0.125], [0.125, 0.25]]
    np.testing.assert_allclose(slope.numpy(), expected)
    fixed = a.clone()
    fixed[0] += torch.tensor([1e-6, -1e-6], dtype=torch.float64)  # neither is an extreme
    rise = StochasticRounding().probability(fixed) - StochasticRounding().probability(a)
    np.testing.assert_allclose((rise[0] / torch.tensor([1e-6, -1e-6])).numpy(), expected[0], rtol=1e-6)
    assert StochasticRounding().slope(a.abs() + 0.1).isfinite().all()
    assert not StochasticRounding().slope(torch.zeros(2, 2)).any()


@pytest.mark.parametrize("name", choices("estimator/surrogate"))
def test_a_surrogate_s_units_have_its_slope(name):
    """Up to a factor, which is 2 for those of unit width."""
    node = yaml.safe_load((CONF / "estimator" / "surrogate" / f"{name}.yaml").read_text())
    surrogate = build(node)
    units = matched_units(surrogate)
    if units is None:
        others = "identity swish_sign reste polynomial ewgs matched reinmax gumbel_st gumbel_rao"
        assert name in others.split()
        return
    slope, density = surrogate(A), units.slope(A)
    factor = slope[300] / density[300]
    assert factor > 0
    torch.testing.assert_close(slope, factor * density, rtol=1e-12, atol=1e-14)
    if name in ("clipped", "tanh", "approx_sign"):
        assert factor == pytest.approx(2, rel=1e-12)


def test_surrogates_without_units():
    assert SwishSign()(torch.tensor([1.5])) < 0
    assert all(matched_units(s) is None for s in (SwishSign(), Identity(), Polynomial()))


def slopes(surrogate, units, p, draws=200_000):
    """(draws as 0 and 1, slopes) of that many units of that probability."""
    a = torch.full((draws,), math.log(p / (1 - p)), dtype=torch.float64)
    draw = Draw.of(units, a, stream(7))
    return (draw.values + 1) / 2, surrogate(draw)


@pytest.mark.parametrize("p", [0.07, 0.5, 0.8])
def test_slopes_at_a_draw(p):
    """Each by its published formula, of b = 0 or 1; q = 2 b - 1 has twice the slope."""
    b, matched = slopes(Matched(), Logistic(), p)
    np.testing.assert_allclose(matched.numpy(), 2 * p * (1 - p), rtol=1e-12)
    _, reinmax = slopes(ReinMax(), Logistic(), p)
    np.testing.assert_allclose(reinmax.numpy(), p * (1 - p) / np.where(b == 1, p, 1 - p), rtol=1e-12)
    _, general = slopes(ReinMax(tau=1.0000001), Logistic(), p)
    np.testing.assert_allclose(general.numpy(), reinmax.numpy(), rtol=1e-5)
    tau = 2.5
    _, warm = slopes(ReinMax(tau=tau), Logistic(), p)
    p_tau = 1 / (1 + ((1 - p) / p) ** (1 / tau))
    pi = (p_tau + b.numpy()) / 2
    np.testing.assert_allclose(warm.numpy(), 2 * (2 * pi * (1 - pi) - p * (1 - p) / 2), rtol=1e-10)


@pytest.mark.parametrize("tau", [0.3, 1.0, 2.0])
def test_gumbel_slopes_are_those_of_the_relaxed_unit(tau):
    """Given b, the noise n of a + n has the logistic density on the side of b: by quadrature."""
    p = 0.3
    a = math.log(p / (1 - p))

    def given(up):
        def weighted(n):
            y = 1 / (1 + math.exp(-(a + n) / tau))
            return 2 * y * (1 - y) / tau * math.exp(-n) / (1 + math.exp(-n)) ** 2

        low, high = (-a, 60.0) if up else (-60.0, -a)
        return integrate.quad(weighted, low, high, limit=200)[0] / (p if up else 1 - p)

    for surrogate in (GumbelST(tau), GumbelRao(tau, draws=4)):
        b, slope = slopes(surrogate, Logistic(), p)
        for up in (0, 1):
            of_side = slope[b == up]
            error = float(of_side.std()) / math.sqrt(len(of_side))
            assert float(of_side.mean()) == pytest.approx(given(up), abs=5 * error)
    many = slopes(GumbelRao(tau, draws=16), Logistic(), p)[1]
    assert float(many[b == 1].var()) < 0.1 * float(slopes(GumbelST(tau), Logistic(), p)[1][b == 1].var())


def test_a_floor_bounds_the_weights():
    units, a = StochasticRounding(), torch.linspace(-1, 1, 2001, dtype=torch.float64)[:, None]
    draw = Draw.of(units, a, stream(3))
    free, bounded = ReinMax()(draw), ReinMax(floor=0.05)(draw)
    assert bounded.max() <= 0.5 / 0.05 < free.max()
    assert torch.equal(bounded[free < 5], free[free < 5])


@pytest.mark.parametrize("kind", [BinaryActivation, BinaryStep])
def test_a_step_has_half_the_slope_of_a_sign(kind):
    a = torch.randn(50, 3, dtype=torch.float64, requires_grad=True)
    with estimating(activation := kind(), Logistic(), Matched(), stream(0)):
        values = activation(a)
    assert set(values.unique().tolist()) == set(kind.levels)
    (gradient,) = torch.autograd.grad(values.sum(), a)
    p = torch.sigmoid(a.detach())
    half = 0.5 if kind is BinaryStep else 1
    torch.testing.assert_close(gradient, half * 2 * p * (1 - p), rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Logistic(0), r"`Logistic\(scale=0\)` must be > 0"),
        (lambda: HardSigmoid(-1), r"`HardSigmoid\(width=-1\)` must be > 0"),
        (lambda: ReinMax(tau=0.5), r"`ReinMax\(tau=0.5\)` must be >= 1"),
        (lambda: ReinMax(floor=1), r"`ReinMax\(floor=1\)` must be >= 0 and < 1"),
        (lambda: GumbelRao(draws=0), r"`GumbelRao\(draws=0\)` must be an integer >= 1"),
        (lambda: GumbelST(0), r"`GumbelST\(tau=0\)` must be > 0"),
        (lambda: slopes(ReinMax(tau=2), HardSigmoid(), 0.3), "must be 1 with `HardSigmoid`"),
        (lambda: slopes(GumbelST(), Triangular(), 0.3), "`GumbelST` needs logistic units of scale 1"),
        (lambda: Draw.of(Sign(), A, stream(0)), "the quantiser `Sign` has no probabilities"),
        (
            lambda: api.part("estimator", "ste", ["estimator/surrogate=matched"]),
            "`StraightThrough(quantiser=Sign)` must be one of logistic, hard_sigmoid, triangular, "
            "stochastic_rounding with the surrogate Matched, which needs probabilities",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(make, says):
    with pytest.raises(ValueError) as error:
        make()
    plain = says.replace("\\", "")
    assert plain in str(error.value)


def test_clipped_is_the_estimator_of_units_with_uniform_noise():
    a = torch.randn(1000, dtype=torch.float64)
    draw = Draw.of(HardSigmoid(), a, stream(1))
    assert torch.equal(Matched()(draw), Clipped()(a))
