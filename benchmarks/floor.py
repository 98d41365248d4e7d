"""The least that any method must spend on a loss curve that finds every flip, on this machine.

    products  (w, dw) of every layer with its inputs, in float64
    flips     a unit's flip adds its column of (w, dw) to the (a, d) of the next layer, two multiply-adds
              for each unit there; if these are hidden, each has a new a / d, one division, and two
              comparisons tell whether it has turned and whether it is the next to flip
    events    one row of 32 bytes, a position and three coefficients, for every flip of an example
    order     a counting sort: the positions read, each row read and written; then the rows added up,
              read and written
    outputs   for each learning rate 8 bytes read, two multiply-adds, 8 bytes written

Each part is taken at the best rate that the machine shows for such work, as if nothing came between:
no search for the next flip, no call, no branch that is guessed wrong.

Inputs that are binary allow for less than a product: sums over every four of them, made once, leave a
quarter of its additions, beside making the sums, some hundredths more for hundreds of examples. The
floor charges the product; `products_by_tables` tells what it then costs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numba
import numpy as np
from threadpoolctl import threadpool_limits
from timing import least_seconds
from torch import Tensor, nn

from srste import loss_curve

EVENT = 32  # bytes


@dataclass(frozen=True)
class Rates:
    """Of one core, a second. product: multiply-adds of a float64 product of the hidden layers' shape.
    multiply_add, division: in a vectorised loop over numbers in its cache; a comparison is taken to cost
    what a multiply-add does. output: learning rates through a quadratic, as many as are asked for."""

    product: float
    multiply_add: float
    division: float
    output: float


@numba.njit
def _quadratic(lrs: np.ndarray, losses: np.ndarray) -> None:
    for k in range(len(lrs)):
        losses[k] = (0.5 * lrs[k] - 0.25) * lrs[k] + 0.125


@numba.njit(error_model="numpy")
def _quotients(a: np.ndarray, d: np.ndarray, taus: np.ndarray) -> None:
    for k in range(len(a)):
        taus[k] = a[k] / d[k]


_CALLS = 50  # so many together take much longer than reading the clock


def _repeated(function: Callable[[], object]) -> Callable[[], object]:
    def run() -> None:
        for _ in range(_CALLS):
            function()

    return run


def rates(examples: int, width: int, points: int, repeats: int) -> Rates:
    """The best of many measurements."""
    ones = np.ones
    a, b, c = ones((examples, width)), ones((width, 2 * width)), np.empty((examples, 2 * width))
    some, others, results, none = ones(1024), ones(1024), np.empty(1024), np.empty(0)
    lrs, losses = ones(points), np.empty(points)
    with threadpool_limits(1, user_api="blas"):
        least = least_seconds(
            {
                "product": lambda: np.matmul(a, b, out=c),
                "quadratic": _repeated(lambda: _quadratic(some, results)),
                "quadratic of none": _repeated(lambda: _quadratic(none, none)),
                "quotients": _repeated(lambda: _quotients(some, others, results)),
                "quotients of none": _repeated(lambda: _quotients(none, none, none)),
                "outputs": lambda: _quadratic(lrs, losses),
            },
            repeats,
        )
    numbers = _CALLS * some.size
    return Rates(
        product=a.size * b.shape[1] / least["product"],
        multiply_add=2 * numbers / (least["quadratic"] - least["quadratic of none"]),
        division=numbers / (least["quotients"] - least["quotients of none"]),
        output=points / least["outputs"],
    )


def copy_rate(size: int, repeats: int) -> float:
    """Bytes a second, those read and those written both counted, of copying so many bytes."""
    source, target = np.ones(size // 8), np.empty(size // 8)
    copy = {"copy": lambda: np.copyto(target, source)}
    return 2 * source.nbytes / least_seconds(copy, repeats)["copy"]


@dataclass(frozen=True)
class Counts:
    """What happens along a direction. events: flips of an example, those at one place taken as one.
    flips: (hidden layers,) of single units. renewed: (hidden layers,) how often an event reaches the
    layer from the one before."""

    events: int
    flips: list[int]
    renewed: list[int]


def counts(model: nn.Module, direction: Mapping[str, Tensor], x: Tensor, y: Tensor) -> Counts:
    """By forward passes in float64 halfway between each two breakpoints of each example."""
    rows, lrs = [], []
    for row in range(len(x)):
        curve = loss_curve(model, direction, x[row : row + 1], y[row : row + 1])
        bounds = np.concatenate(([0.0], curve.breakpoints[curve.breakpoints > 0], [curve.lr_max]))
        lrs.append((bounds[1:] + bounds[:-1]) / 2)
        rows.append(np.full(len(bounds) - 1, row))
    row, lr = np.concatenate(rows), np.concatenate(lrs)[:, None]
    same = row[1:] == row[:-1]
    h = x.double().numpy()[row]
    flips, renewed = [], []
    before = np.zeros(len(same), bool)
    weights = list(model.named_parameters())
    for name, parameter in weights[:-1]:
        w, g = parameter.detach().double().numpy(), direction[name].double().numpy()
        h = np.where(h @ w.T - lr * (h @ g.T) >= 0, 1.0, -1.0)
        changed = (h[1:] != h[:-1]) & same[:, None]
        flips.append(int(changed.sum()))
        renewed.append(int(before.sum()))
        before = changed.any(axis=1)
    return Counts(int(same.sum()), flips, renewed)


def floor(
    sizes: list[int], examples: int, points: int, found: Counts, rate: Rates, copied: float
) -> dict[str, float]:
    """Seconds by part. sizes: of the inputs, of every hidden layer, of the outputs. copied: bytes a
    second where there are as many as the events take."""
    products = examples * sum(n * 2 * m for n, m in pairwise(sizes))
    columns = sum(2 * n * flips for n, flips in zip(sizes[2:], found.flips, strict=True))
    places = sum(n * times for n, times in zip(sizes[1:-1], found.renewed, strict=True))
    stored = found.events * EVENT
    return {
        "products": products / rate.product,
        "flips": (columns + 2 * places) / rate.multiply_add + places / rate.division,
        "events": stored / copied,
        "order": (found.events * 8 + 4 * stored) / copied,
        "outputs": points / rate.output,
    }


def products_by_tables(sizes: list[int], examples: int, rate: Rates) -> float:
    """Seconds of the products where those with binary units are sums over every four of them. sizes: as
    for `floor`."""
    first, *hidden = (examples * n * 2 * m for n, m in pairwise(sizes))
    return first / rate.product + sum(hidden) / 4 / rate.multiply_add
