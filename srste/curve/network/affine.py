"""Values that move along ``w - t g`` while no binary unit flips, and what may be done with them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from srste.curve.network.base import NotExactError

Function = Callable[..., Any]


@dataclass(frozen=True)
class AffineValue:
    """A value ``a - t d``, and how it responds to the units of one layer.

    a: the value at t = 0. d: None if it does not move. on_units: whether it depends on binary units.
    per_example: whether anything else in it depends on the example.
    response, response_d: row i is what switching unit i from 0 to 1 adds to a and to d; there may be
    more rows than a has. None for nothing.
    magnitude: a bound on the sum of the magnitudes of all terms that it is made of at one learning rate,
    None where it is not asked for; roundings: a bound on the number of roundings in it.
    summands: the values that it is the sum of, each with how often; none if it is no sum. What is
    added and subtracted again cancels, as in ``x + (sign(x) - x).detach()``.
    unusable: why nothing may be done with it but that; "" for a value as it should be. sign_of: of an
    unusable value, the one that has its sign, and is 0 where it is, if there is one.
    """

    a: Tensor
    d: Tensor | None = None
    on_units: bool = False
    response: Tensor | None = None
    response_d: Tensor | None = None
    magnitude: Tensor | None = None
    roundings: int = 0
    per_example: bool = False
    summands: tuple[tuple[AffineValue, int], ...] = ()
    unusable: str = ""
    sign_of: AffineValue | None = None

    @property
    def moves(self) -> bool:
        return self.d is not None

    @property
    def constant(self) -> bool:
        """Whether it is the same at every learning rate."""
        return not self.moves and not self.on_units


_PARTS = ("a", "d", "response", "response_d", "magnitude")


def value(x: Any, per_example: bool = False) -> AffineValue:
    """A number or a tensor as a value that is constant."""
    if isinstance(x, AffineValue):
        return x
    tensor = x if isinstance(x, Tensor) else torch.as_tensor(x, dtype=torch.float64)
    # Whole numbers stay what they are: they may be classes, or tell where to look.
    tensor = tensor.double() if tensor.is_floating_point() else tensor
    return AffineValue(
        tensor,
        magnitude=tensor.abs() if tensor.dtype != torch.bool else tensor.double(),
        per_example=per_example,
    )


def check_usable(*values: AffineValue) -> None:
    """Raises: NotExactError for a value that is unusable."""
    for x in values:
        if x.unusable:
            raise NotExactError(x.unusable)


def each(function: Function, x: AffineValue) -> AffineValue:
    """A linear function without negative weights. Raises: NotExactError."""
    check_usable(x)
    parts = {part: function(p) for part in _PARTS if (p := getattr(x, part)) is not None}
    averaged = math.ceil(x.a.numel() / max(1, parts["a"].numel()))
    return replace(x, **parts, roundings=x.roundings + averaged, summands=())


def add(x: Any, y: Any, alpha: int = 1) -> AffineValue:
    """x + alpha y, alpha being 1 or -1."""
    x, y = value(x), value(y)
    total = _added(x, y, alpha)
    if x.a.shape[1:] != y.a.shape[1:] and not (x.constant and y.constant):
        return total
    left, cancelled = _merged(x, y, alpha)
    if not cancelled:
        return replace(total, summands=left)
    # What is left is exact; the model's own sum is rounded as that of all its terms.
    rest: AffineValue | None = None
    for summand, times in left:
        sign = 1 if times > 0 else -1
        for _ in range(abs(times)):
            nothing = AffineValue(torch.zeros_like(summand.a))
            first = rest is None and sign == 1
            rest = summand if first else _added(rest or nothing, summand, sign)
    rest = rest or AffineValue(torch.zeros_like(total.a))
    if rest.a.shape[1:] != total.a.shape[1:] or rest.a.dtype != total.a.dtype:
        return total
    return replace(rest, magnitude=total.magnitude, roundings=total.roundings, summands=left)


def _merged(
    x: AffineValue, y: AffineValue, alpha: int
) -> tuple[tuple[tuple[AffineValue, int], ...], bool]:
    """The summands of both, and whether any of them have cancelled."""
    times: dict[int, tuple[AffineValue, int]] = {}
    for sign, one in ((1, x), (alpha, y)):
        for summand, n in one.summands or ((one, 1),):
            times[id(summand)] = (summand, times.get(id(summand), (summand, 0))[1] + sign * n)
    left = tuple(pair for pair in times.values() if pair[1])
    return left, len(left) < len(times)


def _added(x: AffineValue, y: AffineValue, alpha: int) -> AffineValue:
    a = x.a + alpha * y.a

    def total(part: str) -> Tensor | None:
        one: Tensor | None = getattr(x, part)
        other: Tensor | None = getattr(y, part)
        if one is not None and other is not None:
            return one + alpha * other
        alone = one if other is None else alpha * other
        return None if alone is None else _filled(alone, a)

    magnitude = None if x.magnitude is None or y.magnitude is None else x.magnitude + y.magnitude
    on_units, roundings = x.on_units or y.on_units, max(x.roundings, y.roundings) + 1
    unusable = x.unusable or y.unusable
    return AffineValue(
        a, total("d"), on_units, total("response"), total("response_d"), magnitude, roundings,
        x.per_example or y.per_example, unusable=unusable,
    )  # fmt: skip


def _filled(part: Tensor, a: Tensor) -> Tensor:
    """A part of a value in the value's shape; a response may have more rows."""
    shape = a.shape if part.ndim < a.ndim else (max(len(part), len(a)), *a.shape[1:])
    return part.expand(shape)


def negative(x: AffineValue) -> AffineValue:
    """-x."""
    return add(torch.zeros((), dtype=torch.float64), x, -1)


def product(
    function: Function, x: AffineValue, w: AffineValue, roundings: int, name: str, advice: str = ""
) -> AffineValue:
    """A function that is linear in both, with so many roundings. At most one of them moves, and x
    alone depends on binary units. name: of the place in the model. advice: for a w that depends on
    them. Raises: NotExactError."""
    check_usable(x, w)
    if x.moves and w.moves:
        raise NotExactError(f"{name}: its input moves and so do its weights")
    if w.on_units:
        raise NotExactError(f"{name}: two values that both depend on the step are multiplied{advice}")
    if x.on_units and w.per_example:
        raise NotExactError(f"{name}: units are multiplied by what depends on the example")

    def of(one: Tensor | None, other: Tensor | None) -> Tensor | None:
        return None if one is None or other is None else function(one, other)

    return AffineValue(
        a=function(x.a, w.a),
        d=of(x.a, w.d) if x.d is None else of(x.d, w.a),
        on_units=x.on_units,
        response=of(x.response, w.a),
        response_d=of(x.response, w.d) if x.response_d is None else of(x.response_d, w.a),
        magnitude=of(x.magnitude, w.magnitude),
        roundings=x.roundings + w.roundings + roundings,
        per_example=x.per_example or w.per_example,
    )


def join(function: Function, values: Sequence[Any]) -> AffineValue:
    """A function that puts several tensors into one. Raises: NotExactError."""
    moving = [value(v) for v in values]
    check_usable(*moving)

    def joined(part: str) -> Tensor | None:
        parts = [getattr(v, part) for v in moving]
        if all(p is None for p in parts):
            return None
        rows = max(len(p) for p in parts if p is not None)
        zeros = (v.a.new_zeros(rows, *v.a.shape[1:]) for v in moving)
        result: Tensor = function([z if p is None else p for p, z in zip(parts, zeros, strict=True)])
        return result

    a, d, response, response_d, magnitude = (joined(part) for part in _PARTS)
    assert a is not None
    on_units, per_example = any(v.on_units for v in moving), any(v.per_example for v in moving)
    return AffineValue(
        a, d, on_units, response, response_d, magnitude, max(v.roundings for v in moving), per_example
    )
