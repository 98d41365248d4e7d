"""The links of a network as the kernels take them, rounded so that sums over signs are exact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from srste.curve.engine.kernels.lanes import LANES, aligned
from srste.curve.engine.kernels.rounding import add_magnitudes, round_columns
from srste.curve.engine.kernels.turning import WORD
from srste.curve.network.base import Array, Dense, Index, Link, Network


def _grid(links: Sequence[Link], constant: Array | None, units: int) -> Array:
    """For every (a, d) of a layer, what is added and taken away again to round to a multiple of 2^-51 of
    the power of two that the sum of their terms' magnitudes is below: floats from twice to four times
    that power are multiples of the wanted one."""
    reach = np.zeros(2 * units) if constant is None else np.abs(constant[0])
    for link in links:
        if isinstance(link, Dense):
            add_magnitudes(link.columns, reach)
        else:
            sums = [np.bincount(link.ends, np.abs(pairs), units) for pairs in link.pairs.T]
            reach += np.concatenate(sums)
    grid: Array = np.ldexp(3.0, np.frexp(reach)[1])
    return grid


def rounded(array: Array, grid: Array) -> Array:
    """The array, with a part of a sum in every column, on the grid of these sums."""
    result: Array = (array + grid) - grid
    return result


def _up_to(multiple: int, number: int) -> int:
    return -(-number // multiple) * multiple


def padded(array: Array, width: int) -> Array:
    """(rows, 2 units) of a and then d as (rows, 2 width), zero for the units that there are not."""
    rows, units = len(array), array.shape[1] // 2
    if units == width:
        return array
    wide = np.zeros((rows, 2, width))
    wide[:, :, :units] = array.reshape(rows, 2, units)
    return wide.reshape(rows, 2 * width)


@dataclass(frozen=True)
class Incoming:
    """A link into a layer, and where in `Links` its jumps begin, or its edges."""

    source: int
    at: int
    is_sparse: bool


@dataclass(frozen=True)
class Links:
    """All links of a network as the kernels take them.

    The weights that add up to a pre-activation are multiples of one power of two; the error of that is
    of the size of a sum's own rounding. Units may then turn any number of times and no rounding errors
    pile up, and examples with the same signs have the same pre-activations to the bit: their flips
    coincide, and are not an ulp apart. For the same reason it does not matter in which order they are
    added.

    widths: (layers,): units of each layer, filled up with units that never turn to multiples of `WORD`,
        or of 8 if they are the outputs.
    table: (links, 3), by source: the target, where its jumps begin, whether it is sparse.
    first: (layers + 1,): which rows of it belong to a source.
    jumps: of one dense link after the other, (units, 2 width of the target), what is added when a unit
        goes up.
    starts: of all sparse links, where a unit's edges begin, and end.
    ends, pairs: of each edge, the unit that it adds to, and what to its a and d when a unit goes up.
    into: of each layer, the links that add to it, in order of source.
    grids: of each layer, (2 width,), see `_grid`.
    rests: of each layer, (1, 2 width), what links add to it while all units are down.
    is_chain: whether each layer has one link to the next one, a dense one, and no other.
    """

    widths: Index
    first: Index
    table: Index
    jumps: Array
    starts: Index
    ends: Index
    pairs: Array
    into: list[list[Incoming]]
    grids: list[Array]
    rests: list[Array]
    is_chain: bool

    @staticmethod
    def of(network: Network) -> Links:
        """All links of a network."""
        layers = range(len(network.units))
        hidden, outputs = network.units[:-1], network.units[-1]
        widths = [*(_up_to(WORD, units) for units in hidden), _up_to(LANES, outputs)]
        into: list[list[Incoming]] = [[] for _ in layers]
        grids, rests = [], []
        dense = sum(
            len(link.columns) * 2 * widths[target]
            for (_, target), link in network.links.items()
            if isinstance(link, Dense)
        )
        jumps = aligned(dense)
        starts, ends, pairs = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros((0, 2))]
        jump = start = edge = 0  # where the next ones begin
        for target, (units, width) in enumerate(zip(network.units, widths, strict=True)):
            links = {s: link for (s, t), link in sorted(network.links.items()) if t == target}
            grid = _grid(list(links.values()), network.constants[target], units)
            rest = np.zeros(2 * units)
            for source, link in links.items():
                low, high = network.levels[source]
                if isinstance(link, Dense):
                    n = len(link.columns)
                    own = jumps[jump : jump + n * 2 * width].reshape(n, 2, width)
                    round_columns(link.columns, grid, low, high, own, rest)
                    into[target].append(Incoming(source, jump, False))
                    jump += own.size
                else:
                    to = np.stack((link.ends, units + link.ends), 1)
                    pair = rounded(link.pairs, grid[to])
                    rest += low * np.bincount(to.reshape(-1), pair.reshape(-1), 2 * units)
                    starts.append(link.starts + edge)
                    ends.append(link.ends)
                    pairs.append(pair * (high - low))
                    into[target].append(Incoming(source, start, True))
                    start += len(link.starts)
                    edge += len(link.ends)
            grids.append(padded(grid[None], width)[0])
            rests.append(padded(rest[None], width))
        table = [
            (target, link.at, link.is_sparse)
            for layer in layers
            for target in layers
            for link in into[target]
            if link.source == layer
        ]
        counts = [sum(link.source == layer for links in into for link in links) for layer in layers]
        return Links(
            widths=np.array(widths),
            first=np.array([0, *accumulate(counts)]),
            table=np.array(table, dtype=np.int64).reshape(-1, 3),
            jumps=jumps,
            starts=np.concatenate(starts),
            ends=np.concatenate(ends),
            pairs=np.concatenate(pairs),
            into=into,
            grids=grids,
            rests=rests,
            is_chain=[[(link.source, link.is_sparse) for link in links] for links in into]
            == [[], *([(source, False)] for source in layers[:-1])],
        )
