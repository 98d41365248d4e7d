"""Parameters that no gradient reaches: an alarm or an error names them, and it is no poor estimator."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

from srste.errors import UserError
from srste.estimators.base import mean, no_norm, per_row, per_tensor
from srste.estimators.straight_through import StraightThrough
from srste.networks.activations import BinaryActivation
from srste.networks.rounding import Sign
from srste.networks.surrogates import Clipped
from srste.study.results import NOT_MOVED
from srste.study.study import run_study
from tests.lines import curve_and_reason, loss_curve, replayed
from tests.support import a_store, only, runs_in, studies, train
from tests.test_estimators import choices, job


class Signs(nn.Module):
    """PyTorch's sign, whose derivative is zero."""

    def forward(self, a):
        return torch.sign(a)


class Network(nn.Sequential):
    """Two hidden layers and a linear output. act: of each hidden layer."""

    def __init__(self, first, second, still=()):
        super().__init__(nn.Linear(5, 6), first, nn.Linear(6, 4), second, nn.Linear(4, 1))
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(name not in still)


def none_at_all(**_):
    return Network(Signs(), Signs())


def forgotten(**_):
    return Network(BinaryActivation(), Signs())


def half_forgotten(**_):
    return Network(Signs(), BinaryActivation())


def frozen(**_):
    return Network(BinaryActivation(), BinaryActivation(), still=("0.weight", "0.bias"))


def forgotten_and_frozen(**_):
    return Network(BinaryActivation(), Signs(), still=("0.weight", "0.bias"))


def all_frozen(**_):
    every = ("0.weight", "0.bias", "2.weight", "2.bias", "4.weight", "4.bias")
    return Network(BinaryActivation(), Signs(), still=every)


class Compared(nn.Module):
    def forward(self, a):
        return (a >= 0).to(a.dtype) * 2 - 1


def cut_off(**_):
    """A comparison has no derivative, not even zero."""
    return Network(BinaryActivation(), Compared())


class Unused(nn.Module):
    def __init__(self, **_):
        super().__init__()
        self.net, self.spare = Network(BinaryActivation(), BinaryActivation()), nn.Linear(2, 2)

    def forward(self, x):
        return self.net(x)


class UnusedAndFrozen(Unused):
    def __init__(self, **_):
        super().__init__()
        self.spare.requires_grad_(False)


class Detached(nn.Module):
    def __init__(self, **_):
        super().__init__()
        self.net = Network(BinaryActivation(), BinaryActivation())

    def forward(self, x):
        return self.net(x).detach()


def with_model(name, *overrides):
    """A job of this file's model, which takes the sizes of the default one and does without."""
    return job(f"model._target_=tests.test_not_moved.{name}", *overrides)


HIDDEN = "0.weight, 0.bias, 2.weight, 2.bias"
RINGS = {
    "forgotten": HIDDEN,
    "half_forgotten": "0.weight, 0.bias",
    "frozen": "",
    "forgotten_and_frozen": "2.weight, 2.bias",
    "UnusedAndFrozen": "",
}


@pytest.mark.parametrize("name", RINGS)
@pytest.mark.parametrize("estimator", ["ste", "sr_ste", "tilted_ste", "same_angle", "negative_ste"])
def test_tensors_without_a_direction_are_named(name, estimator, caplog):
    this = with_model(name, f"estimator={estimator}")
    problem = this.problem()
    study = run_study(problem, problem.batch(1), this.estimator, 1, this.sampling, "s")
    assert study.alarms.get(NOT_MOVED, "") == RINGS[name]
    assert (f"alarm: {NOT_MOVED}: {RINGS[name]}" in caplog.text) == bool(RINGS[name])
    assert study.best is not None
    assert study.best.explained


@pytest.mark.parametrize("estimator", choices("estimator"))
def test_what_is_declared_not_to_move_does_not(estimator):
    problem = with_model("frozen").problem()
    this = with_model("frozen", f"estimator={estimator}")
    direction = this.estimator.direction(problem, problem.batch(1), 2)
    for name, p in problem.model.named_parameters():
        assert bool(direction[name].any()) == p.requires_grad == (not name.startswith("0."))
        assert (direction[name].shape, direction[name].dtype) == (p.shape, p.dtype)
    assert problem.model[0].weight.grad is None


def test_a_layer_that_is_saturated_on_the_batch():
    """Its gradient is zero there; the alarm says no more than that, and not on another batch."""
    this = job("estimator=ste", "model.bias=true")
    problem = this.problem()
    with torch.no_grad():
        problem.model[2].bias += 100
    study = run_study(problem, problem.batch(1), this.estimator, 1, this.sampling, "s")
    assert study.alarms == {NOT_MOVED: "0.weight, 0.bias, 2.weight, 2.bias"}
    with torch.no_grad():
        problem.model[2].bias -= 100
    assert run_study(problem, problem.batch(1), this.estimator, 1, this.sampling, "s").alarms == {}


def test_many_names_are_cut():
    class Deep(nn.Sequential):
        def __init__(self):
            layers = [nn.Linear(5, 5) for _ in range(7)]
            layers.insert(6, BinaryActivation())
            super().__init__(*layers, Signs(), nn.Linear(5, 1))

    this = job("estimator=ste")
    problem = this.problem()
    problem.model = Deep()
    study = run_study(problem, problem.batch(1), this.estimator, 1, this.sampling, "s")
    assert study.alarms[NOT_MOVED].endswith("4.weight, 4.bias, and 4 more")


NOT_REACHED = {
    "cut_off": "no gradient reaches 0.weight, 0.bias, 2.weight, 2.bias (it is None)",
    "Unused": "no gradient reaches spare.weight, spare.bias (it is None)",
    "Detached": "no gradient reaches net.0.weight, net.0.bias, net.2.weight,",
    "all_frozen": "no parameter of the model requires a gradient",
    "none_at_all": "the model has no srste.BinaryActivation or BinaryStep for an estimator to act on",
}


@pytest.mark.parametrize("name", NOT_REACHED)
@pytest.mark.parametrize("estimator", ["ste", "sr_ste", "never_zeroed", "same_angle"])
def test_parameters_that_no_gradient_reaches_are_refused_before_any_work(name, estimator):
    this = with_model(name, f"estimator={estimator}")
    with pytest.raises(UserError, match=re.escape(f"does not run: {NOT_REACHED[name]}")) as error:
        this.rehearse()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("normalisation", [no_norm, per_tensor, per_row])
def test_frozen_parameters_of_any_normalisation(normalisation):
    problem = with_model("frozen").problem()
    estimator = StraightThrough(Sign(), Clipped(), mean, normalisation)
    direction = estimator.direction(problem, problem.batch(1), 1)
    assert not direction["0.weight"].any()
    assert all(direction[name].any() for name in ("2.weight", "4.weight"))


def changed(**parts):
    """A direction with other tensors in it; None: without."""

    def change(direction):
        return {n: g for n, g in (direction | parts).items() if g is not None}

    return change


SPOILT = {
    "one is missing": (changed(**{"2.weight": None}), r"the direction lacks 2\.weight$"),
    "one too many": (
        changed(other=torch.zeros(1)),
        r"the direction has other, which the model does not have$",
    ),
    "a number as a name": (
        lambda d: d | {3: torch.zeros(1)},
        r"the direction has 3, which the model does not have$",
    ),
    "another shape": (
        changed(**{"2.weight": torch.zeros(6)}),
        r"direction\['2\.weight'\] has shape \(6,\), the parameter \(6, 6\)$",
    ),
    "a shape that broadcasts": (
        changed(**{"2.weight": torch.zeros(6, 1)}),
        r"direction\['2\.weight'\] has shape \(6, 1\), the parameter \(6, 6\)$",
    ),
    "another dtype": (
        lambda d: {n: g.double() for n, g in d.items()},
        r"direction\['0\.weight'\] has dtype torch\.float64, the parameter torch\.float32$",
    ),
    "whole numbers": (
        changed(**{"4.weight": torch.ones(1, 6, dtype=torch.int64)}),
        r"direction\['4\.weight'\] has dtype torch\.int64, the parameter",
    ),
    "another device": (
        changed(**{"2.weight": torch.zeros(6, 6, device="meta")}),
        r"direction\['2\.weight'\] has device meta, the parameter cpu$",
    ),
    "an array": (
        lambda d: d | {"2.weight": d["2.weight"].numpy()},
        r"direction\['2\.weight'\] is a ndarray, not a tensor$",
    ),
    "None in it": (
        lambda d: d | {"2.weight": None},
        r"direction\['2\.weight'\] is None: no gradient has reached",
    ),
    "nothing": (lambda d: None, r"must have a tensor for every parameter, and is a NoneType$"),
    "a generator": (
        lambda d: (tensor for tensor in d.values()),
        r"must have a tensor for every parameter, and is a generator$",
    ),
}


class Spoils(StraightThrough):
    """An estimator whose direction is not like the parameters. how: in SPOILT."""

    def __init__(self, how):
        super().__init__(Sign(), Clipped(), mean, per_tensor)
        self.how = how

    def direction(self, problem, batch, samples):
        return SPOILT[self.how][0](super().direction(problem, batch, samples))


@pytest.mark.parametrize("how", SPOILT)
def test_a_direction_that_is_not_like_the_parameters(how):
    change, says = SPOILT[how]
    this = job("estimator=ste")
    problem = this.problem()
    batch = problem.batch(1)
    spoilt = change(this.estimator.direction(problem, batch, 1))
    for curve in (curve_and_reason, loss_curve):
        with pytest.raises(ValueError, match=says):
            curve(problem.model, spoilt, batch.inputs, batch.targets)
    with pytest.raises(ValueError, match=says):
        replayed(problem.model, spoilt, batch.inputs, batch.targets, 0.1, 1.0)
    for estimator, baseline in ((Spoils(how), None), (this.estimator, Spoils(how))):
        with pytest.raises(ValueError, match=says):
            run_study(problem, batch, estimator, 1, this.sampling, "s", baseline=baseline)
    axes = ("quantiser", "surrogate", "aggregation", "normalisation")
    for name, place in (("ste", "estimator"), ("sr_ste", "estimator.baseline")):
        as_typed = job(
            f"estimator={name}",
            f"{place}._target_=tests.test_not_moved.Spoils",
            f"+{place}.how='{how}'",
            *(f"~{place}.{axis}" for axis in axes),
        )
        with pytest.raises(UserError, match=f"does not run: .*{says.removesuffix('$')}"):
            as_typed.rehearse()


def test_a_launch_names_them_everywhere(tmp_path):
    a_store(tmp_path)
    done = train(
        tmp_path, "-m", "estimator=ste", "seed=0,1",
        "model._target_=tests.test_not_moved.half_forgotten",
        "data.features=5", "batches=1", "batch_size=40",
        "sampling.step=0.01", "heldout=0",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    names = "0.weight, 0.bias"
    assert f"Alarm: {NOT_MOVED} 2x, first in" in done.stdout
    assert f"batch 1: {names} (the direction of these" in done.stdout
    root = only(tmp_path / "multirun")
    assert f"batch 1: {names}</li>" in (root / "report.html").read_text()
    for record, _ in studies(root).values():
        assert record.alarm_details == {NOT_MOVED: names}
    tags = [r.data.tags for r in runs_in(f"sqlite:///{tmp_path}/mlflow.db")]
    assert {t["alarm"] for t in tags if t["kind"] == "study"} == {f"{NOT_MOVED}: {names}"}
