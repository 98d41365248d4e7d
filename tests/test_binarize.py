"""Quantisers against enumeration and their published form; surrogates against autograd of what they
are the derivative of."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from torch import nn

from srste.networks.activations import BinaryActivation, BinaryStep
from srste.networks.estimating import estimating
from srste.networks.rounding import Sign, StochasticRounding, sign
from srste.networks.surrogates import (
    EDE,
    EWGS,
    ApproxSign,
    Clipped,
    Identity,
    Polynomial,
    ReLU1,
    ReSTE,
    Steep,
    SwishSign,
    Tanh,
)
from srste.randomness import stream, uniform
from tests import oracle
from tests.lines import curve_and_reason


def test_sign_of_zero_is_plus_one():
    a = torch.tensor([-2.0, -0.0, 0.0, 1e-30, -1e-30, 3.0])
    assert sign(a).tolist() == [-1, 1, 1, 1, -1, 1]
    assert BinaryActivation()(a).tolist() == sign(a).tolist()
    assert Sign()(a, stream(0)).tolist() == sign(a).tolist()


class TestStochasticRounding:
    a = torch.from_numpy(np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32))

    def test_probabilities_by_layer_example_and_unit(self):
        a = self.a.numpy().astype(np.float64)
        layer = oracle.probability_up(a)
        example = np.stack([oracle.probability_up(row) for row in a])
        unit = np.stack([oracle.probability_up(column) for column in a.T], axis=1)
        for scope, expected in (("layer", layer), ("example", example), ("unit", unit)):
            found = StochasticRounding(scope=scope).probability(self.a).numpy()
            np.testing.assert_allclose(found, expected, rtol=0, atol=3e-7)  # float32

    @pytest.mark.parametrize("scope", ["layer", "example", "unit"])
    def test_frequencies_are_the_probabilities(self, scope):
        quantiser, generator, draws = StochasticRounding(scope=scope), stream(1, scope), 20_000
        ups = sum((quantiser(self.a, generator) > 0).double() for _ in range(draws)) / draws
        p = quantiser.probability(self.a).double()
        error = torch.sqrt(p * (1 - p) / draws)
        assert ((ups - p).abs() <= 5 * error + 1e-7).all()
        assert (p == 1).any(), "the largest pre-activation is certain"
        assert (p == 0).any(), "so is the most negative one"

    def test_only_minus_one_and_plus_one(self):
        values = StochasticRounding()(self.a, stream(2)).unique()
        assert values.tolist() == [-1, 1]

    @pytest.mark.parametrize("sign_", [1.0, -1.0])
    def test_pre_activations_of_one_sign(self, sign_):
        a = sign_ * self.a.abs()
        p = StochasticRounding().probability(a)
        expected = oracle.probability_up(a.numpy().astype(np.float64))
        np.testing.assert_allclose(p.numpy(), expected, rtol=0, atol=3e-7)

    def test_all_zero_is_a_fair_coin(self):
        assert StochasticRounding().probability(torch.zeros(3, 3)).unique().tolist() == [0.5]

    @pytest.mark.parametrize("tau", [0.05, 0.5, 1.0, 3.0, 30.0])
    def test_it_is_the_sign_of_a_relaxed_bernoulli_at_every_temperature(self, tau):
        """sign(sigmoid((logit p + logistic noise) / tau) - 1/2), in float64, from the same uniforms."""
        p = StochasticRounding().probability(self.a).double()
        rounded = StochasticRounding(tau=tau)(self.a, stream(3))
        u = uniform(stream(3), tuple(self.a.shape), torch.device("cpu")).double()
        noise = torch.log1p(-u) - torch.log(u)
        logit = torch.log(p) - torch.log1p(-p)  # infinite where the outcome is certain
        relaxed = torch.sigmoid((logit + noise) / tau)
        assert torch.equal(rounded.double(), sign(relaxed - 0.5))

    @pytest.mark.parametrize("tau", [0, -1, float("nan"), float("inf"), True])
    def test_tau_must_be_positive(self, tau):
        with pytest.raises(ValueError, match=r"`StochasticRounding\(tau=.*\)` must be > 0"):
            StochasticRounding(tau=tau)

    def test_scope_must_be_known(self):
        with pytest.raises(ValueError, match=r"scope=all\)` must be one of layer, example, unit"):
            StochasticRounding(scope="all")


def swish_sign(a, beta):
    s = torch.sigmoid(beta * a)
    return 2 * s * (1 + beta * a * (1 - s)) - 1


def power(a, o, m=0.1, t=1.5):
    """sign(a) |a|^(1/o), with a chord to m, and constant beyond t."""
    size = a.abs().clamp_max(t)
    chord = size * m ** (1 / o) / m
    return a.sign() * torch.where(size <= m, chord, size.clamp_min(m) ** (1 / o))


def triangle(a):
    """The integral of 4 - 8 |a| on |a| <= 1/2."""
    a = a.clamp(-0.5, 0.5)
    return 4 * a - 4 * a * a.abs()


PRIMITIVES = {
    "identity": (Identity(), lambda a: a),
    "clipped": (Clipped(), torch.nn.functional.hardtanh),
    "clipped at 0.5": (Clipped(c=0.5), lambda a: a.clamp(-0.5, 0.5)),
    "tanh": (Tanh(), torch.tanh),
    "tanh, sharp": (Tanh(beta=3.0), lambda a: torch.tanh(3 * a)),
    "approx_sign": (ApproxSign(), lambda a: torch.where(a.abs() < 1, 2 * a - a.sign() * a**2, a.sign())),
    "swish_sign": (SwishSign(), lambda a: swish_sign(a, 5.0)),
    "swish_sign, flat": (SwishSign(beta=2.0), lambda a: swish_sign(a, 2.0)),
    "ede, at the start": (EDE(progress=0), lambda a: 1000 * torch.tanh(0.001 * a)),
    "ede, in the middle": (EDE(progress=0.5), lambda a: 10 * torch.tanh(0.1 * a)),
    "ede, at the end": (EDE(progress=1), lambda a: torch.tanh(10 * a)),
    "reste, at the start": (ReSTE(progress=0), lambda a: a.clamp(-1.5, 1.5)),
    "reste, in the middle": (ReSTE(), lambda a: power(a, 1 + 2 * (1 - 0.5**0.5))),
    "reste, at the end": (ReSTE(progress=1), lambda a: power(a, 3.0)),
    "steep": (Steep(), lambda a: (4 * a).clamp(-1, 1)),
    "relu1": (ReLU1(), lambda a: (2 * a).clamp(-1, 1)),
    "polynomial": (Polynomial(), triangle),
}


@pytest.mark.parametrize("name", PRIMITIVES)
def test_a_surrogate_is_the_derivative_of_its_primitive(name):
    surrogate, primitive = PRIMITIVES[name]
    a = torch.linspace(-2.49, 2.49, 400, dtype=torch.float64, requires_grad=True)
    (derivative,) = torch.autograd.grad(primitive(a).sum(), a)
    torch.testing.assert_close(surrogate(a.detach()), derivative, rtol=0, atol=1e-12)


def test_element_wise_gradient_scaling_by_hand():
    """In numbers from 0 to 1: g (1 + delta sign(g) (x - round x)), zero outside."""
    a = torch.tensor([-1.2, -0.4, -0.1, 0.3, 0.9, 1.1], dtype=torch.float64, requires_grad=True)
    g = torch.tensor([1.0, -2.0, 3.0, -1.0, 0.5, 2.0], dtype=torch.float64)
    with estimating(activation := BinaryActivation(), Sign(), EWGS(delta=0.4), stream(0)):
        (found,) = torch.autograd.grad((activation(a) * g).sum(), a)
    expected = []
    for a_i, g_i in zip(a.tolist(), g.tolist(), strict=True):
        x = min(max((a_i + 1) / 2, 0.0), 1.0)
        off = x - (1.0 if x >= 0.5 else 0.0)
        inside = -1 <= a_i <= 1
        expected.append(g_i * (1 + 0.4 * (1 if g_i > 0 else -1) * off) if inside else 0.0)
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-15)


def test_clipped_includes_its_ends():
    assert Clipped()(torch.tensor([-1.0, 1.0, 1.0001])).tolist() == [1, 1, 0]


def test_surrogates_stay_finite_far_out():
    far = torch.tensor([-1e30, -1e4, 1e4, 1e30])
    for surrogate, _ in PRIMITIVES.values():
        assert surrogate(far).isfinite().all()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Clipped(c=0), r"`Clipped\(c=0\)` must be > 0"),
        (lambda: Tanh(beta=-1), r"`Tanh\(beta=-1\)` must be > 0"),
        (lambda: SwishSign(beta=0), r"`SwishSign\(beta=0\)` must be > 0"),
        (lambda: EDE(progress=1.1), r"`EDE\(progress=1.1\)` must be in \[0, 1\]"),
        (lambda: ReSTE(progress=-1), r"`ReSTE\(progress=-1\)` must be in \[0, 1\]"),
        (lambda: ReSTE(t=0.1), r"`ReSTE\(t=0.1\)` must be > 0.1"),
        (lambda: ReSTE(o_end=0.5), r"`ReSTE\(o_end=0.5\)` must be >= 1"),
        (lambda: Steep(k=0), r"`Steep\(k=0\)` must be > 0"),
        (lambda: EWGS(delta=-1), r"`EWGS\(delta=-1\)` must be >= 0"),
    ],
)
def test_arguments_out_of_range(make, says):
    with pytest.raises(ValueError, match=says):
        make()


class AllUp:
    stochastic = False

    def __call__(self, a, generator):
        return torch.ones_like(a)


class AllDown(AllUp):
    def __call__(self, a, generator):
        return -torch.ones_like(a)


class TestEstimating:
    a = torch.tensor([[-1.5, -0.5, 0.0, 0.5, 1.5]], requires_grad=True)

    def test_forward_is_the_quantiser_and_backward_the_surrogate(self):
        activation = BinaryActivation()
        with estimating(activation, Sign(), Clipped(), stream(0)):
            b = activation(self.a)
        upstream = torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0]])
        (gradient,) = torch.autograd.grad(b, self.a, upstream)
        assert b.tolist() == [[-1, -1, 1, 1, 1]]
        assert gradient.tolist() == [[0, 2, 3, 4, 0]]

    def test_any_quantiser_goes_with_any_surrogate(self):
        activation = BinaryActivation()
        with estimating(activation, StochasticRounding(), ApproxSign(), stream(0)):
            b = activation(self.a)
        (gradient,) = torch.autograd.grad(b.sum(), self.a)
        assert gradient.tolist() == [[0, 1, 2, 1, 0]]

    def test_outside_the_plain_sign_is_back_even_after_an_error(self):
        activation = BinaryActivation()
        with (
            pytest.raises(RuntimeError, match="inside"),
            estimating(activation, StochasticRounding(), Identity(), stream(0)),
        ):
            raise RuntimeError("inside")
        assert activation(self.a.detach()).tolist() == [[-1, -1, 1, 1, 1]]
        assert not activation(self.a).requires_grad

    def outputs(self, activation):
        return activation(self.a.detach()).tolist()

    def test_within_another_rule_that_one_is_back_afterwards(self):
        activation = BinaryActivation()
        with estimating(activation, AllUp(), Identity(), stream(0)):
            for _ in range(2):
                with estimating(activation, AllDown(), Clipped(), stream(0)):
                    assert self.outputs(activation) == [[-1] * 5]
                assert self.outputs(activation) == [[1] * 5]
                (gradient,) = torch.autograd.grad(activation(self.a).sum(), self.a)
                assert gradient.tolist() == [[1] * 5]
        assert self.outputs(activation) == [[-1, -1, 1, 1, 1]]

    def test_so_it_is_after_an_error_within(self):
        activation = BinaryActivation()
        with estimating(activation, AllUp(), Identity(), stream(0)):
            with (
                pytest.raises(RuntimeError, match="inside"),
                estimating(activation, AllDown(), Identity(), stream(0)),
            ):
                raise RuntimeError("inside")
            assert self.outputs(activation) == [[1] * 5]
        assert self.outputs(activation) == [[-1, -1, 1, 1, 1]]

    def test_of_a_part_within_the_whole(self):
        shared = BinaryActivation()
        model = nn.Sequential(shared, nn.Sequential(BinaryStep(), shared))
        before = self.outputs(model)
        with estimating(model, AllUp(), Identity(), stream(0)):
            with estimating(model[1], AllDown(), Identity(), stream(0)):
                assert self.outputs(model[1][0]) == [[0] * 5]
                assert self.outputs(shared) == [[-1] * 5]
            assert self.outputs(model[1][0]) == self.outputs(shared) == [[1] * 5]
        assert self.outputs(model) == before
        assert self.outputs(shared) == [[-1, -1, 1, 1, 1]]

    def test_within_it_no_loss_curve_is_exact(self):
        """A curve of plain signs would be that of another network than the one that runs."""
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 4), BinaryActivation(), nn.Linear(4, 1))
        direction = {n: torch.randn_like(p) for n, p in model.named_parameters()}
        x, y = torch.randn(8, 3), torch.randn(8, 1)
        with estimating(model, AllUp(), Identity(), stream(0)):
            curve, _ = curve_and_reason(model, direction, x, y)
            expected = ((model(x) - y).double() ** 2).mean().item()
        assert not curve.exact
        assert curve.pre_loss == pytest.approx(expected, rel=1e-6)
        assert curve_and_reason(model, direction, x, y)[0].exact


class Rule:
    """A quantiser or a surrogate that gives what it is told to."""

    stochastic = False

    def __init__(self, result):
        self.result = result

    def __call__(self, a, *generator):
        return self.result(a)


class Ternary(Rule):
    def __init__(self):
        super().__init__(lambda a: a.sign() * (a.abs() > 0.7))


def rounded_in_place(a):
    return a.sign_()


def all_but_one(value):
    def result(a):
        b = sign(a)
        b[-1, -1] = value
        return b

    return result


WRONG = {
    "zero and one": (Rule(lambda a: (a >= 0).to(a.dtype)), r"`Rule` gave 0\.0, 1\.0"),
    "ternary": (Ternary(), r"`Ternary` gave -1\.0, 0\.0, 1\.0"),
    "scaled": (Rule(lambda a: a.abs().mean() * sign(a)), r"`Rule` gave -0\.8\d*, 0\.8\d*"),
    "no signs": (Rule(torch.tanh), r"`Rule` gave -0\.905\d*, -0\.4\d*, 0\.0, \.\.\."),
    "one of all": (Rule(all_but_one(1.5)), r"`Rule` gave -1\.0, 1\.0, 1\.5"),
    "almost": (Rule(all_but_one(1 - 2**-24)), r"`Rule` gave -1\.0, 0\.9999999403953552, 1\.0"),
    "not a number": (Rule(all_but_one(float("nan"))), "`Rule` gave nan"),
    "infinite": (Rule(all_but_one(-float("inf"))), r"`Rule` gave -inf, -1\.0, 1\.0"),
    "another shape": (
        Rule(lambda a: sign(a)[:, :1]),
        r"`Rule` gave float32 \(1, 1\) for float32 \(1, 5\)",
    ),
    "a number": (Rule(lambda a: torch.tensor(1.0)), r"`Rule` gave float32 \(\) for float32 \(1, 5\)"),
    "double": (Rule(lambda a: sign(a).double()), r"`Rule` gave float64 \(1, 5\) for float32 \(1, 5\)"),
    "truth values": (Rule(lambda a: a >= 0), r"`Rule` gave bool \(1, 5\) for float32 \(1, 5\)"),
    "no tensor": (Rule(lambda a: np.sign(a.numpy())), "`Rule` gave a ndarray"),
    "nothing": (Rule(lambda a: None), "`Rule` gave a NoneType"),
    "in place": (Rule(rounded_in_place), "`Rule` wrote into the pre-activations that it was given"),
    "a function": (lambda a, generator: 0.5 * sign(a), r"`<lambda>` gave -0\.5, 0\.5"),
    "part of one": (functools.partial(lambda a, generator: a / 4), r"`<lambda>` gave -0\.375, "),
}
SHAPES = ["another shape", "a number", "double", "no tensor", "in place"]


class TestOtherValues:
    """What runs on other than the two levels is another network than the one that the loss curve has."""

    a = torch.tensor([[-1.5, -0.5, 0.0, 0.5, 1.5]])

    @pytest.mark.parametrize("activation", [BinaryActivation(), BinaryStep()])
    @pytest.mark.parametrize("name", WRONG)
    def test_of_a_quantiser_are_refused(self, name, activation):
        quantiser, says = WRONG[name]
        with (
            pytest.raises(
                ValueError, match=rf"^the quantiser {says}.*; it must give -1 or \+1 for each"
            ),
            estimating(activation, quantiser, Identity(), stream(0)),
        ):
            activation(self.a.clone().requires_grad_() * 1)

    @pytest.mark.parametrize("name", SHAPES)
    def test_of_a_surrogate_are_refused_if_their_shape_is_another(self, name):
        surrogate, says = WRONG[name]
        activation = BinaryActivation()
        with (
            pytest.raises(ValueError, match=rf"^the surrogate {says}; it must give a slope for each"),
            estimating(activation, Sign(), surrogate, stream(0)),
        ):
            activation(self.a.clone().requires_grad_() * 1)

    def test_all_that_are_signs_are_taken(self):
        for quantiser in (Sign(), StochasticRounding(), AllUp(), AllDown(), Rule(lambda a: -sign(a))):
            for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
                for activation in (BinaryActivation(), BinaryStep()):
                    with estimating(activation, quantiser, Identity(), stream(0)):
                        assert set(activation(self.a.to(dtype)).unique().tolist()) <= {-1, 0, 1}
                        if not quantiser.stochastic:
                            assert activation(self.a[:0].to(dtype)).shape == (0, 5)
