"""The coordinate discrete gradient: the loss with every single weight moved up and down."""

from __future__ import annotations

import copy
import logging

import torch
from torch import Tensor, nn

from srste.errors import NotApplicableError
from srste.estimators.base import Cost, Direction, Normalisation
from srste.estimators.chains import segments_of
from srste.estimators.sampled import losses_of_examples
from srste.estimators.smoothed import loss_at
from srste.networks.arguments import positive
from srste.networks.levels import stairs_of
from srste.problem.task import Batch, Task

log = logging.getLogger(__name__)


class CoordinateDifference:
    """The discrete gradient (CDG), the nearest thing to a gradient that a network of signs has.

    Direction: normalisation((L(w + e u_i) - L(w - e u_i)) / (2 e) for every weight i), u_i its unit
               vector

    In a row of linear layers and activations a weight's move does nothing but change the level of its
    unit for some examples, and what that does to an example's loss is the same whichever weight caused
    it: so each unit is given each of its levels once, for the examples that a weight can give it to, and
    the layers above are run again for them alone. Of other networks the whole forward pass is run twice
    a weight, which a log says.

    Args: normalisation: see `srste.estimators.base`. radius: e, > 0.
    Raises: ValueError: `CoordinateDifference(radius=...)` must be > 0.
    Properties: deterministic; computed in float64; for a row of linear layers at most a forward pass, of
        the layers above, for each unit and step between its levels; else 2 forward passes a weight; none
        backward.
    References: the authors of the note of June 2021, who compare directions with it.
    """

    stochastic = False

    def __init__(self, normalisation: Normalisation, radius: float = 0.1) -> None:
        self.radius = positive(self, "radius", radius)
        self._normalisation = normalisation

    def cost(self, model: nn.Module, samples: int) -> Cost:
        """See :func:`srste.estimators.base.cost_of`; of a row of linear layers a bound."""
        if not _is_row(model):
            return Cost(2 * sum(p.numel() for p in model.parameters() if p.requires_grad), 0)
        segments, stairs = segments_of(model, stairs_of)
        steps = [
            _linear(segment).out_features * len(of_layer.thresholds)
            for segment, of_layer in zip(segments[:-1], stairs, strict=True)
        ]
        return Cost(1 + sum(steps), 0, at_most=True)

    def direction(self, task: Task, batch: Batch, samples: int) -> Direction:
        """See :class:`srste.estimators.base.Estimator`."""
        of = self._by_unit if _is_row(task.model) else self._by_weight
        gradient = of(task, batch)
        return self._normalisation(
            {
                name: gradient[name].to(p) if p.requires_grad else torch.zeros_like(p)
                for name, p in task.model.named_parameters()
            }
        )

    def _by_weight(self, task: Task, batch: Batch) -> dict[str, Tensor]:
        """Return the differences by two forward passes a weight."""
        moving = {name: p for name, p in task.model.named_parameters() if p.requires_grad}
        passes = 2 * sum(p.numel() for p in moving.values())
        log.warning(
            "CDG: the network is not a row of linear layers and activations: %s forward passes a batch",
            f"{passes:,}",
        )
        gradient = {}
        for name, p in moving.items():
            of_tensor = torch.zeros(p.numel(), dtype=torch.float64)
            for i in range(p.numel()):
                offset = torch.zeros_like(p).flatten()
                offset[i] = self.radius
                up, down = (
                    loss_at(task, batch, {name: sign * offset.reshape(p.shape)}) for sign in (1, -1)
                )
                of_tensor[i] = (up - down) / (2 * self.radius)
            gradient[name] = of_tensor.reshape(p.shape)
        return gradient

    def _by_unit(self, task: Task, batch: Batch) -> dict[str, Tensor]:
        """Return the differences by the effects of other levels."""
        model = copy.deepcopy(task.model).double()
        segments, stairs = segments_of(model, stairs_of)
        names = {id(p): name for name, p in model.named_parameters()}
        targets = batch.targets.double() if batch.targets.is_floating_point() else batch.targets
        gradient: dict[str, Tensor] = {}

        def losses_above(place: int, states: Tensor, of: Tensor | slice) -> Tensor:
            """Return each example's loss from the outputs of that activation on."""
            for above, rise in zip(segments[place + 1 : -1], stairs[place + 1 :], strict=True):
                states = rise(above(states))
            return losses_of_examples(task.loss, segments[-1](states), targets[of])

        with torch.no_grad():
            states = batch.inputs.double()
            for place, rise in enumerate(stairs):
                layer = _linear(segments[place])
                inputs, a = states, layer(states)
                states = rise(a)
                losses = losses_above(place, states, slice(None))
                columns = _with_ones(inputs, layer)
                reach = self.radius * columns.abs().amax(1)
                rows = []
                for unit in range(a.shape[1]):
                    row = torch.zeros(columns.shape[1], dtype=torch.float64, device=a.device)
                    gaps = [(a[:, unit] - threshold).abs() for threshold in rise.thresholds]
                    near = (torch.stack(gaps).amin(0) <= reach).nonzero()[:, 0]
                    step, at = self.radius * columns[near], a[near, unit, None]
                    now, up, down = rise.place(at)[:, 0], rise.place(at + step), rise.place(at - step)
                    for level, value in enumerate(rise.values):
                        others = (now != level).nonzero()[:, 0]
                        if not len(others):
                            continue
                        changed = states[near[others]]
                        changed[:, unit] = value
                        of = near[others]
                        effect = losses_above(place, changed, of) - losses[of]
                        row += effect @ (
                            (up[others] == level).double() - (down[others] == level).double()
                        )
                    rows.append(row)
                _put(gradient, names, layer, torch.stack(rows) / (2 * self.radius * len(a)))
            layer = _linear(segments[-1])
            outputs, columns = layer(states), _with_ones(states, layer)
            rows = []
            for unit in range(outputs.shape[1]):
                differences = []
                for column in columns.T:
                    moved = torch.zeros_like(outputs)
                    moved[:, unit] = self.radius * column
                    up, down = (task.loss(outputs + sign * moved, targets) for sign in (1, -1))
                    differences.append((up - down) / (2 * self.radius))
                rows.append(torch.stack(differences))
            _put(gradient, names, layer, torch.stack(rows))
        return gradient


def _is_row(model: nn.Module) -> bool:
    """Whether it is a row of linear layers and activations."""
    try:
        segments, _ = segments_of(model, stairs_of)
    except NotApplicableError:
        return False
    single = all(len(s) == 1 and type(s[0]) is nn.Linear for s in segments)
    shared = len({id(p) for p in model.parameters()}) < len(list(model.named_parameters()))
    return single and not shared


def _linear(segment: nn.Sequential) -> nn.Linear:
    (layer,) = segment
    assert isinstance(layer, nn.Linear)
    return layer


def _with_ones(inputs: Tensor, layer: nn.Linear) -> Tensor:
    """Return what each weight into a unit is multiplied by: the inputs, and 1 for a bias."""
    return inputs if layer.bias is None else torch.cat([inputs, torch.ones_like(inputs[:, :1])], 1)


def _put(gradient: dict[str, Tensor], names: dict[int, str], layer: nn.Linear, rows: Tensor) -> None:
    """Store a layer's differences, (units, inputs), with a last column of the bias if it has one."""
    gradient[names[id(layer.weight)]] = rows[:, : layer.in_features]
    if layer.bias is not None:
        gradient[names[id(layer.bias)]] = rows[:, -1]
