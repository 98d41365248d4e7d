"""The code, the messages, the numbers and the pictures of docs/loss_curve.md and docs/proofs.md."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
import torch
from torch import nn

from srste.curve import NotExactError
from srste.networks.activations import BinaryActivation
from tests.lines import loss_curve, replayed
from tests.support import ROOT

PAGE = (ROOT / "docs" / "loss_curve.md").read_text()
BOTH = PAGE + (ROOT / "docs" / "proofs.md").read_text()
PYTHON = re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S)


def test_its_code_runs_in_its_order(capsys):
    names: dict[str, object] = {}
    assert len(PYTHON) == 3
    for block in PYTHON:
        exec(block, names)  # noqa: S102
    out = capsys.readouterr().out
    assert "Minimum(lr=" in out
    assert "Descent(intervals=" in out
    assert "False module 1 (ReLU) has an input that moves" in out


def test_its_pictures_are_there():
    pictures = re.findall(r"!\[[^]]+\]\(([^)]+)\)", PAGE)
    assert len(pictures) == 2
    assert all((ROOT / "docs" / picture).is_file() for picture in pictures)


def test_its_numbers_are_those_that_its_command_prints(tmp_path):
    command = re.search(r"`python (docs/images/\S+)`", PAGE)
    done = subprocess.run(
        [sys.executable, command[1], "--folder", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, check=True, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert {path.name for path in tmp_path.iterdir()} == {
        "loss_curve_example.png",
        "loss_curve_whole.png",
    }
    for tried, loss in re.findall(r"best of ([\d,]+): ([\d.]+) at", done.stdout):
        assert f"| {tried} | {loss} |" in BOTH
    for width, *counts in re.findall(
        r"width (\d+): global (\S+), per tensor (\S+), per row (\S+)", done.stdout
    ):
        assert f"| {width} | {' | '.join(counts)} |" in BOTH
    breakpoints, loss, lr = re.search(
        r"breakpoints in \(0, 0.5]: (\S+).*exact minimum: (\S+) at (\S+),", done.stdout, re.S
    ).groups()
    assert f"{breakpoints} breakpoints" in BOTH
    assert f"{loss} at {lr}" in BOTH


class Applied(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.linear, self.function = nn.Linear(4, 4), function

    def forward(self, x):
        return self.function(self.linear(x))


class Product(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two, self.act = nn.Linear(4, 4), nn.Linear(4, 4), BinaryActivation()

    def forward(self, x):
        return self.act(self.one(x)) * self.act(self.two(x))


class Gated(Product):
    def forward(self, x):
        return self.act(self.one(x)) * x


class Forgetting(Product):
    def forward(self, x):
        h = self.act(self.one(x))
        h.mul_(0.5)
        return self.two(h)


class Looking(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x):
        return self.linear(x) if x.sum() > 0 else x


def hooked():
    linear = nn.Linear(4, 4)
    linear.register_forward_hook(lambda _, __, output: output**2)
    return linear


ACT = BinaryActivation()


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)), "1: its input moves and so do its weights"),
        (
            nn.Sequential(
                nn.Conv2d(1, 2, 2, padding=1), ACT, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 4)
            ),
            "module 2 (MaxPool2d) has an input that moves",
        ),
        (
            nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), ACT, nn.Linear(4, 4)),
            "module 1 (BatchNorm1d) is in training mode and normalises by the batch",
        ),
        (nn.Sequential(nn.Linear(4, 4), nn.ReLU()), "module 1 (ReLU) has an input that moves"),
        (Applied(torch.tanh), "tanh: tanh of a value that moves"),
        (Applied(lambda h: h == 0), "eq: eq of a value that moves"),
        (Product(), "mul: two values that both depend on the step are multiplied"),
        (
            nn.Sequential(nn.Linear(4, 4), ACT, nn.Dropout(), nn.Linear(4, 4)),
            "module 2 (Dropout) is in training mode and draws at random",
        ),
        (Looking(), "its forward cannot be traced"),
        (
            nn.Sequential(hooked()),
            "has hooks, parameters made of others, or another forward than its class",
        ),
        (Gated(), "mul: units are multiplied by what depends on the example"),
        (Forgetting(), "its forward does what its graph does not show, as writing in place"),
        (nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 4)), "it writes into its inputs"),
    ],
)
def test_what_is_not_exact_says_what_the_page_says(model, says):
    assert f"`{says}`" in PAGE
    direction = {name: torch.randn_like(p) for name, p in model.named_parameters()}
    shape = (
        (3, 1, 3, 3) if isinstance(model, nn.Sequential) and isinstance(model[0], nn.Conv2d) else (3, 4)
    )
    with pytest.raises(NotExactError) as error:
        loss_curve(model, direction, torch.randn(shape), torch.randn(3, 4))
    assert says in str(error.value)


def test_a_structural_zero_is_on_the_fence():
    """What the page says of h - mean(h): its sign is up to rounding, and the replay says so."""

    class Centred(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.inner, self.last = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 1)
            self.act = BinaryActivation()

        def forward(self, x):
            h = self.inner(self.act(self.first(x)))
            return self.last(self.act(h - h.mean(1, keepdim=True)))

    torch.manual_seed(0)
    model = Centred()
    direction = {name: torch.randn_like(p) for name, p in model.named_parameters()}
    with torch.no_grad():
        for tensor in (model.inner.weight, model.inner.bias):
            tensor[:] = tensor[:1].clone()  # all units of h are equal
        for name in ("inner.weight", "inner.bias"):
            direction[name][:] = direction[name][:1].clone()
    x, y = torch.randn(50, 4), torch.randn(50, 1)
    curve = loss_curve(model, direction, x, y)
    found = replayed(model, direction, x, y, 0.3, float(curve(0.3)))
    assert found.on_the_fence == 50
    assert found.explained
