"""Means of estimators' directions once more, in plain float64 NumPy, from their equations.

The slopes are of q in {-1, +1}. A network is a list of (W, b), as in `tests.oracle`.
"""

from __future__ import annotations

import functools
import itertools
import math

import numpy as np
from scipy import integrate, special, stats

from tests import oracle


def within(a, half_width):
    return (np.abs(a) <= half_width).astype(float)


def reste(a, progress=0.5, t=1.5, o_end=3.0):
    o = 1 + (1 - math.cos(math.pi * progress / 2)) * (o_end - 1)
    size = np.abs(a)
    inner = np.full_like(a, 0.1 ** (1 / o) / 0.1)
    with np.errstate(divide="ignore"):
        outer = size ** ((1 - o) / o) / o
    return np.where(size <= 0.1, inner, np.where(size <= t, outer, 0.0))


def ede(a, progress=0.5):
    t = 10 ** (-3 + 4 * progress)
    return max(1 / t, 1) * t * (1 - np.tanh(t * a) ** 2)


def swish_sign(a, beta=5.0):
    """The derivative of 2 s(z) (1 + z (1 - s(z))) - 1, z = beta a, by the sigmoid's own derivatives."""
    z = beta * a
    s = special.expit(z)
    first = s * (1 - s)
    return 2 * beta * (2 * first + z * first * (1 - 2 * s))


SLOPES = {
    "identity": np.ones_like,
    "clipped": lambda a: within(a, 1),
    "tanh": lambda a: np.cosh(a) ** -2.0,
    "approx_sign": lambda a: 2 * np.maximum(0, 1 - np.abs(a)),
    "swish_sign": swish_sign,
    "ede": ede,
    "reste": reste,
    "steep": lambda a: 4 * within(a, 1 / 4),
    "relu1": lambda a: 2 * within(a, 1 / 2),
    "polynomial": lambda a: 4 * np.maximum(0, 1 - 2 * np.abs(a)),
}
"""Of surrogates that see the pre-activation alone, with the numbers of their YAMLs."""


def rounding_density(a):
    """dP(+1)/da of stochastic rounding, with the layer's extremes as they are."""
    up, down = a.max(), -a.min()
    return np.where(a > 0, 0.5 / up if up > 0 else 0, 0.5 / down if down > 0 else 0)


UNITS = {
    "logistic": (special.expit, stats.logistic.pdf),
    "hard_sigmoid": (lambda a: np.clip((a + 1) / 2, 0, 1), lambda a: within(a, 1) / 2),
    "triangular": (stats.triang(0.5, -1, 2).cdf, stats.triang(0.5, -1, 2).pdf),
    "stochastic_rounding": (oracle.probability_up, rounding_density),
}
"""P(+1) of each kind of unit, and its derivative."""


def matched(a, s, units):
    return 2 * UNITS[units][1](a)


def reinmax(a, s, units, floor=0.0):
    p = UNITS[units][0](a)
    drawn = np.where(s > 0, p, 1 - p)
    return UNITS[units][1](a) / np.maximum(drawn, max(floor, 1e-300))


def gumbel(a, s, units, tau=1.0):
    """The mean over the noises n with sign(a + n) = s, by quadrature over n."""
    assert units == "logistic"
    return np.vectorize(lambda a, s: gumbel_of_one(float(a), float(s), tau), otypes=[float])(a, s)


@functools.cache
def gumbel_of_one(a, s, tau):
    def integrand(n):
        x = (a + n) / tau
        return 2 * special.expit(x) * special.expit(-x) / tau * special.expit(n) * special.expit(-n)

    bounds = (-a, np.inf) if s > 0 else (-np.inf, -a)
    return integrate.quad(integrand, *bounds, epsabs=1e-13)[0] / special.expit(s * a)


OF_DRAWS = {"matched": matched, "reinmax": reinmax, "gumbel_st": gumbel, "gumbel_rao": gumbel}
"""Of slopes that see the draw: their mean over whatever else is drawn."""


def back(network, inputs, slopes, delta):
    """The gradient by (W, b), from layers' inputs, hidden layers' slopes and dL/d(outputs)."""
    gradient = []
    for layer in range(len(network) - 1, -1, -1):
        gradient.insert(0, (delta.T @ inputs[layer], delta.sum(0)))
        if layer:
            delta = delta @ network[layer][0]
            slope = slopes[layer - 1]
            delta = slope(delta) if callable(slope) else delta * slope
    return gradient


def ewgs(a, q, delta=0.001):
    """What is made of an incoming gradient."""
    off = (np.clip(a, -1, 1) + 1) / 2 - (q + 1) / 2
    return lambda g: within(a, 1) * (g + delta * np.abs(g) * off)


def forward(network, x, activation):
    """The layers' inputs, the hidden layers' pre-activations, and the outputs."""
    inputs, pre = [x], []
    for w, b in network[:-1]:
        pre.append(inputs[-1] @ w.T + b)
        inputs.append(activation(len(pre) - 1, pre[-1]))
    w, b = network[-1]
    return inputs, pre, inputs[-1] @ w.T + b


def of_signs(network, x, y, surrogate):
    """The straight-through gradient of the mean squared error of the network of signs."""
    inputs, pre, outputs = forward(network, x, lambda _, a: oracle.sign(a))
    if surrogate == "ewgs":
        slopes = [ewgs(a, q) for a, q in zip(pre, inputs[1:], strict=True)]
    else:
        slopes = [SLOPES[surrogate](a) for a in pre]
    return back(network, inputs, slopes, 2 * (outputs - y) / y.size)


def of_means(network, x, y, units):
    """The gradient of the mean squared error of the network of the units' means."""
    probability, density = UNITS[units]
    inputs, pre, outputs = forward(network, x, lambda _, a: 2 * probability(a) - 1)
    return back(network, inputs, [2 * density(a) for a in pre], 2 * (outputs - y) / y.size)


def of_draws(network, x, y, units, surrogate, **arguments):
    """The mean straight-through gradient over everything that the units of all examples can draw."""
    shapes = [(len(x), len(b)) for _, b in network[:-1]]
    sizes = [math.prod(shape) for shape in shapes]
    slopes_of = {}
    total = None
    for drawn in itertools.product((-1.0, 1.0), repeat=sum(sizes)):
        parts = np.split(np.array(drawn), np.cumsum(sizes)[:-1])
        values = [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]
        inputs, pre, outputs = forward(network, x, lambda layer, _: values[layer])  # noqa: B023
        probability, slopes = 1.0, []
        for layer, (a, s) in enumerate(zip(pre, values, strict=True)):
            p = UNITS[units][0](a)
            probability *= np.prod(np.where(s > 0, p, 1 - p))
            key = (layer, a.tobytes(), s.tobytes())
            if key not in slopes_of:
                if surrogate in OF_DRAWS:
                    slopes_of[key] = OF_DRAWS[surrogate](a, s, units, **arguments)
                else:
                    slopes_of[key] = SLOPES[surrogate](a)
            slopes.append(slopes_of[key])
        if not probability:
            continue
        gradient = back(network, inputs, slopes, 2 * (outputs - y) / y.size)
        weighted = [(probability * w, probability * b) for w, b in gradient]
        if total is None:
            total = weighted
        else:
            total = [(w + v, b + c) for (w, b), (v, c) in zip(total, weighted, strict=True)]
    return total


def by_coordinate(network, x, y, radius):
    """The discrete gradient: every single weight moved up and down."""
    gradient = []
    for layer, pair in enumerate(network):
        slopes = []
        for part, array in enumerate(pair):
            slope = np.zeros_like(array)
            for place in np.ndindex(*array.shape):
                losses = []
                for sign in (1, -1):
                    moved = array.copy()
                    moved[place] += sign * radius
                    other = [list(p) for p in network]
                    other[layer][part] = moved
                    losses.append(oracle.loss([tuple(p) for p in other], x, y))
                slope[place] = (losses[0] - losses[1]) / (2 * radius)
            slopes.append(slope)
        gradient.append(tuple(slopes))
    return gradient
