"""Models without an exact loss curve, and their losses by a loop that steps a copy of the model."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import nn

from srste.losses import SquaredError
from srste.networks.activations import BinaryActivation

MEAN_SQUARED_ERROR = SquaredError()

LRS = np.linspace(0, 0.5, 7)


class Buffered(nn.Module):
    """Counts its passes in one buffer in place, replaces another, and lets both into the output."""

    def __init__(self):
        super().__init__()
        self.register_buffer("passes", torch.ones((), dtype=torch.float64))
        self.register_buffer("scale", torch.ones((), dtype=torch.float64))

    def forward(self, x):
        self.passes += 1
        self.scale = self.scale * 1.5
        return x * self.passes * self.scale


class Branching(nn.Module):
    """What it does depends on the numbers, which vmap cannot follow."""

    def forward(self, a):
        return a.relu() if a.mean() > 0 else a.tanh()


class Recurrent(nn.Module):
    """Its LSTM keeps its weights in a list of its own, which `functional_call` does not see."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3, 4, batch_first=True)

    def forward(self, x):
        return self.lstm(x)[0][:, -1]


class Standardised(nn.Module):
    """Couples the examples of a batch, and is not one of PyTorch's modules that do."""

    def forward(self, a):
        return (a - a.mean(0)) / (a.std(0) + 1)


class Tied(nn.Module):
    """One weight in two places."""

    def __init__(self):
        super().__init__()
        self.into, self.out = nn.Linear(4, 4), nn.Linear(4, 4)
        self.out.weight = self.into.weight

    def forward(self, x):
        return self.out(self.into(x).relu())


def conv():
    return nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(inplace=True),
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2),
    )  # fmt: skip


def instance_norm():
    return nn.Sequential(nn.Conv1d(2, 3, 2), nn.InstanceNorm1d(3, True, True), nn.Flatten())


def relu():
    return nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 2))


def dropout():
    return nn.Sequential(
        nn.Linear(3, 8), nn.ReLU(), nn.Dropout(0.4), nn.Linear(8, 8), nn.Dropout(), nn.Linear(8, 2)
    )


MODELS = {
    "relu": (relu, (3,)),
    "sign": (lambda: nn.Sequential(nn.Linear(3, 9), BinaryActivation(), nn.Linear(9, 2)), (3,)),
    "sign, input in place": (lambda: nn.Sequential(nn.ReLU(inplace=True), *relu()), (3,)),
    "batch norm": (conv, (2, 6, 6)),
    "batch norm, eval": (lambda: conv().eval(), (2, 6, 6)),
    "instance norm": (instance_norm, (2, 6)),
    "dropout": (dropout, (3,)),
    "buffers": (lambda: nn.Sequential(nn.Linear(3, 2), Buffered()), (3,)),
    "branching": (lambda: nn.Sequential(nn.Linear(3, 4), Branching(), nn.Linear(4, 2)), (3,)),
    "recurrent": (Recurrent, (5, 3)),
    "coupled": (lambda: nn.Sequential(nn.Linear(3, 4), Standardised(), nn.Linear(4, 2)), (3,)),
    "tied": (Tied, (4,)),
}  # fmt: skip


def case(name, seed=0, batch=12):
    """(model, direction, inputs, targets), in float64."""
    make_model, shape = MODELS[name]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = make_model().double()
        direction = {n: torch.randn_like(p) for n, p in model.named_parameters()}
        inputs = torch.randn(batch, *shape, dtype=torch.float64)
        targets = torch.randn_like(copy.deepcopy(model)(inputs.clone()))
    return model, direction, inputs, targets


def by_hand(model, direction, inputs, targets, loss, lrs, seed=0):
    """The losses, each by a fresh copy of the model."""
    losses = []
    for lr in lrs:
        stepped_model = copy.deepcopy(model)
        with torch.random.fork_rng(), torch.no_grad():
            for name, parameter in stepped_model.named_parameters():
                parameter.sub_(float(lr) * direction[name])
            torch.manual_seed(seed)
            losses.append(loss(stepped_model(inputs.clone()), targets).item())
    return np.array(losses)


def everything(model):
    """What must be as it was: the tensors and their identities, the modes, the random state."""
    tensors = {n: (id(t), t.clone()) for n, t in [*model.named_parameters(), *model.named_buffers()]}
    modes = {name: (m.training, len(m._forward_hooks)) for name, m in model.named_modules()}
    flags = [p.requires_grad for p in model.parameters()]
    stats = [getattr(m, "track_running_stats", None) for m in model.modules()]
    return tensors, modes, flags, stats, torch.get_rng_state()


def assert_unchanged(before, model):
    after = everything(model)
    assert before[0].keys() == after[0].keys()
    for name, (identity, values) in before[0].items():
        assert identity == after[0][name][0]
        assert torch.equal(values, after[0][name][1])
    assert before[1:4] == after[1:4]
    assert torch.equal(before[4], after[4])
