"""The evaluated loss curve against a loop in float64 that steps a copy of the model by hand."""

from __future__ import annotations

import copy
import logging
import math
import re
import time
from io import StringIO

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from torch import nn
from torch.nn.functional import cross_entropy

from srste.curve.forward import evaluated
from srste.curve.forward.evaluated import EvaluatedCurve
from srste.launch import progress
from srste.networks.models.mlp import MLP
from tests.curves import make
from tests.evaluated import (
    LRS,
    MEAN_SQUARED_ERROR,
    MODELS,
    assert_unchanged,
    by_hand,
    case,
    everything,
)
from tests.lines import loss_curve


@pytest.fixture(autouse=True)
def _announced_to_nobody(monkeypatch):
    monkeypatch.setattr(evaluated, "_announced", set())


@pytest.mark.parametrize("at_a_time", [None, 1, 3, 100])
@pytest.mark.parametrize("name", MODELS)
def test_equals_the_loop_by_hand(name, at_a_time):
    problem = case(name)
    model, inputs = problem[0], problem[2].clone()
    before = everything(model)
    curve = EvaluatedCurve(*problem, 0.5, MEAN_SQUARED_ERROR, lrs_at_a_time=at_a_time)
    losses = curve(LRS)
    assert_unchanged(before, model)
    assert torch.equal(problem[2], inputs)
    wanted = by_hand(*problem, MEAN_SQUARED_ERROR, LRS)
    np.testing.assert_allclose(losses, wanted, rtol=1e-12)
    assert curve.pre_loss == pytest.approx(wanted[0], rel=1e-12)
    assert (curve.exact, curve.lr_max) == (False, 0.5)
    assert losses.dtype == np.float64


@settings(max_examples=25)
@given(
    name=st.sampled_from(["relu", "sign", "batch norm", "dropout", "tied"]),
    seed=st.integers(0, 2**31),
    batch=st.integers(2, 9),
    lrs=st.lists(st.floats(0, 2), min_size=1, max_size=6),
)
def test_any_learning_rates(name, seed, batch, lrs):
    problem = case(name, seed, batch)
    wanted = by_hand(*problem, MEAN_SQUARED_ERROR, lrs)
    for at_a_time in (1, 4):
        curve = EvaluatedCurve(*problem, 2.0, MEAN_SQUARED_ERROR, lrs_at_a_time=at_a_time)
        np.testing.assert_allclose(curve(lrs), wanted, rtol=1e-10)
        assert curve(np.reshape(lrs, (-1, 1))).shape == (len(lrs), 1)
        assert curve(lrs[0]).shape == ()


@settings(max_examples=25)
@given(seed=st.integers(0, 2**31), how=st.sampled_from(["global", "tensor", "row"]))
def test_equals_the_exact_curve_away_from_breakpoints(seed, how):
    problem = make(seed, 4, 2, 2, True, 6, how, False)
    exact = loss_curve(*problem)
    ends = np.unique([0, *exact.breakpoints, 0.5])
    wide = np.diff(ends) > 1e-9
    lrs = ((ends[:-1] + ends[1:]) / 2)[wide]
    curve = EvaluatedCurve(*problem, 0.5, MEAN_SQUARED_ERROR)
    np.testing.assert_allclose(curve(lrs), exact(lrs), rtol=1e-10)


@pytest.mark.parametrize("name", ["relu", "batch norm"])
def test_cross_entropy(name):
    model, direction, inputs, _ = case(name)
    problem = (model, direction, inputs, torch.arange(12) % 2)
    wanted = by_hand(*problem, cross_entropy, LRS)
    for at_a_time in (1, 4):
        curve = EvaluatedCurve(*problem, 0.5, cross_entropy, lrs_at_a_time=at_a_time)
        np.testing.assert_allclose(curve(LRS), wanted, rtol=1e-12)


def test_integer_inputs():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(5, 3), nn.Flatten(), nn.Linear(6, 2)).double()
    direction = {n: torch.randn_like(p) for n, p in model.named_parameters()}
    problem = (model, direction, torch.arange(20).reshape(10, 2) % 5, torch.arange(10) % 2)
    curve = EvaluatedCurve(*problem, 0.5, cross_entropy)
    np.testing.assert_allclose(curve(LRS), by_hand(*problem, cross_entropy, LRS), rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_own_dtype(dtype):
    # The step rounds twice and the forward pass in the model's dtype, exactly as a real update does.
    model, direction, inputs, targets = case("relu")
    model, inputs, targets = model.to(dtype), inputs.to(dtype), targets.to(dtype)
    direction = {n: g.to(dtype) for n, g in direction.items()}

    def in_float64(outputs, y):
        assert outputs.dtype == y.dtype == torch.float64
        return MEAN_SQUARED_ERROR(outputs, y)

    curve = EvaluatedCurve(model, direction, inputs.double(), targets, 0.5, in_float64, lrs_at_a_time=1)
    for lr, loss in zip(LRS, curve(LRS), strict=True):
        stepped_model = copy.deepcopy(model)
        with torch.no_grad():
            for name, p in stepped_model.named_parameters():
                p.sub_(direction[name] * torch.tensor(lr, dtype=dtype))
            assert loss == MEAN_SQUARED_ERROR(stepped_model(inputs).double(), targets.double()).item()


def test_the_same_draws_at_every_learning_rate():
    model, direction, inputs, targets = case("dropout")
    for at_a_time in (1, 3):
        still = {n: torch.zeros_like(g) for n, g in direction.items()}
        options = {"lrs_at_a_time": at_a_time}
        curve = EvaluatedCurve(model, still, inputs, targets, 0.5, MEAN_SQUARED_ERROR, **options)
        assert len({*curve(LRS), curve.pre_loss}) == 1
        other = EvaluatedCurve(model, still, inputs, targets, 0.5, MEAN_SQUARED_ERROR, seed=1, **options)
        assert other.pre_loss != curve.pre_loss


@pytest.mark.parametrize("name", ["relu", "sign", "batch norm", "dropout"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_same_bits_whatever_else_is_asked_for(name, dtype):
    model, direction, inputs, targets = case(name, batch=50)
    model = model.to(dtype)
    curve = EvaluatedCurve(model, direction, inputs, targets, 0.5, MEAN_SQUARED_ERROR)
    lrs = np.linspace(0, 0.5, 20)
    losses = curve(lrs)
    np.testing.assert_array_equal([curve(lr) for lr in lrs], losses)
    np.testing.assert_array_equal(curve(lrs[::-1]), losses[::-1])
    np.testing.assert_array_equal(curve(np.repeat(lrs, 3)), np.repeat(losses, 3))
    still = {n: torch.zeros_like(g) for n, g in direction.items()}
    curve = EvaluatedCurve(model, still, inputs, targets, 0.5, MEAN_SQUARED_ERROR)
    assert set(curve(lrs)) == {curve.pre_loss}


@pytest.mark.parametrize("name", ["relu", "sign", "batch norm", "dropout"])
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 1e-5), (torch.float64, 1e-13)])
def test_nearly_the_same_bits_batched(name, dtype, rtol):
    model, direction, inputs, targets = case(name)
    problem = (model.to(dtype), direction, inputs, targets)
    lrs = np.linspace(0, 0.5, 20)
    wanted = EvaluatedCurve(*problem, 0.5, MEAN_SQUARED_ERROR)(lrs)
    for at_a_time in (2, 3, 7, 64):
        curve = EvaluatedCurve(*problem, 0.5, MEAN_SQUARED_ERROR, lrs_at_a_time=at_a_time)
        np.testing.assert_allclose(curve(lrs), wanted, rtol=rtol)
        np.testing.assert_array_equal(curve(lrs), curve(lrs))


@pytest.mark.parametrize("lr", [-1e-9, 0.5001, math.inf, -math.inf, math.nan])
def test_learning_rates_out_of_range(lr):
    curve = EvaluatedCurve(*case("relu"), 0.5, MEAN_SQUARED_ERROR)
    exact = loss_curve(*make(0, 2, 1, 1, False, 3, "none", False))
    with pytest.raises(ValueError) as one:
        curve([0.1, lr, 9.0])
    with pytest.raises(ValueError) as other:
        exact([0.1, lr, 9.0])
    assert str(one.value) == str(other.value)


def test_losses_that_are_not_finite():
    model, direction, inputs, targets = case("relu")
    huge = {n: g.float() * 1e25 for n, g in direction.items()}
    for at_a_time in (1, 4):
        curve = EvaluatedCurve(
            model.float(), huge, inputs, targets, 1e30, MEAN_SQUARED_ERROR, lrs_at_a_time=at_a_time
        )
        losses = curve([0, 1e-30, 1e-3, 1.0, 1e30])
        assert np.isfinite(losses).tolist() == [True, True, False, False, False]
    nowhere = {n: torch.full_like(g, math.nan) for n, g in direction.items()}
    assert math.isnan(EvaluatedCurve(model, nowhere, inputs, targets, 0.5, MEAN_SQUARED_ERROR).pre_loss)


def test_arguments_that_do_not_fit():
    model, direction, inputs, targets = case("relu")

    def fails(
        match, *, d=direction, x=inputs, y=targets, lr_max=0.5, loss=MEAN_SQUARED_ERROR, **options
    ):
        with pytest.raises(ValueError, match=match):
            EvaluatedCurve(model, d, x, y, lr_max, loss, **options)

    fails("lacks 0.bias", d={n: g for n, g in direction.items() if n != "0.bias"})
    fails(r"direction\['0.bias'\] has shape", d=direction | {"0.bias": torch.zeros(1)})
    fails("0 inputs", x=inputs[:0], y=targets[:0])
    fails("12 inputs, 11 targets", y=targets[:11])
    for lr_max in (0.0, -1.0, math.inf, math.nan):
        fails("must be > 0 and finite", lr_max=lr_max)
    fails("must be a scalar", loss=lambda o, y: (o - y).mean(1))
    fails("lrs_at_a_time=0", lrs_at_a_time=0)
    fails("examples_at_a_time=0", examples_at_a_time=0)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        EvaluatedCurve(model, direction, inputs[:, :2], targets, 0.5, MEAN_SQUARED_ERROR)


def test_curve_stays_when_the_model_moves_on():
    model, direction, inputs, targets = case("relu")
    curve = EvaluatedCurve(model, direction, inputs, targets, 0.5, MEAN_SQUARED_ERROR)
    before = curve(LRS)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    np.testing.assert_array_equal(curve(LRS), before)


def test_seconds():
    for at_a_time in (1, 16):
        curve = EvaluatedCurve(*case("relu"), 0.5, MEAN_SQUARED_ERROR, lrs_at_a_time=at_a_time)
        assert curve.seconds(0) == 0
        assert 0 < curve.seconds(1) < 1
        assert curve.seconds(1600) == pytest.approx(100 * curve.seconds(16))
    with pytest.raises(ValueError, match="count=-1"):
        curve.seconds(-1)


def test_progress_of_a_launch_only(monkeypatch, caplog):
    caplog.set_level(logging.INFO)

    def evaluated(reporter):
        with reporter.evaluating(7) as advance:
            advance(3)
            reporter.log_line()

    with progress.reporting(1) as reporter:
        evaluated(reporter)  # a fast one
    monkeypatch.setattr(progress, "SECONDS_BEFORE_SHOWN", 0)
    evaluated(reporter)  # outside a launch
    with progress.reporting(1) as reporter:
        evaluated(reporter)
        reporter.log_line()  # it is over
    said = [record.message for record in caplog.records]
    nothing = "0 of 1 studies done"
    assert [said[0], said[1], said[3]] == [nothing, nothing, nothing]
    assert re.fullmatch(rf"{nothing}; learning rates: 3 of 7, \d+ s left", said[2])


def test_a_line_again_and_again(monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.01)
    with progress.reporting(2) as reporter:
        reporter.study_done("one", reused=False)
        deadline = time.monotonic() + 30
        while len(caplog.records) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert {record.message for record in caplog.records[1:3]} == {"1 of 2 studies done"}


def test_progress_bar(monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BEFORE_SHOWN", 0)
    curve = EvaluatedCurve(
        *case("relu"), 0.5, MEAN_SQUARED_ERROR, lrs_at_a_time=1,
        progress=lambda count: progress.reporter().evaluating(count),
    )  # fmt: skip
    screen = progress.Reporter(1, Console(file=StringIO(), force_terminal=True))
    monkeypatch.setattr(progress, "_active", screen)
    shown = []
    update = screen._bar.update
    monkeypatch.setattr(
        screen._bar, "update", lambda task, **what: (shown.append(what), update(task, **what))
    )
    curve(LRS)
    assert shown == [{"completed": n, "visible": n < 7} for n in range(1, 8)]
    assert [task.description for task in screen._bar.tasks] == ["studies"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", sorted(MODELS.keys() - {"recurrent"}))  # cuDNN warns of copied weights
def test_on_a_gpu(name):
    model, direction, inputs, targets = case(name)
    curve = EvaluatedCurve(model.cuda(), direction, inputs, targets, 0.5, MEAN_SQUARED_ERROR)
    assert curve._model.device.type == "cuda"
    moved = ({n: g.cuda() for n, g in direction.items()}, inputs.cuda(), targets.cuda())
    wanted = by_hand(model, *moved, MEAN_SQUARED_ERROR, LRS)
    np.testing.assert_allclose(curve(LRS), wanted, rtol=1e-9)


def test_mlp_of_the_project():
    torch.manual_seed(0)
    model = MLP()
    direction = {n: torch.randn_like(p) / p.numel() ** 0.5 for n, p in model.named_parameters()}
    problem = (model, direction, torch.randn(64, 32), torch.randn(64, 1))
    curve = EvaluatedCurve(*problem, 0.5, MEAN_SQUARED_ERROR)
    # In float32 the sign of a unit can come out otherwise, which moves one example of 64.
    np.testing.assert_allclose(curve(LRS), loss_curve(*problem)(LRS), rtol=0.05)


def test_a_module_that_stands_in_two_places_is_still_there_after_a_batched_pass():
    layer = nn.Linear(3, 3)
    model = nn.Sequential(layer, nn.Tanh(), layer, nn.BatchNorm1d(3), nn.Linear(3, 1)).double()
    direction = {name: torch.randn_like(p) for name, p in model.named_parameters()}
    problem = model, direction, torch.randn(8, 3).double(), torch.randn(8, 1).double()
    curve = EvaluatedCurve(*problem, 0.5, MEAN_SQUARED_ERROR, lrs_at_a_time=4)
    wanted = by_hand(*problem, MEAN_SQUARED_ERROR, LRS)
    np.testing.assert_allclose(curve(LRS), wanted, rtol=1e-12)
    curve._lrs = 1
    np.testing.assert_allclose(curve(LRS), wanted, rtol=1e-12)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_is_refused(bad):
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 1))
    direction = {name: torch.randn_like(p) for name, p in model.named_parameters()}
    x, y = torch.randn(8, 3), torch.randn(8, 1)
    spoilt = x.clone()
    spoilt[5, 1] = bad
    with pytest.raises(ValueError, match="inputs holds a value that is not finite"):
        EvaluatedCurve(model, direction, spoilt, y, 0.5, MEAN_SQUARED_ERROR)
    with pytest.raises(ValueError, match="targets holds a value that is not finite"):
        EvaluatedCurve(model, direction, x, y * bad, 0.5, MEAN_SQUARED_ERROR)
