"""Networks whose layers stand in a row, taken apart at their activations."""

from collections.abc import Callable
from typing import TypeVar

from torch import nn

from srste.errors import NotApplicableError
from srste.networks.activations import BinaryActivation

T = TypeVar("T")


def segments_of(
    model: nn.Module, activation_of: Callable[[nn.Module], T | None]
) -> tuple[list[nn.Sequential], list[T]]:
    """What stands before, between and after the activations, and what each activation is.

    Args: activation_of: what a module is as an activation, None if it is none, as
        :func:`srste.networks.activations.levels_of`.
    Raises: ValueError for another network.
    """
    if type(model).forward is not nn.Sequential.forward:
        raise NotApplicableError(
            f"{type(model).__name__}: its modules must stand in a row, as in nn.Sequential"
        )
    segments: list[nn.Sequential] = [nn.Sequential()]
    activations: list[T] = []
    for module in model.children():
        if (of_module := activation_of(module)) is not None:
            activations.append(of_module)
            segments.append(nn.Sequential())
        elif any(isinstance(inner, BinaryActivation) for inner in module.modules()):
            raise NotApplicableError(
                f"{type(module).__name__}: activations within a module of the row, or of another forward"
            )
        else:
            segments[-1].append(module)
    return segments, activations
