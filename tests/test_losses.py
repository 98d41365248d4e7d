"""What a loss makes of a teacher's outputs: the targets."""

from __future__ import annotations

from math import exp, log

import pytest
import torch

from srste.losses import AbsoluteError, CrossEntropy, Logistic, SquaredError


@pytest.mark.parametrize(
    ("loss", "outputs", "targets", "value"),
    [
        (SquaredError(), [[1.0, -2.0], [0.5, 3.0]], [[3.0, -1.0], [0.5, -1.0]], (4 + 1 + 0 + 16) / 4),
        (AbsoluteError(), [[1.0, -2.0], [0.5, 3.0]], [[3.0, -1.0], [0.5, -1.0]], (2 + 1 + 0 + 4) / 4),
        (Logistic(), [[1.0], [2.0]], [[1.0], [-1.0]], (log(1 + exp(-1)) + log(1 + exp(2))) / 2),
        (CrossEntropy(), [[1.0, 3.0], [0.0, 0.0]], [0, 1], (log(1 + exp(2)) + log(2)) / 2),
    ],
)
def test_values_by_hand(loss, outputs, targets, value):
    given = torch.tensor(outputs, dtype=torch.float64), torch.tensor(targets)
    assert float(loss(*given)) == pytest.approx(value, rel=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("loss", [SquaredError(), AbsoluteError()])
def test_errors_are_measured_from_the_outputs_themselves(loss, dtype):
    outputs = torch.tensor([[0.5], [-2.0], [0.0]], dtype=dtype)
    targets = loss.targets(outputs)
    assert targets.dtype == dtype
    assert targets.tolist() == outputs.tolist()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_logistic_targets_are_signs_and_that_of_zero_is_up(dtype):
    targets = Logistic().targets(torch.tensor([[0.5, -0.5], [0.0, -0.0], [3.0, -1e-30]], dtype=dtype))
    assert targets.dtype == dtype
    assert targets.tolist() == [[1, -1], [1, 1], [1, -1]]


def test_classes_are_the_places_of_the_largest_outputs():
    outputs = torch.tensor([[0.1, 0.3], [0.3, 0.1], [-2.0, -1.0]])
    assert CrossEntropy().targets(outputs).tolist() == [1, 0, 1]
    three = torch.tensor([[0.1, 0.3, 0.2], [0.0, -1.0, 5.0]])
    targets = CrossEntropy().targets(three)
    assert targets.tolist() == [1, 2]
    assert targets.dtype == torch.int64


@pytest.mark.parametrize("shape", [(4,), (4, 1), (4, 3, 2)])
def test_no_classes_without_two_outputs_or_more(shape):
    with pytest.raises(ValueError, match="cross-entropy needs outputs") as refused:
        CrossEntropy().targets(torch.zeros(shape))
    assert str(tuple(shape[1:])) in str(refused.value)
