"""The coordinate discrete gradient: the loss with every single weight moved up and down."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator

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
    the layers above are run again for them alone, for all units of a layer together. Of other networks
    the whole forward pass is run twice a weight, which a log says.

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
        if not is_row(model):
            return Cost(2 * sum(p.numel() for p in model.parameters() if p.requires_grad), 0)
        segments, stairs = segments_of(model, stairs_of)
        steps = [
            _linear(segment).out_features * len(of_layer.thresholds)
            for segment, of_layer in zip(segments[:-1], stairs, strict=True)
        ]
        return Cost(1 + sum(steps), 0, at_most=True)

    def direction(self, task: Task, batch: Batch, samples: int) -> Direction:
        """See :class:`srste.estimators.base.Estimator`."""
        gradient, why = None, "the network is not a row of linear layers and activations"
        if is_row(task.model) and batch.inputs.ndim == 2:
            try:
                gradient = self._by_unit(task, batch)
            except NotApplicableError as error:
                why = str(error)
        if gradient is None:
            gradient = self._by_weight(task, batch, why)
        return self._normalisation(
            {
                name: gradient[name].to(p) if p.requires_grad else torch.zeros_like(p)
                for name, p in task.model.named_parameters()
            }
        )

    def _by_weight(self, task: Task, batch: Batch, why: str) -> dict[str, Tensor]:
        """Return the differences by two forward passes a weight. why: it cannot be faster."""
        moving = {name: p for name, p in task.model.named_parameters() if p.requires_grad}
        passes = 2 * sum(p.numel() for p in moving.values())
        log.warning("CDG: %s: %s forward passes a batch", why, f"{passes:,}")
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
                reach = self.radius * columns.abs().amax(1, keepdim=True)
                gaps = torch.stack([(a - threshold).abs() for threshold in rise.thresholds])
                rows = torch.zeros(a.shape[1], columns.shape[1], dtype=torch.float64, device=a.device)
                # Examples and the units that a weight's move may give another level.
                for of, unit in _blocks(*(gaps.amin(0) <= reach).nonzero(as_tuple=True)):
                    step, at = self.radius * columns[of], a[of, unit, None]
                    now, up, down = rise.place(at), rise.place(at + step), rise.place(at - step)
                    for level, value in enumerate(rise.values):
                        turned = (up == level).double() - (down == level).double()
                        some = ((now != level) & (turned != 0)).any(1).nonzero()[:, 0]
                        if not len(some):
                            continue
                        changed = states[of[some]]
                        changed[torch.arange(len(some)), unit[some]] = value
                        effect = losses_above(place, changed, of[some]) - losses[of[some]]
                        rows.index_add_(0, unit[some], effect[:, None] * turned[some])
                _put(gradient, names, layer, rows / (2 * self.radius * len(a)))
            layer = _linear(segments[-1])
            _put(gradient, names, layer, self._of_outputs(task, layer, states, targets))
        return gradient

    def _of_outputs(self, task: Task, layer: nn.Linear, inputs: Tensor, targets: Tensor) -> Tensor:
        """Return the differences by the weights into the outputs: (outputs, inputs), with a last column
        of the bias if there is one."""
        outputs, columns = layer(inputs), _with_ones(inputs, layer)
        rows = []
        for unit in range(outputs.shape[1]):
            for column in columns.T:
                moved = torch.zeros_like(outputs)
                moved[:, unit] = self.radius * column
                up, down = (task.loss(outputs + sign * moved, targets) for sign in (1, -1))
                rows.append((up - down) / (2 * self.radius))
        return torch.stack(rows).reshape(outputs.shape[1], -1)


_BLOCK = 2**14


def _blocks(of: Tensor, unit: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield pairs of an example and a unit, as many at once as memory is to be had for."""
    yield from zip(torch.split(of, _BLOCK), torch.split(unit, _BLOCK), strict=True)


def is_row(model: nn.Module) -> bool:
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
