"""Models that no loss curve takes are refused in one line that says what to give."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from srste.curve import EvaluatedCurve
from srste.losses import SquaredError
from srste.networks.activations import BinaryActivation
from tests.lines import curve_and_reason, loss_curve


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))


class Gives(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.net, self.function = network(), function

    def forward(self, x):
        return self.function(self.net(x))


ONE = "and a loss curve needs one real tensor: wrap the model in a module whose forward gives that$"
OUTPUTS = {
    "dict": lambda o: {"logits": o},
    "tuple": lambda o: (o, o),
    "list": lambda o: [o],
    "NoneType": lambda o: None,
    "float": lambda o: 0.5,
    r"torch.complex64 tensor": lambda o: o * 1j,
}
SCRIPT = "TorchScript cannot be stepped; give the module it was made of$"


def scripted_part():
    return nn.Sequential(nn.Linear(4, 5), torch.jit.script(nn.Tanh()), nn.Linear(5, 2))


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
@pytest.mark.parametrize(
    ("make", "says"),
    [
        *[(lambda f=f: Gives(f), f"^the model gives a {name}, {ONE}") for name, f in OUTPUTS.items()],
        (lambda: torch.jit.script(network()), rf"^the model is a \w+: {SCRIPT}"),
        (lambda: torch.jit.trace(network(), torch.randn(8, 4)), rf"^the model is a \w+: {SCRIPT}"),
        (scripted_part, rf"^1 is a \w+: {SCRIPT}"),
        (lambda: nn.DataParallel(network()), "^the model is a DataParallel, .*; give its .module$"),
        (lambda: nn.Sequential(nn.DataParallel(network())), "^0 is a DataParallel, which runs on sev"),
        (lambda: network().forward, r"^the model must be a torch\.nn\.Module, not a method$"),
        (lambda: torch.sign, r"^the model must be a torch\.nn\.Module, not a builtin"),
    ],
)
def test_refused(make, says):
    model = make()
    x, y = torch.randn(8, 4), torch.randn(8, 2)
    named = model.named_parameters() if isinstance(model, nn.Module) else []
    direction = {n: torch.randn_like(p) for n, p in named}
    for curve in (curve_and_reason, EvaluatedCurve):
        with pytest.raises(ValueError, match=says) as error:
            curve(model, direction, x, y, 0.5, SquaredError())
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("loss", [lambda o, t: (o - t) ** 2, lambda o, t: 0.5, lambda o, t: None])
def test_losses_that_are_no_scalar(loss):
    model = network()
    direction = {n: torch.randn_like(p) for n, p in model.named_parameters()}
    with pytest.raises(ValueError, match=r"^loss\(outputs, targets\) must be a scalar tensor, not"):
        curve_and_reason(model, direction, torch.randn(8, 4), torch.randn(8, 2), loss=loss)


def test_the_module_of_a_data_parallel_one_is_taken():
    model = nn.DataParallel(nn.Sequential(nn.Linear(4, 5), BinaryActivation(), nn.Linear(5, 2)))
    direction = {n: torch.randn_like(p) for n, p in model.module.named_parameters()}
    assert loss_curve(model.module, direction, torch.randn(8, 4), torch.randn(8, 2)).exact
