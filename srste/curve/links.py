"""The links of a network as the kernels take them, rounded so that sums over signs are exact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from srste.curve.network import Array, Dense, Index, Link, Network, Sparse


def _grid(links: Sequence[Link], constant: Array | None, units: int) -> Array:
    """For every (a, d) of a layer, what is added and taken away again to round to a multiple of 2^-51 of
    the power of two that the sum of their terms' magnitudes is below: floats from twice to four times
    that power are multiples of the wanted one."""
    reach = np.zeros(2 * units)
    if constant is not None:
        reach += np.abs(constant[0])
    for link in links:
        if isinstance(link, Dense):
            reach += np.abs(link.columns).sum(axis=0)
        else:
            sums = [np.bincount(link.ends, np.abs(pairs), units) for pairs in link.pairs.T]
            reach += np.concatenate(sums)
    grid: Array = np.ldexp(3.0, np.frexp(reach)[1])
    return grid


def rounded(array: Array, grid: Array) -> Array:
    """The array, with a part of a sum in every column, on the grid of these sums."""
    result: Array = (array + grid) - grid
    return result


def _rounded(link: Link, grid: Array) -> Link:
    if isinstance(link, Dense):
        return Dense(rounded(link.columns, grid))
    ends, units = link.ends, len(grid) // 2
    return Sparse(link.starts, ends, rounded(link.pairs, np.stack((grid[ends], grid[units + ends]), 1)))


@dataclass(frozen=True)
class Links:
    """All links of a network as `srste.curve.kernels.following.follow` takes them.

    The weights that add up to a pre-activation are multiples of one power of two; the error of that is
    of the size of a sum's own rounding. Units may then turn any number of times and no rounding errors
    pile up, and examples with the same signs have the same pre-activations to the bit: their flips
    coincide, and are not an ulp apart.

    table: (links, 3), by source: the target, where its jumps begin, whether it is sparse.
    first: (layers + 1,): which rows of it belong to a source.
    jumps: of all dense links, in a row for every unit, what is added when it goes up.
    starts: of all sparse links, where a unit's edges begin, and end.
    ends, pairs: of each edge, the unit that it adds to, and what to its a and d.
    into: of each layer, the (source, link) that add to it. grids: of each layer.
    """

    first: Index
    table: Index
    jumps: Array
    starts: Index
    ends: Index
    pairs: Array
    into: list[list[tuple[int, Link]]]
    grids: list[Array]

    @staticmethod
    def of(network: Network) -> Links:
        """All links of a network."""
        layers = range(len(network.units))
        into: list[list[tuple[int, Link]]] = []
        grids = []
        for target in layers:
            links = {s: link for (s, t), link in sorted(network.links.items()) if t == target}
            grids.append(_grid(list(links.values()), network.constants[target], network.units[target]))
            into.append([(source, _rounded(link, grids[-1])) for source, link in links.items()])

        table: list[tuple[int, int, bool]] = []
        dense = [link.columns for links in into for _, link in links if isinstance(link, Dense)]
        jumps = np.zeros((sum(map(len, dense)), max((c.shape[1] for c in dense), default=0)))
        place = 0
        starts = [np.zeros(0, np.int64)]
        ends, pairs = [np.zeros(0, np.int64)], [np.zeros((0, 2))]
        counts = []
        for layer in layers:
            before = len(table)
            for target in layers:
                for source, link in into[target]:
                    if source != layer:
                        continue
                    low, high = network.levels[layer]
                    if isinstance(link, Dense):
                        table.append((target, place, False))
                        rows, columns = link.columns.shape
                        np.multiply(link.columns, high - low, out=jumps[place : place + rows, :columns])
                        place += rows
                    else:
                        table.append((target, sum(map(len, starts)), True))
                        starts.append(link.starts + sum(map(len, ends)))
                        ends.append(link.ends)
                        pairs.append(link.pairs * (high - low))
            counts.append(len(table) - before)
        return Links(
            first=np.array([0, *accumulate(counts)]),
            table=np.array(table, dtype=np.int64).reshape(-1, 3),
            jumps=jumps,
            starts=np.concatenate(starts),
            ends=np.concatenate(ends),
            pairs=np.concatenate(pairs),
            into=into,
            grids=grids,
        )
