"""A network along ``w - t g`` as the loss curve follows it: layers of binary units and what links them.

A layer is a set of units that are binarised together; the last one is the outputs. While no unit flips,
everything is linear in t: the pre-activations of a layer are ``a - t d``, made of a part that comes from
the inputs and the biases and of the columns (w, dw) of those units of earlier layers that link to it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

Array = NDArray[np.float64]
Index = NDArray[np.int64]

ROUNDING = 1e-12
"""The relative error of summing over a batch; a smaller change of the loss counts as none."""


class NotExactError(TypeError):
    """The model has something for which the loss curve has no exact form; the message names it."""


@dataclass(frozen=True)
class Dense:
    """What each of n units of a layer, turned from 0 to 1, adds to the m units of a later one.

    columns: (n, 2 m): to a, then to d.
    """

    columns: Array


@dataclass(frozen=True)
class Sparse:
    """As `Dense`, where most of it is zero, as in a convolution.

    starts: (n + 1,): where in the others a unit's part begins and ends. ends: (edges,): the units that
    it adds to. pairs: (edges, 2): what it adds to a and to d.
    """

    starts: Index
    ends: Index
    pairs: Array


Link = Dense | Sparse


@dataclass(frozen=True)
class RoundedLayer:
    """Pre-activations or outputs of a layer at one learning rate, and what bounds their rounding errors.

    values: (rows, units). magnitude: (rows, units), the sums of the magnitudes of all terms that a value
    is made of. roundings: at most so many of each value.
    """

    values: Array
    magnitude: Array
    roundings: int

    def rounding(self, u: float) -> Array:
        """A bound on the rounding errors of the values, (rows, units), for a unit roundoff u: a sum of n
        products is within n u / (1 - n u) of exact, relative to the sum of magnitudes, in any order.

        References: Higham, 2002, "Accuracy and stability of numerical algorithms", section 3.1.
        """
        if self.roundings * u >= 1:
            return np.full(self.magnitude.shape, np.inf)
        return self.roundings * u / (1 - self.roundings * u) * self.magnitude


def on_the_fence(hidden: Sequence[RoundedLayer], examples: int, u: float) -> NDArray[np.bool_]:
    """(examples,) which have a pre-activation within rounding of zero, for a unit roundoff u."""
    undecided = np.zeros(examples, dtype=bool)
    for layer in hidden:
        undecided |= (np.abs(layer.values) <= layer.rounding(u)).any(axis=1)
    return undecided


def is_finite(array: NDArray[np.floating]) -> bool:
    """Whether all of its numbers are. The sum of their squares tells it at once, unless it overflows."""
    flat = array.reshape(-1)
    return math.isfinite(np.vdot(flat, flat)) or bool(np.isfinite(flat).all())


def check_finite(name: str, array: NDArray[np.floating]) -> None:
    """Raises: ValueError if one of its numbers is not finite."""
    if not is_finite(array):
        raise ValueError(f"{name} holds a value that is not finite")


def check_lr_max(lr_max: float) -> None:
    """Raises: ValueError if it is no number > 0."""
    if not (isinstance(lr_max, Real) and 0 < lr_max < math.inf):
        raise ValueError(f"lr_max={lr_max!r} must be > 0 and finite")


def check_within(lrs: Array, lr_max: float) -> None:
    """Raises: ValueError for a learning rate (any,) that is not in [0, lr_max], or not a number."""
    outside = lrs[~((lrs >= 0) & (lrs <= lr_max))]
    if len(outside):
        raise ValueError(f"learning rate {outside[0]} is outside [0, lr_max={lr_max}]")


def as_lrs(lrs: ArrayLike | Tensor, lr_max: float) -> Array:
    """A copy of learning rates as float64, of the same shape.

    Of a dtype narrower than float64, whose number for ``lr_max`` may lie above it (as float32's 0.1
    does), those above it by no more than their rounding are ``lr_max``: up to the number nearest to it,
    or to a machine epsilon of it.
    """
    given = lrs.detach().cpu().double().numpy() if isinstance(lrs, Tensor) else np.asarray(lrs)
    array = np.array(given, dtype=np.float64, order="C")
    if (narrow := _narrow(lrs.dtype if isinstance(lrs, Tensor) else given.dtype)) is not None:
        nearest = float(torch.tensor(lr_max, dtype=narrow))
        rounded = max(nearest, lr_max * (1 + torch.finfo(narrow).eps)) if nearest < math.inf else lr_max
        array[(array > lr_max) & (array <= rounded)] = lr_max
    return array


def _narrow(dtype: torch.dtype | np.dtype[np.generic]) -> torch.dtype | None:
    """A floating dtype narrower than float64, PyTorch's of that name; None if it is none."""
    if not isinstance(dtype, torch.dtype):
        return {"float16": torch.float16, "float32": torch.float32}.get(dtype.name)
    return dtype if dtype.is_floating_point and dtype.itemsize < 8 else None


def check_model(model: nn.Module) -> None:
    """Raises: ValueError for what is no module of Python's that stands on one device."""
    if not isinstance(model, nn.Module):
        raise ValueError(f"the model must be a torch.nn.Module, not a {type(model).__name__}")
    for name, module in model.named_modules():
        place = f"{name or 'the model'} is a {type(module).__name__}"
        if isinstance(module, torch.jit.ScriptModule):
            raise ValueError(f"{place}: TorchScript cannot be stepped; give the module it was made of")
        if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
            raise ValueError(f"{place}, which runs on several devices; give its .module")


def check_direction(
    parameters: Mapping[str, Tensor], direction: Mapping[str, Tensor], as_they_are: bool = True
) -> None:
    """Raise unless a direction has a tensor like it for every parameter.

    Args: as_they_are: whether dtype and device must be the parameter's too, and not the shape alone.
    Raises: ValueError naming the parameter for which that is not so, or what is no parameter.
    """
    if not isinstance(direction, Mapping):
        kind = type(direction).__name__
        raise ValueError(f"the direction must have a tensor for every parameter, and is a {kind}")
    if complaint := _unlike_names([*parameters], [*direction]):
        raise ValueError(f"the direction {complaint}")
    for name, parameter in parameters.items():
        moved = direction[name]
        if moved is None:
            raise ValueError(f"direction[{name!r}] is None: no gradient has reached the parameter")
        if not isinstance(moved, Tensor):
            raise ValueError(f"direction[{name!r}] is a {type(moved).__name__}, not a tensor")
        for what in ("shape", "dtype", "device") if as_they_are else ("shape",):
            given, wanted = (getattr(tensor, what) for tensor in (moved, parameter))
            if given != wanted:
                given, wanted = (tuple(v) if what == "shape" else v for v in (given, wanted))
                raise ValueError(f"direction[{name!r}] has {what} {given}, the parameter {wanted}")


def _unlike_names(parameters: list[str], direction: list[str]) -> str:
    """How the names of a direction differ from those of the parameters; "" if they do not."""
    missing = [name for name in parameters if name not in direction]
    unknown = [str(name) for name in direction if name not in parameters]
    lacks = f"lacks {', '.join(missing)}" if missing else ""
    has = f"has {', '.join(unknown)}, which the model does not have" if unknown else ""
    return " and ".join(part for part in (lacks, has) if part)


def by_name(
    model: nn.Module, direction: Mapping[str, Tensor] | Sequence[Tensor]
) -> Mapping[str, Tensor]:
    """A direction with the names of the model's parameters.

    Args: direction: by name already, or a list or tuple in the order of ``model.parameters()``, as
        ``torch.autograd.grad`` gives it.
    Raises: ValueError for a list of another length.
    """
    if not isinstance(direction, list | tuple) or not isinstance(model, nn.Module):
        return direction  # type: ignore[return-value]  # whatever else it is, its check says so
    names = [name for name, _ in model.named_parameters()]
    if len(names) != len(direction):
        raise ValueError(
            f"the direction has {len(direction)} tensors, the model {len(names)} parameters"
        )
    return dict(zip(names, direction, strict=True))


class Network(Protocol):
    """A model and a direction, along which its loss curve is exact.

    units: of every layer, the outputs last. levels: the two values (low, high) of the units of every
    hidden layer. links: by (source, target), numbers of layers. output_shape: of one example's output.
    constants: of every layer, (1, 2 units) of what does not come from binary units; None if that is
    nothing, or depends on the example.
    """

    units: list[int]
    levels: list[tuple[float, float]]
    output_shape: tuple[int, ...]
    constants: list[Array | None]

    @property
    def links(self) -> Mapping[tuple[int, int], Link]: ...

    def beginnings(self, inputs: Tensor, out: Array | None = None) -> Sequence[Array | None]:
        """The part of each layer's (a, d) that does not come from binary units.

        Args: inputs: (rows, ...). out: (rows, 2 units of the first layer): where that layer's is to be.
        Returns: for every layer (rows, 2 units), (1, 2 units) where it is the same for all examples,
        None where there is none.
        """
        ...

    def stepped(self, inputs: Tensor, lr: float) -> list[RoundedLayer]:
        """All layers at a learning rate, in one float64 pass over inputs (rows, ...)."""
        ...
