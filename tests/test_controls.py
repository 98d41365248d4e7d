"""The controls, and the angles that they are made of."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from srste.estimators.angles import angle_between, angle_of_all, angles, turned
from srste.estimators.base import per_tensor
from srste.networks.rounding import Sign
from srste.networks.surrogates import Clipped
from srste.note2021.never_zeroed import NeverZeroed
from tests import oracle
from tests.test_estimators import flat, job


def direction(*overrides, samples=1, batch=1):
    this = job(*overrides)
    problem = this.problem()
    return this.estimator.direction(problem, problem.batch(batch), samples)


def generator(seed=0):
    return np.random.Generator(np.random.Philox(key=seed))


class TestAngles:
    @pytest.mark.parametrize("degrees", [0.0, 1e-5, 2.0, 45.0, 90.0, 179.9, 180.0])
    def test_between_vectors_of_a_known_angle(self, degrees):
        radians = math.radians(degrees)
        one = torch.tensor([3.0, 0.0, 0.0], dtype=torch.float64)
        other = torch.tensor([math.cos(radians), math.sin(radians), 0.0], dtype=torch.float64)
        assert angle_between(one, other) == pytest.approx(degrees, abs=1e-12, rel=1e-12)

    def test_of_a_zero_tensor_there_is_none(self):
        assert angle_between(torch.zeros(3), torch.ones(3)) is None
        assert angle_between(torch.ones(3), torch.full((3,), math.nan)) is None

    def test_by_tensor_and_of_all_together(self):
        one = {"a": torch.tensor([1.0, 0.0]), "b": torch.tensor([1.0])}
        other = {"a": torch.tensor([0.0, 1.0]), "b": torch.tensor([1.0])}
        assert angles(one, other) == {"a": pytest.approx(90), "b": 0.0}
        # (1, 0, 1) and (0, 1, 1) have the cosine 1/2.
        assert angle_of_all(one, other) == pytest.approx(60)

    @given(st.integers(0, 10_000), st.floats(0.001, 180), st.sampled_from([(2,), (7, 5), (1, 32)]))
    def test_turned_by_that_angle_and_no_longer(self, seed, degrees, shape):
        tensor = torch.from_numpy(generator(seed).standard_normal(shape))
        found = turned(tensor, degrees, generator(seed + 1))
        assert angle_between(tensor, found) == pytest.approx(degrees, rel=1e-9, abs=1e-9)
        assert float(found.norm()) == pytest.approx(float(tensor.norm()), rel=1e-12)

    def test_every_way_to_turn_is_as_likely(self):
        """The mean of the turned vectors is cos(angle) times the vector, and what is across it has the
        same variance in every direction: each within five standard errors."""
        vector = torch.tensor([2.0, 0.0, 0.0, 0.0], dtype=torch.float64)
        draws = generator(3)
        found = torch.stack([turned(vector, 60.0, draws) for _ in range(4_000)])
        across = found[:, 1:]
        assert torch.allclose(found[:, 0], torch.tensor(1.0, dtype=torch.float64))
        size = 2 * math.sin(math.radians(60))  # spread over three coordinates
        assert (across.mean(0).abs() < 5 * size / math.sqrt(3 * 4_000)).all()
        expected = size**2 / 3
        assert ((across**2).mean(0) - expected).abs().max() < 5 * expected * math.sqrt(0.8 / 4_000)

    def test_what_cannot_turn_stays(self):
        assert torch.equal(turned(torch.zeros(3), 30.0, generator()), torch.zeros(3))
        assert torch.equal(turned(torch.tensor([2.0]), 30.0, generator()), torch.tensor([2.0]))


class TestTilted:
    @pytest.mark.parametrize("degrees", [2.0, 30.0])
    def test_every_tensor_is_turned_by_the_angle(self, degrees):
        ste = direction("estimator=ste")
        found = direction("estimator=tilted_ste", f"estimator.angle={degrees}", samples=3)
        for name, angle in angles(found, ste).items():
            assert angle == pytest.approx(degrees, abs=1e-3), name  # float32
            assert found[name].norm() == pytest.approx(float(ste[name].norm()), rel=1e-6)

    def test_each_number_of_samples_is_another_draw(self):
        found = [flat(direction("estimator=tilted_ste", samples=n)) for n in (1, 2, 3)]
        assert not torch.allclose(found[0], found[1], atol=1e-3)
        assert not torch.allclose(found[1], found[2], atol=1e-3)

    @pytest.mark.parametrize("angle", ["0", "-1", "181", "x"])
    def test_other_angles_are_refused(self, angle):
        with pytest.raises(Exception, match="must be > 0 and at most 180"):
            job("estimator=tilted_ste", f"estimator.angle={angle}")


class TestSameAngle:
    @pytest.mark.parametrize("samples", [1, 4])
    @pytest.mark.parametrize("draws", ["nested", "independent"])
    def test_as_far_from_ste_as_its_pair_tensor_by_tensor(self, samples, draws):
        ste = direction("estimator=ste", batch=2)
        own = [f"estimator.draws={draws}"]
        pair = direction("estimator=sr_ste", *own, samples=samples, batch=2)
        found = direction("estimator=same_angle", *own, samples=samples, batch=2)
        for name, angle in angles(pair, ste).items():
            assert angle_between(found[name], ste[name]) == pytest.approx(angle, abs=1e-3), name
            assert found[name].norm() == pytest.approx(float(ste[name].norm()), rel=1e-6)
        assert not torch.allclose(flat(found), flat(pair), atol=1e-2)

    def test_the_axes_are_those_of_both(self):
        tanh = ["estimator/surrogate=tanh", "estimator/normalisation=global"]
        ste, pair = direction("estimator=ste", *tanh), direction("estimator=sr_ste", *tanh)
        found = direction("estimator=same_angle", *tanh)
        for name, angle in angles(pair, ste).items():
            assert angle_between(found[name], ste[name]) == pytest.approx(angle, abs=1e-3)


def test_angles_from_just_above_zero_to_half_a_turn_are_allowed():
    for angle in (1e-3, 0.5, 180):
        assert job("estimator=tilted_ste", f"estimator.angle={angle}").estimator.angle == angle


def test_negative_is_minus_ste():
    assert torch.equal(flat(direction("estimator=negative_ste")), -flat(direction("estimator=ste")))


def test_random_is_normalised_like_the_others_and_knows_nothing():
    found = direction("estimator=random")
    for tensor in found.values():
        assert tensor.norm() == pytest.approx(1, abs=1e-5)
    ste = direction("estimator=ste")
    assert 45 < angle_of_all(found, ste) < 135


class Clip(torch.autograd.Function):
    """Forward: binary values that are given. Backward: the gradient where |a| <= 1."""

    @staticmethod
    def forward(ctx, a, binary):
        ctx.save_for_backward(a)
        return binary

    @staticmethod
    def backward(ctx, gradient):
        (a,) = ctx.saved_tensors
        return gradient * ((a >= -1) & (a <= 1)), None


class TestNeverZeroed:
    """The sum of all passes, with a training loop that forgets `zero_grad()` as its oracle."""

    def looped(self, problem, batches, samples, most, estimator="sr_ste"):
        """`.grad` of weights (out, in) without biases, in float64, after every pass in its order: per
        batch one of STE, then for N = 1, 2, ... as many as that; the scan of one rounds, on batch 1."""
        weights = [w.detach().double().requires_grad_() for w in problem.model.parameters()]
        for b in range(1, batches + 1):
            x = torch.from_numpy(oracle.named_stream(0, "batch", b).standard_normal((40, 5), np.float32))
            with torch.no_grad():
                y = problem.source.teacher(x).double()
            scans = [(0, 1)] + [(n, n) for n in range(1, (most if b < batches else samples) + 1)]
            for scan, passes in scans if b < batches or estimator == "sr_ste" else scans[:1]:
                for sample in range(1, passes + 1):
                    rounded = oracle.stochastic_rounding(
                        oracle.named_stream(0, "rounding", "batch", b, "sample", sample)
                    )
                    binarise = rounded if (b, scan) == (1, 1) else oracle.sign
                    h = x.double()
                    for w in weights[:-1]:
                        a = h @ w.T
                        h = Clip.apply(a, torch.from_numpy(binarise(a.detach().numpy())))
                    ((h @ weights[-1].T - y) ** 2).mean().backward()
        return torch.cat([w.grad.flatten() for w in weights])

    @pytest.mark.parametrize(("batch", "samples"), [(1, 1), (1, 3), (2, 2), (3, 1)])
    def test_against_every_pass_in_its_order(self, batch, samples):
        this = job("estimator=never_zeroed", "estimator.most=3", "estimator/normalisation=none")
        problem = this.problem()
        found = flat(this.estimator.direction(problem, problem.batch(batch), samples)).double()
        expected = self.looped(problem, batch, samples, 3)
        assert torch.allclose(found, expected, rtol=0, atol=1e-6 * float(expected.abs().max()))

    @pytest.mark.parametrize("batch", [1, 3])
    def test_the_scan_of_ste_is_that_before_all_others_of_its_batch(self, batch):
        this = job(
            "estimator=never_zeroed", "estimator.most=3", "estimator/normalisation=none",
            "estimator.scan=ste",
        )  # fmt: skip
        problem = this.problem()
        assert not this.estimator.stochastic
        found = flat(this.estimator.direction(problem, problem.batch(batch), 1)).double()
        expected = self.looped(problem, batch, 1, 3, "ste")
        assert torch.allclose(found, expected, rtol=0, atol=1e-6 * float(expected.abs().max()))

    def test_more_samples_than_it_goes_through_are_refused(self):
        with pytest.raises(ValueError, match="samples=4 must be at most most=3"):
            direction("estimator=never_zeroed", "estimator.most=3", samples=4)

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            ({"scan": "both"}, r"`NeverZeroed\(scan=both\)` must be one of ste, sr_ste"),
            ({"most": 0}, r"`NeverZeroed\(most=0\)` must be a whole number >= 1"),
            ({"most": 1.5}, r"most=1.5\)` must be a whole"),
            ({"most": True}, r"most=True\)` must be a whole"),
        ],
    )
    def test_refused(self, arguments, says):
        with pytest.raises(ValueError, match=says):
            NeverZeroed(Sign(), Clipped(), per_tensor, **arguments)

    def test_one_scan_that_rounds_is_enough(self):
        assert NeverZeroed(Sign(), Clipped(), per_tensor, most=1).stochastic
