"""The columns of a dense link brought onto the grid of the sums that they are terms of."""

from __future__ import annotations

import numpy as np

from srste.curve.engine.kernels.compiling import compiled
from srste.curve.engine.layout import Matrix, Stack, Vector


@compiled
def add_magnitudes(columns: Matrix, magnitudes: Vector) -> None:
    """Add the sums of magnitudes of columns (n, any) to ``magnitudes`` (any,)."""
    for row in range(len(columns)):
        for column in range(len(magnitudes)):
            magnitudes[column] += np.abs(columns[row, column])


@compiled
def round_columns(
    columns: Matrix, grid: Vector, low: float, high: float, jumps: Stack, rest: Vector
) -> None:
    """Round columns (n, 2 m) as `srste.curve.engine.link_table.rounded` does.

    Args:
        grid: (2 m,), see there. low, high: the levels of the n units.
        jumps: (n, 2, m or more), is filled in: what a unit adds when it goes up.
        rest: (2 m,): what all units give that are down is added to it.
    """
    units = columns.shape[1] // 2
    jumps[:] = 0.0
    for row in range(len(columns)):
        for half in range(2):
            for unit in range(units):
                column = half * units + unit
                value = (columns[row, column] + grid[column]) - grid[column]
                rest[column] += low * value
                jumps[row, half, unit] = (high - low) * value
