"""The exact loss curve as `docs/loss_curve.md` derives it, in exact rational arithmetic.

Slow, and short enough to read in one go: what the kernels do is held to it, and debugged beside it. For
an ``nn.Sequential`` of linear layers with a binary activation between each two, and squared error.
"""

from bisect import bisect_right
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor, nn

from srste.curve.network.sequential import as_float64
from srste.networks.activations import levels_of

Rational = Any
"""A NumPy array of fractions: floats are fractions, so nothing is rounded."""
Place = tuple[Fraction, bool]
"""A learning rate and whether it is meant itself (False) or what comes just after it (True)."""


class Layer(NamedTuple):
    """Weights (out, in) and biases (out,), and what they move by; the levels of its units below zero and
    from zero on, None for the outputs."""

    w: Rational
    dw: Rational
    b: Rational
    db: Rational
    levels: tuple[float, float] | None


class Piece(NamedTuple):
    """An example from a place on, up to its next one: its outputs are ``a - t d``."""

    place: Place
    a: Rational
    d: Rational


def layers_of(model: nn.Sequential, direction: Mapping[str, Tensor]) -> list[Layer]:
    """The layers of a model, and of its direction."""
    modules = list(model.named_children())
    layers = []
    for (name, linear), (_, activation) in zip(modules[::2], [*modules[1::2], ("", None)], strict=True):
        assert isinstance(linear, nn.Linear)
        bias = linear.bias if linear.bias is not None else linear.weight.new_zeros(linear.out_features)
        moved = direction.get(f"{name}.bias", bias.new_zeros(bias.shape))
        parts = linear.weight, direction[f"{name}.weight"], bias, moved
        w, dw, b, db = map(_rational, parts)
        layers.append(Layer(w, dw, b, db, None if activation is None else levels_of(activation)))
    return layers


def follow(layers: list[Layer], x: Rational, lr_max: Fraction) -> list[Piece]:
    """One example from t = 0 to lr_max: the places where a unit flips, and its outputs between them."""
    pieces = []
    place: Place = (Fraction(0), False)
    while place <= (lr_max, False):
        h, later = x, []
        for w, dw, b, db, levels in layers:
            a, d = w @ h + b, dw @ h + db  # h is constant up to the next flip: a - t d is linear
            if levels is None:
                pieces.append(Piece(place, a, d))
                break
            up = [_is_up(*unit, place) for unit in zip(a, d, strict=True)]
            # One that falls is up at its zero, and down just after it; one that rises is up at it.
            later += [
                (a_i / d_i, up_i)
                for a_i, d_i, up_i in zip(a, d, up, strict=True)
                if (d_i > 0 if up_i else d_i < 0)
            ]
            h = _rational(np.where(up, levels[1], levels[0]))
        if not later:
            break
        place = min(later)
    return pieces


def _is_up(a: Fraction, d: Fraction, place: Place) -> bool:
    t, just_after = place
    value = a - t * d
    return value > 0 or (value == 0 and not (just_after and d > 0))


class ReferenceCurve:
    """The mean squared error of a batch on [0, lr_max]. places: where it takes another course."""

    def __init__(
        self,
        model: nn.Sequential,
        direction: Mapping[str, Tensor],
        inputs: Tensor,
        targets: Tensor,
        lr_max: float,
    ) -> None:
        layers, self.lr_max = layers_of(model, direction), Fraction(lr_max)
        self._examples = [follow(layers, x, self.lr_max) for x in _rational(inputs)]
        self._targets = _rational(targets)
        self.places = sorted({piece.place for example in self._examples for piece in example})

    def __call__(self, lr: float) -> Fraction:
        """The loss at a learning rate in [0, lr_max]."""
        return self._at(Fraction(lr), (Fraction(lr), False))

    def _at(self, t: Fraction, place: Place) -> Fraction:
        """The loss at t, by the pieces that hold at a place."""
        squares = []
        for example, y in zip(self._examples, self._targets, strict=True):
            piece = example[bisect_right([p.place for p in example], place) - 1]
            squares += [*(piece.a - t * piece.d - y) ** 2]
        return sum(squares, Fraction(0)) / len(squares)

    def infimum(self) -> Fraction:
        """The lowest loss in (0, lr_max], or the limit that it comes to: of each parabola the
        ends and, where it lies within, the vertex."""
        ends = [*(t for t, _ in self.places[1:]), self.lr_max]
        lowest = []
        for place, end in zip(self.places, ends, strict=True):
            begin = place[0]
            if end == 0:
                continue  # t = 0 itself, which is no step
            f0, f1, f2 = (self._at(t, place) for t in (begin, (begin + end) / 2, end))
            lowest += [f0, f2]
            curvature, slope = 2 * (f0 - 2 * f1 + f2), 4 * f1 - 3 * f0 - f2
            if curvature > 0 and 0 < -slope < 2 * curvature:
                lowest.append(f0 - slope**2 / (4 * curvature))
        return min(lowest)


def _rational(values: Tensor | np.ndarray) -> Rational:
    array = as_float64(values) if isinstance(values, Tensor) else values
    return np.vectorize(Fraction, otypes=[object])(array)
