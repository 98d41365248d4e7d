"""`srste.convert`: modules that compute a sign become binary activations, wherever they stand."""

import pytest
import torch
from torch import nn

import srste


class SignFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a):
        return torch.where(a >= 0, 1.0, -1.0)

    @staticmethod
    def backward(ctx, gradient):
        return gradient


class StraightThroughSign(nn.Module):
    def forward(self, a):
        return SignFunction.apply(a)


class TorchSign(nn.Module):
    def forward(self, a):
        return torch.sign(a)


class Heaviside(nn.Module):
    def forward(self, a):
        return (a > 0).to(a.dtype)


class TestConvert:
    def test_signs_and_steps_wherever_they_stand(self):
        shared = TorchSign()
        model = nn.ModuleDict(
            {"a": nn.Sequential(nn.Linear(2, 2), StraightThroughSign()), "b": shared, "c": shared,
             "d": Heaviside(), "e": nn.Tanh(), "f": srste.BinaryActivation(), "g": nn.Hardtanh()}
        )  # fmt: skip
        before = str(model)
        converted = srste.convert(model)
        kinds = {name: type(module).__name__ for name, module in converted.named_modules()}
        assert kinds["a.1"] == kinds["b"] == kinds["c"] == kinds["f"] == "BinaryActivation"
        assert (kinds["d"], kinds["e"], kinds["g"]) == ("BinaryStep", "Tanh", "Hardtanh")
        assert str(model) == before

    def test_the_outputs_are_the_same_and_estimators_act(self):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 5), TorchSign(), nn.Linear(5, 1))
        inputs = torch.randn(20, 4)
        converted = srste.convert(model)
        assert torch.equal(converted(inputs), model(inputs))
        direction = srste.estimate("sr_ste", converted, inputs, torch.zeros(20, 1))
        assert any(tensor.any() for tensor in direction.values())

    def test_a_lone_sign(self):
        assert isinstance(srste.convert(TorchSign()), srste.BinaryActivation)

    def test_nothing_to_convert(self):
        with pytest.raises(ValueError, match="no module of the model computes a sign"):
            srste.convert(nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Dropout()))
