"""The loss of a batch as a function of the learning rate: what loss curves tell, and the exact one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from html import escape
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from srste.curve.minima import Descent, Interval, Minimum
from srste.curve.network.base import ROUNDING, NotExactError, as_lrs

if TYPE_CHECKING:
    from jaxtyping import Float64
    from matplotlib.axes import Axes

    from srste.curve.convex.search import ConvexSum
    from srste.curve.engine.piecewise_loss import Pieces


class Step(NamedTuple):
    """A learning rate, and the loss after the step with it."""

    lr: float
    loss: float


def lowest_of(lrs: NDArray[np.float64], losses: NDArray[np.float64]) -> Step | None:
    """The lowest finite loss, of equal ones the first; None if there is none. Both of the same shape."""
    finite = np.where(np.isfinite(losses), losses, np.inf).reshape(-1)
    if not np.isfinite(finite).any():
        return None
    index = int(np.argmin(finite))
    return Step(float(lrs.reshape(-1)[index]), float(finite[index]))


class LossCurve(ABC):
    """The loss of a batch as a function of the learning rate, on [0, lr_max].

    pre_loss: the loss at learning rate 0.
    lr_max: the largest learning rate.
    exact: whether its values are right to float64's rounding at every learning rate, and what holds over
        all of them can be told. If not, each value is a forward pass of the model in its own dtype.
    why_not: why the curve is not exact, in words; "" where it is.

    Every curve gives losses, by calling it, :meth:`lowest` of many, and :meth:`plot`.
    Only an exact curve has :meth:`minimum`, :meth:`descents`, :meth:`descent`, :meth:`gauge`,
    ``breakpoints`` and ``error``. Raises: NotExactError, by each of them, where the curve is not exact.
    """

    exact: bool
    lr_max: float
    pre_loss: float
    why_not: str

    @abstractmethod
    def __call__(self, lrs: ArrayLike) -> Float64[np.ndarray, "*lrs"]:
        """The loss at these learning rates.

        Args: lrs: any shape, each in [0, lr_max]; of a dtype narrower than float64, what is above
            ``lr_max`` by its rounding alone (one machine epsilon) is taken as ``lr_max``.
        Returns: float64 losses of the same shape.
        Raises: ValueError for a learning rate outside [0, lr_max] or not a number.
        """

    def lowest(self, lrs: ArrayLike | None = None) -> Step:
        """The lowest loss at any of these learning rates, as a search would find it.

        Args: lrs: as for calling the curve, at least one; by default 200, evenly from lr_max / 200 to
            lr_max. Returns: the learning rate, of several the first, and its loss; losses that are not
            numbers do not count. Raises: ValueError as calling does, or if no loss is a number.
        """
        given = np.linspace(0, self.lr_max, 201)[1:] if lrs is None else lrs
        best = lowest_of(as_lrs(given, self.lr_max), self(given))
        if best is None:
            raise ValueError("no loss at these learning rates is finite")
        return best

    def minimum(self) -> Minimum:
        """The lowest loss over every real learning rate in (0, lr_max], see :class:`Minimum`."""
        raise self._not_exact("minimum()")

    def descents(self) -> list[Interval]:
        """The intervals of (0, lr_max] in which the loss is lower than before the step, by more than its
        rounding; in order."""
        raise self._not_exact("descents()")

    def descent(self) -> Descent:
        """Whether and where any learning rate lowers the loss, see :class:`Descent`."""
        intervals = self.descents()
        if not intervals:
            return Descent(0, 0.0, None, None, None)
        shortest, longest = (pick(intervals, key=lambda i: i.length) for pick in (min, max))
        total = sum(i.length for i in intervals)
        return Descent(len(intervals), total, intervals[0], shortest, longest)

    def gauge(self, lr: float) -> float | None:
        """Cockpit's step-size gauge of a learning rate: -1 for no step, 0 for that of the minimum, and
        +1 where the loss beyond it is again what it was before the step; linear in between. There it is
        that of a quadratic fit, and here it is exact.

        Args: lr: in [0, lr_max]. Returns: None where no learning rate lowers the loss; and beyond the
            minimum where the loss does not come back up to ``lr_max``, or does so at once, in a jump.
        Raises: NotExactError where the curve is not exact.
        References: Schneider, Dangel and Hennig (2021), "Cockpit: a practical debugging tool for the
            training of deep neural networks", section 2.1.
        """
        lr = float(as_lrs(lr, self.lr_max))
        if not self.exact:
            raise self._not_exact("gauge()")
        lowest = self.minimum().lr
        interval = next((i for i in self.descents() if i.lo <= lowest <= i.hi), None)
        if interval is None:
            return None
        if lr <= lowest:
            return lr / lowest - 1
        return (lr - lowest) / (interval.hi - lowest) if lowest < interval.hi < self.lr_max else None

    @property
    def breakpoints(self) -> Float64[np.ndarray, " breakpoints"]:
        """Where the loss takes another course: sorted, distinct, in [0, lr_max]."""
        raise self._not_exact("breakpoints")

    @property
    def error(self) -> float:
        """No loss in (0, lr_max] is lower than that of :meth:`minimum` by more, rounding aside: 0 where
        the minimum has a closed form, as for squared and absolute error."""
        raise self._not_exact("error")

    def _not_exact(self, name: str) -> NotExactError:
        return NotExactError(
            f"only an exact loss curve has {name}, and this one is evaluated by forward passes: "
            f"{self.why_not}; curve(lrs) gives the losses at learning rates, curve.lowest(lrs) the best"
        )

    def plot(self, ax: Axes | None = None, points: int = 2_000, label: str = "loss") -> Axes:
        """Draws the loss against the learning rate, the loss before the step, and the minimum; of a
        curve that is not exact the lowest point that is drawn.

        Args: ax: where; new axes if none are given. points: learning rates that are drawn, >= 2; of a
            curve that is not exact at most 200, since each is a forward pass. label: in the legend, to
            tell several curves in the same axes apart; each has the next colour there.
        Returns: the axes.
        """
        from srste.curve.drawing import draw

        return draw(self, ax, points, label)

    def __repr__(self) -> str:
        return f"<{self._in_words()}>"

    def _in_words(self) -> str:
        kind = "exact" if self.exact else "evaluated"
        words = f"{kind} loss curve on [0, {self.lr_max:g}]: {self.pre_loss:.6g} before the step"
        if not self.exact:
            return f"{words}; not exact, since {self.why_not}" if self.why_not else words
        if not self.descents():
            return f"{words}, and no learning rate lowers it; is the direction minus the gradient?"
        lowest = self.minimum()
        at_end = (
            ", the largest: a larger lr_max may lower it further" if lowest.lr == self.lr_max else ""
        )
        return f"{words}, lowest {lowest.loss:.6g} at learning rate {lowest.lr:.6g}{at_end}"

    def _repr_html_(self) -> str:
        """What a notebook shows: the words of the repr, and of an exact curve its picture."""
        words = f"<p>{escape(self._in_words())}</p>"
        if not self.exact:
            return words
        from srste.curve.drawing import as_svg

        return words + as_svg(self)


class ExactCurve(LossCurve):
    """The loss over a batch as a function of the learning rate, exact in float64. At a breakpoint itself
    sign(0) = +1 holds, up to the rounding of the breakpoint."""

    exact = True
    why_not = ""

    def __init__(self, pieces: Pieces | ConvexSum, lr_max: float):
        self.lr_max = lr_max
        self.pre_loss = pieces.pre_loss
        self._pieces = pieces

    def __call__(self, lrs: ArrayLike) -> Float64[np.ndarray, "*lrs"]:
        losses = as_lrs(lrs, self.lr_max)
        self._pieces.evaluate(losses.reshape(-1))
        return losses

    @property
    def breakpoints(self) -> Float64[np.ndarray, " breakpoints"]:
        return np.unique(self._pieces.starts)

    def minimum(self) -> Minimum:
        return Minimum(*self._lowest[:3])

    @property
    def error(self) -> float:
        return self._lowest[3]

    @cached_property
    def _lowest(self) -> tuple[float, float, bool, float]:
        return self._pieces.lowest()

    def descents(self) -> list[Interval]:
        return list(self._descents)

    @cached_property
    def _descents(self) -> list[Interval]:
        below = self._pieces.below(self.pre_loss)
        allowed = ROUNDING * self.pre_loss + self._pieces.rounding(below[:, 1])
        deep = self.pre_loss - below[:, 2] > allowed
        return [Interval(*map(float, interval)) for interval in below[deep]]
