"""The experiment once more, in plain float64 NumPy, sharing no code with the package.

(The key of a random stream is written out here a second time, as the fixed format that it is.)

A network is a list of (W, b); W is (out, in), b is (out,). Hidden layers end in sign, sign(0) = +1.
"""

from __future__ import annotations

import hashlib

import numpy as np

Network = list[tuple[np.ndarray, np.ndarray]]


def sign(a):
    return np.where(a >= 0, 1.0, -1.0)


def network_of(tensors, bias):
    """The (W, b) pairs of a state dict or a direction, in order."""
    arrays = [np.asarray(t.detach().numpy(), dtype=np.float64) for t in tensors.values()]
    if bias:
        return list(zip(arrays[::2], arrays[1::2], strict=True))
    return [(w, np.zeros(len(w))) for w in arrays]


def step(network, direction, lr):
    """w - lr * g for every W and b."""
    return [(w - lr * dw, b - lr * db) for (w, b), (dw, db) in zip(network, direction, strict=True)]


def forward(network, x, zero=0.0):
    """zero: a pre-activation that is at most so far below zero counts as zero."""
    h = x
    for w, b in network[:-1]:
        h = sign(h @ w.T + b + zero)
    w, b = network[-1]
    return h @ w.T + b


def loss(network, x, y, zero=0.0):
    return np.mean((forward(network, x, zero) - y) ** 2)


def brute_force(network, direction, x, y, lrs, zero=0.0):
    """The loss at each learning rate, by making the step and running the network."""
    return np.array([loss(step(network, direction, t), x, y, zero) for t in lrs])


def scale(network, direction, x, y, lr_max):
    """A bound on what the loss's terms can be: the size against which rounding is measured."""
    w, b = network[-1]
    dw, db = direction[-1]
    inputs = np.abs(x).max() if len(network) == 1 else 1.0
    reach = (np.abs(w).sum(1) + lr_max * np.abs(dw).sum(1)) * inputs + np.abs(b) + lr_max * np.abs(db)
    return float(np.max(reach) + np.max(np.abs(y))) ** 2


def distance_to_breakpoint(network, direction, x, lr):
    """How far lr is from the nearest learning rate at which a unit's pre-activation is zero, given
    the signs at lr of the layers below."""
    nearest = np.inf
    h = x
    for (w, b), (dw, db) in zip(network[:-1], direction[:-1], strict=True):
        d = h @ dw.T + db
        a = h @ w.T + b - lr * d
        with np.errstate(divide="ignore", invalid="ignore"):
            gaps = np.where(d != 0, np.abs(a / d), np.where(a == 0, 0.0, np.inf))
        nearest = min(nearest, gaps.min())
        h = sign(a)
    return nearest


def clipped(a):
    return (np.abs(a) <= 1).astype(float)


def backward(network, x, y, binarise):
    """The straight-through gradient of the loss, by hand.

    binarise(a) gives the binary values that are used forward; backward, db/da := 1 if |a| <= 1.
    """
    inputs, slopes = [x], []
    h = x
    for w, b in network[:-1]:
        a = h @ w.T + b
        h = binarise(a)
        inputs.append(h)
        slopes.append(clipped(a))
    w, b = network[-1]
    delta = 2 * (h @ w.T + b - y) / y.size
    gradient = []
    for layer in range(len(network) - 1, -1, -1):
        gradient.insert(0, (delta.T @ inputs[layer], delta.sum(0)))
        if layer:
            delta = (delta @ network[layer][0]) * slopes[layer - 1]
    return gradient


def per_tensor(gradient):
    return [(w / (np.linalg.norm(w) + 1e-8), b / (np.linalg.norm(b) + 1e-8)) for w, b in gradient]


def probability_up(a):
    """P(+1) of stochastic rounding scaled over the layer."""
    s = np.zeros_like(a)
    if (a > 0).any():
        s[a > 0] = a[a > 0] / a.max()
    if (a < 0).any():
        s[a < 0] = a[a < 0] / -a.min()
    return (s + 1) / 2


def named_stream(seed, *names):
    """A Philox generator keyed by the SHA-256 of the seed and the name."""
    digest = hashlib.sha256(repr((seed, names)).encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "big")))


def stochastic_rounding(generator):
    """binarise for `backward`: each call draws the uniforms of one layer."""

    def binarise(a):
        u = generator.random(a.shape, dtype=np.float32).astype(np.float64)
        return np.where(u < probability_up(a), 1.0, -1.0)

    return binarise
