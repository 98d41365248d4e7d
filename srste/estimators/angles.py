"""Angles between directions, tensor by tensor, and random directions at a given angle."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from srste.randomness import Stream


def angle_between(one: Tensor, other: Tensor) -> float | None:
    """The angle in degrees, [0, 180], of two tensors of a shape; None where one of them is zero.

    By 2 atan2(|u - v|, |u + v|) of the unit vectors, which keeps small angles that an arc cosine
    loses (Kahan, 2006, "How futile are mindless assessments of roundoff", section 12).
    """
    u, v = one.double().flatten(), other.double().flatten()
    lengths = torch.linalg.vector_norm(u), torch.linalg.vector_norm(v)
    if not all(length > 0 and length.isfinite() for length in lengths):
        return None
    u, v = u / lengths[0], v / lengths[1]
    apart, together = torch.linalg.vector_norm(u - v), torch.linalg.vector_norm(u + v)
    return math.degrees(2 * math.atan2(float(apart), float(together)))


def angles(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> dict[str, float | None]:
    """:func:`angle_between` of every parameter tensor, by its name."""
    return {name: angle_between(tensor, other[name]) for name, tensor in one.items()}


def angle_of_all(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float | None:
    """The angle of the two directions as single vectors over all parameters."""
    return angle_between(*(torch.cat([d[name].flatten() for name in one]) for d in (one, other)))


def turned(tensor: Tensor, degrees: float, generator: Stream) -> Tensor:
    """``tensor`` turned by that angle towards a direction drawn uniformly among all that are
    orthogonal to it, its length kept; as it is where it is zero or has one element only.

    The drawing is the same whatever the angle: a standard normal of the tensor's shape.
    """
    draw = torch.from_numpy(generator.standard_normal(tuple(tensor.shape)))
    along = tensor.double().cpu()
    length = torch.linalg.vector_norm(along)
    if length == 0 or tensor.numel() == 1:
        return tensor.clone()
    unit = along / length
    across = draw - (draw * unit).sum() * unit
    across -= (across * unit).sum() * unit  # once more: the first leaves some rounding
    across /= torch.linalg.vector_norm(across)
    radians = math.radians(degrees)
    result: Tensor = length * (math.cos(radians) * unit + math.sin(radians) * across)
    return result.to(tensor)
