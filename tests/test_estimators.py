"""The contract of every estimator under conf/estimator, and what is particular to straight-through."""

from __future__ import annotations

import math
from contextlib import nullcontext

import numpy as np
import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from torch import nn

from srste.errors import UserError
from srste.estimators.base import global_norm, median, per_row, per_tensor, sign_vote
from srste.launch.folders import register_resolvers
from srste.launch.job_config import Job
from srste.launch.job_values import job_values
from srste.networks.activations import acting
from srste.networks.estimating import Relaxed
from srste.networks.units import Logistic
from srste.problem.task import Batch
from srste.testing import EstimatorContract
from tests import formulas, oracle
from tests.support import CONF, choices

SMALL = ["model.width=6", "model.depth=2", "data.features=5", "batch_size=40", "batches=2"]


def job(*overrides):
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return Job(job_values(compose("config", [*SMALL, *overrides])))


def flat(direction):
    return torch.cat([tensor.flatten() for tensor in direction.values()])


class TestContract(EstimatorContract):
    """A new estimator's YAML is enough to be tested here; its mean too, if it has the usual axes."""

    @pytest.fixture(autouse=True, params=choices("estimator"))
    def _named(self, request):
        self.name = request.param
        self.depends_on_loss = self.name != "random"

    def make(self):
        return job(f"estimator={self.name}").estimator

    def make_plain(self):
        config = job(f"estimator={self.name}").config["estimator"]
        if (
            config.get("control")
            or "normalisation" not in config
            or {"scan", "weighting", "fitted_on"} & {*config}
        ):
            return None
        axes = [f"estimator/{axis}=" for axis in ("aggregation", "normalisation") if axis in config]
        values = {"aggregation": "mean", "normalisation": "none"}
        return job(f"estimator={self.name}", *(a + values[a.split("/")[1][:-1]] for a in axes)).estimator

    def expected(self, task, batch, estimator):
        exact = super().expected(task, batch, estimator)
        return exact if exact is not None else mean_by_formula(self.name, task, batch)


MEAN_NOT_TESTED_HERE = {"psa", "nes", "spsa", "guided_es", "fogzo"}
"""Exact for one layer alone (test_stochastic_networks), or of a smoothed loss (test_zeroth_order)."""


def mean_by_formula(name, task, batch):
    """What the estimator of that name gives on average, by the equations of its YAML's choices."""
    file = yaml.safe_load((CONF / "estimator" / f"{name}.yaml").read_text())
    axes = {k: v for axis in file["defaults"] if isinstance(axis, dict) for k, v in axis.items()}
    network = oracle.network_of(task.model.state_dict(), bias=True)
    x, y = batch.inputs.numpy(), batch.targets.numpy()
    target = file["_target_"].rpartition(".")[2]
    if target == "MeanField":
        gradient = formulas.of_means(network, x, y, axes["quantiser"])
    elif target == "CoordinateDifference":
        gradient = formulas.by_coordinate(network, x, y, file["radius"])
    elif target == "StraightThrough" and axes["quantiser"] == "sign":
        gradient = formulas.of_signs(network, x, y, axes["surrogate"])
    elif target == "StraightThrough":
        numbers = file.get("surrogate", {})
        gradient = formulas.of_draws(network, x, y, axes["quantiser"], axes["surrogate"], **numbers)
    else:
        assert name in MEAN_NOT_TESTED_HERE
        return None
    arrays = [array for pair in gradient for array in pair]
    return {n: torch.from_numpy(a) for n, a in zip(task.model.state_dict(), arrays, strict=True)}


OF_SIGNS = sorted(
    name
    for name in choices("estimator")
    if "srste.estimators.straight_through" in (CONF / "estimator" / f"{name}.yaml").read_text()
    and "quantiser: sign" in (CONF / "estimator" / f"{name}.yaml").read_text()
)


@pytest.mark.parametrize("name", [*OF_SIGNS, "mean_field", "negative_ste"])
def test_a_loss_of_zero_gives_a_direction_of_zero(name):
    """The targets are what the network that is differentiated gives: of mean field one of means."""
    this = job(f"estimator={name}")
    problem = this.problem()
    model, batch = problem.model, problem.batch(1)
    means = acting(model, Relaxed(Logistic())) if name == "mean_field" else nullcontext()
    with torch.no_grad(), means:
        targets = model(batch.inputs)
    found = this.estimator.direction(problem, Batch(1, batch.inputs, targets), 1)
    assert len(OF_SIGNS) > 8
    assert not any(g.any() for g in found.values())


def direction(*overrides, samples=1, batch=1):
    this = job(*overrides)
    problem = this.problem()
    return this.estimator.direction(problem, problem.batch(batch), samples), problem


def test_ste_is_the_gradient_worked_out_by_hand():
    found, problem = direction("estimator=ste", "model.bias=true")
    network = oracle.network_of(problem.model.state_dict(), bias=True)
    batch = problem.batch(1)
    gradient = oracle.backward(
        network, batch.inputs.double().numpy(), batch.targets.double().numpy(), oracle.sign
    )
    expected = [t for pair in oracle.per_tensor(gradient) for t in pair]
    for tensor, array in zip(found.values(), expected, strict=True):
        np.testing.assert_allclose(tensor.numpy(), array, rtol=0, atol=2e-6)  # float32


def sample_gradient(problem, sample):
    """The gradient of one sample of batch 1 under nested draws, by hand, as one vector."""
    network = oracle.network_of(problem.model.state_dict(), bias=False)
    batch = problem.batch(1)
    generator = oracle.named_stream(0, "rounding", "batch", 1, "sample", sample)
    gradient = oracle.backward(
        network,
        batch.inputs.double().numpy(),
        batch.targets.double().numpy(),
        oracle.stochastic_rounding(generator),
    )
    return np.concatenate([w.ravel() for w, _ in gradient])


def test_sr_ste_is_the_mean_of_the_samples_gradients_worked_out_by_hand():
    found, problem = direction("estimator=sr_ste", "estimator/normalisation=none", samples=3)
    expected = np.mean([sample_gradient(problem, i) for i in (1, 2, 3)], axis=0)
    np.testing.assert_allclose(flat(found).numpy(), expected, rtol=0, atol=1e-6 * abs(expected).max())


def test_nested_samples_are_the_first_ones_and_one_more():
    raw = ["estimator=sr_ste", "estimator/normalisation=none", "estimator.draws=nested"]
    one, _ = direction(*raw, samples=1)
    two, problem = direction(*raw, samples=2)
    second = 2 * flat(two).double() - flat(one).double()
    expected = sample_gradient(problem, 2)
    np.testing.assert_allclose(second.numpy(), expected, rtol=0, atol=1e-5 * abs(expected).max())


def test_independent_samples_share_none():
    nested = flat(direction("estimator.draws=nested", samples=2)[0])
    independent = flat(direction("estimator.draws=independent", samples=2)[0])
    assert not torch.allclose(nested, independent, atol=1e-3)


def loop_over(groups, gradient):
    """Each group of entries over its own length, entry by entry in float64."""
    expected = {name: np.zeros(tuple(g.shape)) for name, g in gradient.items()}
    for group in groups:
        squares = sum(float(gradient[name][place]) ** 2 for name, place in group)
        for name, place in group:
            expected[name][place] = float(gradient[name][place]) / (math.sqrt(squares) + 1e-8)
    return expected


def by_tensor(gradient):
    return [[(name, place) for place in np.ndindex(*g.shape)] for name, g in gradient.items()]


def by_unit(gradient):
    """A unit is a place of the first axis of what has several, whatever the others are."""
    groups = []
    for group in by_tensor(gradient):
        of_units = {}
        for name, place in group:
            of_units.setdefault(place[0] if len(place) > 1 else None, []).append((name, place))
        groups += of_units.values()
    return groups


def all_together(gradient):
    return [[entry for group in by_tensor(gradient) for entry in group]]


GRADIENTS = {
    "linear": (nn.Linear(5, 3), (3, 5)),
    "convolution": (nn.Conv2d(4, 8, 3), (8, 4, 3, 3)),
    "of one dimension": (nn.Conv1d(3, 6, 5), (6, 3, 5)),
    "of three dimensions": (nn.Conv3d(2, 3, 2), (3, 2, 2, 2, 2)),
    "grouped": (nn.Conv2d(4, 8, 3, groups=4), (8, 1, 3, 3)),
    "one unit": (nn.Linear(7, 1), (1, 7)),
    "one input": (nn.Linear(1, 4), (4, 1)),
}


@pytest.mark.parametrize("kind", GRADIENTS)
@pytest.mark.parametrize(
    ("normalise", "groups"), [(per_tensor, by_tensor), (per_row, by_unit), (global_norm, all_together)]
)
def test_normalisations_against_a_loop_over_entries(normalise, groups, kind):
    module, shape = GRADIENTS[kind]
    generator = torch.Generator().manual_seed(0)
    gradient = {n: torch.randn(p.shape, generator=generator) for n, p in module.named_parameters()}
    gradient["scale"] = torch.tensor(-0.3)
    assert gradient["weight"].shape == shape
    found, expected = normalise(gradient), loop_over(groups(gradient), gradient)
    assert found.keys() == gradient.keys()
    for name, array in expected.items():
        assert found[name].shape == gradient[name].shape
        # A norm of n squares in float32 is off by some n units of its rounding at most.
        allowed = 4e-7 * array.size
        np.testing.assert_allclose(found[name].numpy(), array, rtol=allowed, atol=0)


@pytest.mark.parametrize("name", ["tensor", "row", "global", "none"])
def test_the_choice_names_its_normalisation(name):
    found, _ = direction(f"estimator/normalisation={name}", "model.bias=true", "estimator=ste")
    raw, _ = direction("estimator/normalisation=none", "model.bias=true", "estimator=ste")
    groups = {"tensor": by_tensor, "row": by_unit, "global": all_together, "none": lambda _: []}[name]
    expected = loop_over(groups(raw), raw) if name != "none" else {n: g.numpy() for n, g in raw.items()}
    for key, array in expected.items():
        assert np.abs(array).max() > 0
        np.testing.assert_allclose(found[key].numpy(), array, rtol=1e-5, atol=0)


@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_aggregations_element_by_element(count):
    generator = np.random.default_rng(count)
    arrays = [generator.normal(size=(3, 2)).round(1) for _ in range(count)]
    tensors = [torch.from_numpy(a) for a in arrays]
    np.testing.assert_allclose(median(tensors).numpy(), np.median(arrays, axis=0), rtol=1e-15)
    votes = np.sign(np.sign(arrays).sum(axis=0))
    assert (sign_vote(tensors).numpy() == votes).all()
    assert all(torch.equal(t, torch.from_numpy(a)) for t, a in zip(tensors, arrays, strict=True))


@pytest.mark.parametrize("name", ["median", "sign_vote"])
def test_the_choice_names_its_aggregation(name):
    raw = ["estimator=sr_ste", "estimator/normalisation=none", f"estimator/aggregation={name}"]
    found, problem = direction(*raw, samples=3)
    expected = {"median": np.median, "sign_vote": lambda a, axis: np.sign(np.sign(a).sum(axis=axis))}[
        name
    ]
    samples = [sample_gradient(problem, i) for i in (1, 2, 3)]
    np.testing.assert_allclose(flat(found).numpy(), expected(samples, axis=0), rtol=0, atol=1e-6)


@pytest.mark.parametrize("normalise", [per_tensor, per_row, global_norm])
def test_a_gradient_of_zero_gives_a_direction_of_zero(normalise):
    zero = {"w": torch.zeros(3, 2), "b": torch.zeros(3)}
    assert all((g == 0).all() for g in normalise(zero).values())


def test_the_baseline_of_sr_ste_is_ste_on_the_same_other_axes():
    this = job("estimator=sr_ste", "estimator/surrogate=tanh", "estimator/normalisation=global")
    ste = job("estimator=ste", "estimator/surrogate=tanh", "estimator/normalisation=global")
    assert this.baseline_config == ste.config["estimator"]


def test_a_quantiser_of_other_values_is_refused_before_any_work():
    wrong = job(
        "estimator=sr_ste",
        "estimator/quantiser=sign",
        "estimator.quantiser._target_=tests.test_binarize.Ternary",
    )
    with pytest.raises(
        UserError, match=r"does not run: the quantiser `Ternary` gave -?[01.]+, .*; it must give"
    ) as error:
        wrong.rehearse()
    assert "\n" not in str(error.value)
