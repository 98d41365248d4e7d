"""The links of a network as the kernels take them, rounded so that sums over signs are exact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, chain

import numpy as np

from srste.curve.engine.kernels.lanes import LANES, aligned
from srste.curve.engine.kernels.rounding import add_magnitudes, round_columns
from srste.curve.engine.layout import WORD, LinkTable
from srste.curve.network.base import Array, Dense, Link, Network


def _grid(links: Sequence[Link], constant: Array | None, units: int) -> Array:
    """Constants c, one for every (a, d) of a layer, such that (x + c) - c rounds x to the layer's grid.

    Its grid are the multiples of 2^-51 of the power of two that the sum of the terms' magnitudes is
    below; c is three times that power, where floats are such multiples.

    References: Rump, Ogita and Oishi, 2008, "Accurate floating-point summation part I: faithful
    rounding", section 3, who split numbers so.
    """
    magnitudes = np.zeros(2 * units) if constant is None else np.abs(constant[0])
    for link in links:
        if isinstance(link, Dense):
            add_magnitudes(link.columns, magnitudes)
        else:
            sums = [np.bincount(link.ends, np.abs(pairs), units) for pairs in link.pairs.T]
            magnitudes += np.concatenate(sums)
    grid: Array = np.ldexp(3.0, np.frexp(magnitudes)[1])
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
    """A link into a layer, and where in a `LinkTable` its jumps or its edges begin."""

    source: int
    at: int
    is_sparse: bool


@dataclass(frozen=True)
class Links:
    """All links of a network, with weights rounded for the kernels.

    The weights that add up to a pre-activation are multiples of one power of two; the error of that is
    of the size of a sum's rounding. Units may then flip any number of times and no rounding errors
    pile up, and examples with the same signs have the same pre-activations to the bit: their flips
    coincide, and are not an ulp apart. For the same reason it does not matter in which order they are
    added.

    table: what the kernels take.
    into: of each layer, the links that add to it, in order of source.
    grids: of each layer, (2 width,), see `_grid`.
    rests: of each layer, (1, 2 width), what links add to it while all units are down.
    is_chain: whether each layer has one link to the next one, a dense one, and no other.
    """

    table: LinkTable
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
        sparse = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 2)))]
        jump = start = edge = 0  # where the next ones begin
        for target, (units, width) in enumerate(zip(network.units, widths, strict=True)):
            links = {s: link for (s, t), link in sorted(network.links.items()) if t == target}
            grid = _grid(list(links.values()), network.constants[target], units)
            rest = np.zeros(2 * units)
            for source, link in links.items():
                low, high = network.levels[source]
                if isinstance(link, Dense):
                    n = len(link.columns)
                    rounded_columns = jumps[jump : jump + n * 2 * width].reshape(n, 2, width)
                    round_columns(link.columns, grid, low, high, rounded_columns, rest)
                    into[target].append(Incoming(source, jump, False))
                    jump += rounded_columns.size
                else:
                    to = np.stack((link.ends, units + link.ends), 1)
                    pair = rounded(link.pairs, grid[to])
                    rest += low * np.bincount(to.reshape(-1), pair.reshape(-1), 2 * units)
                    sparse.append((link.starts + edge, link.ends, pair * (high - low)))
                    into[target].append(Incoming(source, start, True))
                    start += len(link.starts)
                    edge += len(link.ends)
            grids.append(padded(grid[None], width)[0])
            rests.append(padded(rest[None], width))
        outgoing = [
            [
                (target, link.at, link.is_sparse)
                for target in layers
                for link in into[target]
                if link.source == source
            ]
            for source in layers
        ]
        starts, ends, pairs = map(np.concatenate, zip(*sparse, strict=True))
        return Links(
            table=LinkTable(
                outputs=outputs,
                widths=np.array(widths),
                first=np.array([0, *accumulate(map(len, outgoing))]),
                outgoing=np.array([*chain(*outgoing)], dtype=np.int64).reshape(-1, 3),
                jumps=jumps,
                starts=starts,
                ends=ends,
                pairs=pairs,
            ),
            into=into,
            grids=grids,
            rests=rests,
            is_chain=[[(link.source, link.is_sparse) for link in links] for links in into]
            == [[], *([(source, False)] for source in layers[:-1])],
        )
