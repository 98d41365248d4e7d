"""The evaluated loss curve where learning rates or examples go through the model in parts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch._C import _functorch

from srste.curve.forward import evaluated
from srste.curve.forward.evaluated import EvaluatedCurve
from tests.evaluated import LRS, MEAN_SQUARED_ERROR, by_hand, case


@pytest.fixture(autouse=True)
def _announced_to_nobody(monkeypatch):
    monkeypatch.setattr(evaluated, "_announced", set())


@pytest.mark.parametrize("examples", [1, 5, 12])
def test_examples_in_parts(examples, caplog):
    for name in ("relu", "sign", "batch norm, eval"):
        problem = case(name)
        curve = EvaluatedCurve(*problem, 0.5, MEAN_SQUARED_ERROR, examples_at_a_time=examples)
        assert curve._examples == examples
        np.testing.assert_allclose(curve(LRS), by_hand(*problem, MEAN_SQUARED_ERROR, LRS), rtol=1e-12)
    assert not caplog.records


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("batch norm", "1 (BatchNorm2d) normalises by the batch"),
        ("dropout", "draws random numbers for the whole batch"),
        ("coupled", "an example's output depends on the others"),
    ],
)
def test_what_must_not_be_cut_is_not(name, why, caplog):
    problem = case(name)
    curve = EvaluatedCurve(*problem, 0.5, MEAN_SQUARED_ERROR, examples_at_a_time=5)
    np.testing.assert_allclose(curve(LRS), by_hand(*problem, MEAN_SQUARED_ERROR, LRS), rtol=1e-12)
    assert why in caplog.text
    EvaluatedCurve(*problem, 0.5, MEAN_SQUARED_ERROR, examples_at_a_time=5)
    assert len(caplog.records) == 1


def test_a_large_batch_is_cut_on_a_cpu(monkeypatch, caplog):
    problem = case("relu", batch=300)
    monkeypatch.setattr(evaluated, "EXAMPLES_ON_CPU", 100)
    curve = EvaluatedCurve(*problem, 0.5, MEAN_SQUARED_ERROR)
    assert (curve._examples, curve._lrs) == (100, 1)
    np.testing.assert_allclose(curve(LRS), by_hand(*problem, MEAN_SQUARED_ERROR, LRS), rtol=1e-12)
    coupled = EvaluatedCurve(*case("batch norm", batch=300), 0.5, MEAN_SQUARED_ERROR)
    assert coupled._examples == 300
    assert not caplog.records


@pytest.mark.parametrize(("name", "why"), [("branching", "data-dependent"), ("recurrent", "")])
def test_what_vmap_cannot_run_is_said(name, why, caplog):
    EvaluatedCurve(*case(name), 0.5, MEAN_SQUARED_ERROR, lrs_at_a_time=8)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "one at a time: torch.vmap cannot run it" in record.message
    assert why in record.message


class Hungry(nn.Linear):
    """A layer that has room for so many rows: those of all learning rates together."""

    room = 10**9

    def forward(self, x):
        width = 1
        if _functorch.is_batchedtensor(self.weight):
            width = len(_functorch.get_unwrapped(self.weight))
        if width * len(x) > self.room:
            raise torch.OutOfMemoryError(f"CUDA out of memory, {width} times {len(x)} rows")
        return super().forward(x)


def hungry(room, *others):
    torch.manual_seed(0)
    layer = Hungry(3, 2)
    layer.room = room
    model = nn.Sequential(layer, *others).double()
    direction = {n: torch.randn_like(p) for n, p in model.named_parameters()}
    return model, direction, torch.randn(40, 3).double(), torch.randn(40, 2).double()


def test_out_of_memory_halves_the_learning_rates(caplog):
    problem = hungry(40 * 10)
    curve = EvaluatedCurve(*problem, 0.5, MEAN_SQUARED_ERROR, lrs_at_a_time=50)
    lrs = np.linspace(0, 0.5, 101)
    losses = curve(lrs)
    problem[0][0].room = 10**9
    np.testing.assert_allclose(losses, by_hand(*problem, MEAN_SQUARED_ERROR, lrs), rtol=1e-12)
    said = [r.message for r in caplog.records if r.levelname == "WARNING"]
    assert ["25 learning rates at a time" in said[0], "6 learning rates at a time" in said[-1]] == [
        True
    ] * 2
    assert len(said) == 3
    assert "50 times 40 rows" in said[0]


def test_out_of_memory_halves_the_examples(caplog):
    problem = hungry(16)
    curve = EvaluatedCurve(*problem, 0.5, MEAN_SQUARED_ERROR)
    losses = curve(LRS)
    problem[0][0].room = 10**9
    np.testing.assert_allclose(losses, by_hand(*problem, MEAN_SQUARED_ERROR, LRS), rtol=1e-12)
    said = [r.message for r in caplog.records]
    assert [m.split("): ")[1].split(" from")[0] for m in said] == [
        "20 examples at a time", "10 examples at a time",
    ]  # fmt: skip


def test_out_of_memory_where_nothing_can_be_cut():
    with pytest.raises(torch.OutOfMemoryError, match=r"batch of 40 cannot go .* \(BatchNorm1d\)"):
        EvaluatedCurve(*hungry(16, nn.BatchNorm1d(2)), 0.5, MEAN_SQUARED_ERROR)
    with pytest.raises(torch.OutOfMemoryError, match="rows"):
        EvaluatedCurve(*hungry(0), 0.5, MEAN_SQUARED_ERROR)
