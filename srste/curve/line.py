"""A model along a direction, read once for all that is asked of it."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from srste.curve.forward.evaluated import EvaluatedCurve, Progress
from srste.curve.loss_curve import ExactCurve, LossCurve
from srste.curve.network.base import (
    Network,
    NotExactError,
    by_name,
    check_direction,
    check_finite,
    check_lr_max,
    check_model,
)
from srste.curve.network.sequential import as_float64, chain
from srste.losses import LossFunction, SquaredError

if TYPE_CHECKING:
    from jaxtyping import Shaped

    from srste.curve.engine.link_table import Links
    from srste.curve.network.graph import Traced


class Line:
    """The models with weights ``w - lr * direction``, lr >= 0.

    What the model is made of is read once, off its modules or off its traced forward, and then serves
    the curves of all batches and losses.

    Args:
        model: any ``torch.nn.Module`` of Python's on one device whose forward takes the inputs alone and
            gives one real tensor. Not: outputs that are dicts, tuples or complex, TorchScript,
            `nn.DataParallel` and `DistributedDataParallel`, whose ``.module`` it takes. It is left as it
            is, and its weights must stay as they are while the line is used.
        direction: a tensor for every name in ``model.named_parameters()``, of the parameter's shape,
            dtype and device; or a list of them, in the order of ``model.parameters()``.
    Raises: ValueError that names the parameter which has no tensor like it.
    """

    def __init__(self, model: nn.Module, direction: Mapping[str, Tensor] | Sequence[Tensor]) -> None:
        self.model = model
        self.direction = by_name(model, direction)
        self._chain = chain(model, self.direction)
        if self._chain is None:
            check_model(model)
            check_direction(dict(model.named_parameters()), self.direction)
        self._traced: dict[tuple[object, ...], Traced | str] = {}
        self._links: dict[int, Links] = {}
        self._parameters = self._chain.parameters if self._chain else [*model.parameters()]
        self._versions = _versions(self._parameters)

    def loss(
        self,
        inputs: Shaped[Tensor, "batch *features"],
        targets: Shaped[Tensor, "batch *targets"],
        loss: LossFunction | None = None,
        lr_max: float = 0.5,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> LossCurve:
        """The loss of a batch for every learning rate in [0, lr_max]: exact where the model and the loss
        have an exact form, and otherwise evaluated by forward passes; ``why_not`` of the curve says why.

        Args:
            inputs: (batch, ...), any float dtype and device.
            targets: of the outputs' shape, or (batch,) classes; for an evaluated curve whatever the loss
                takes.
            loss: the mean squared error, if none is given.
            lr_max: the largest learning rate, > 0.
            seed: of layers that draw random numbers, for an evaluated curve.
            progress: is told how far an evaluated curve is, see :class:`EvaluatedCurve`.
        Raises: ValueError for shapes that do not fit, an empty batch, lr_max not > 0, a value that is
            not finite, or a model whose weights have changed.
        """
        # Not by its truth: a loss that is a module with a length may be false.
        loss = SquaredError() if loss is None else loss
        try:
            return self.exact_loss(inputs, targets, loss, lr_max)
        except NotExactError as error:
            return EvaluatedCurve(
                self.model, self.direction, inputs, targets, lr_max, loss,
                seed=seed, why_not=str(error), progress=progress,
            )  # fmt: skip

    def exact_loss(
        self,
        inputs: Shaped[Tensor, "batch *features"],
        targets: Shaped[Tensor, "batch *targets"],
        loss: LossFunction | None = None,
        lr_max: float = 0.5,
    ) -> ExactCurve:
        """As :meth:`loss`, of a model and a loss that must have an exact form. It is computed on as many
        threads as ``torch.get_num_threads()``, whose number changes no loss by more than rounding.

        Raises: NotExactError that names what has no exact form; ValueError as :meth:`loss`.
        """
        check_lr_max(lr_max)
        if inputs.ndim < 1 or not inputs.shape[0]:
            raise ValueError(f"inputs must be (batch >= 1, ...), not {tuple(inputs.shape)}")
        network = self.network(inputs)
        # Numba and the kernels take half a second to import: not for `--help`, nor for a bad command.
        from srste.curve.engine.batch_loss import loss_along

        loss = SquaredError() if loss is None else loss
        links = self._links.get(id(network))
        pieces, links = loss_along(network, links, loss, inputs, targets, float(lr_max))
        self._links[id(network)] = links
        return ExactCurve(pieces, float(lr_max))

    def network(self, inputs: Tensor) -> Network:
        """What the model is made of as a curve follows it, for inputs (batch, ...) like these.

        Raises: NotExactError naming what has no exact form, but for links between units that are too
            many, which is seen when they are asked for; ValueError for inputs that do not fit, weights
            or a direction that are not finite, or a model whose weights have changed.
        """
        if self._versions != _versions(self._parameters):
            raise ValueError("the model's weights have changed since this line was made; make another")
        if self._chain is not None and inputs.ndim == 2 and self._chain.is_finite:
            if inputs.shape[1] != self._chain.features:
                raise ValueError(
                    f"inputs must be (batch, {self._chain.features}), not {tuple(inputs.shape)}"
                )
            return self._chain
        self._check_finite()
        kind = (*inputs.shape[1:], inputs.dtype)
        network = self._traced.get(kind)
        if isinstance(network, str):
            raise NotExactError(network)
        if network is not None:
            network.check(inputs)
            return network
        from srste.curve.network.graph import Traced

        try:
            self._traced[kind] = network = Traced(self.model, self.direction, inputs)
        except NotExactError as error:
            self._traced[kind] = str(error)
            raise
        return network

    def _check_finite(self) -> None:
        for name, parameter in self.model.named_parameters():
            check_finite(name, as_float64(parameter))
            check_finite(f"direction[{name!r}]", as_float64(self.direction[name]))

    def at(self, lr: float) -> nn.Module:
        """A copy of the model after the step ``w - lr * direction``, in its own dtype."""
        stepped = copy.deepcopy(self.model)
        with torch.no_grad():
            for name, parameter in stepped.named_parameters():
                # As a tensor, so that a learning rate beyond the dtype is infinite and not an exception.
                parameter.sub_(self.direction[name] * torch.tensor(lr, dtype=parameter.dtype))
        return stepped


def _versions(parameters: Iterable[Tensor]) -> list[int]:
    """A number for every parameter that changes whenever it is written to."""
    return [0 if p.is_inference() else p._version for p in parameters]
