"""Networks whose layers stand in a row, taken apart at their activations."""

from torch import nn

from srste.errors import NotApplicableError
from srste.networks.activations import BinaryActivation, levels_of


def segments_of(model: nn.Module) -> tuple[list[nn.Sequential], list[tuple[float, float]]]:
    """What stands before, between and after the activations, and the two levels of each activation.

    Raises: ValueError for another network.
    """
    if type(model).forward is not nn.Sequential.forward:
        raise NotApplicableError(
            f"{type(model).__name__}: its modules must stand in a row, as in nn.Sequential"
        )
    segments, levels = [nn.Sequential()], []
    for module in model.children():
        if (of_module := levels_of(module)) is not None:
            levels.append(of_module)
            segments.append(nn.Sequential())
        elif any(isinstance(inner, BinaryActivation) for inner in module.modules()):
            raise NotApplicableError(
                f"{type(module).__name__}: activations within a module of the row, or of another forward"
            )
        else:
            segments[-1].append(module)
    return segments, levels
