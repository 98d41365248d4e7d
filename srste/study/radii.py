"""The estimators by differences of the loss at every radius at once, by exact loss curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from srste.curve import Line
from srste.estimators import Direction
from srste.estimators.smoothed import Smoothed
from srste.problem.task import Batch, Task
from srste.study.gradient_quality import Repeated, by_layer, flat, quality_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class RadiusRow:
    """The quality of an estimate at one radius, of all parameters together: see
    :class:`srste.study.gradient_quality.Quality` for the numbers."""

    radius: float
    cosine: float
    cosine_low: float
    cosine_high: float
    rmse: float
    bias: float
    deviation: float


class RadiusQuality:
    """The quality of an estimator's directions against the radius of its differences.

    estimator: its name. truth: what it is compared with, in words. samples: of each estimate. exact:
    whether the loss curves were. rows: by ascending radius.
    """

    def __init__(
        self, estimator: str, truth: str, samples: int, exact: bool, rows: Sequence[RadiusRow]
    ) -> None:
        self.estimator, self.truth, self.samples = estimator, truth, samples
        self.exact, self.rows = exact, tuple(rows)

    @property
    def best(self) -> RadiusRow:
        """The row of the largest cosine."""
        return max(self.rows, key=lambda row: row.cosine)

    def frame(self) -> pd.DataFrame:
        """A row per radius, with the columns of :class:`RadiusRow`."""
        import pandas as pd

        return pd.DataFrame([asdict(row) for row in self.rows])

    def plot(self, ax: Axes | None = None, label: str = "") -> Axes:
        """Draw the cosine against the radius, on a logarithmic axis, with the band of its 15 and 85 %
        quantiles.

        Args: ax: to draw on; a new figure by default. label: in the legend, by default the estimator.
        """
        if ax is None:
            import matplotlib.pyplot as plt

            ax = plt.subplots(figsize=(6.4, 3.6), layout="constrained")[1]
        radii = [row.radius for row in self.rows]
        named = label or f"{self.estimator}, n = {self.samples}"
        (line,) = ax.plot(radii, [row.cosine for row in self.rows], label=named)
        low, high = [r.cosine_low for r in self.rows], [r.cosine_high for r in self.rows]
        ax.fill_between(radii, low, high, color=line.get_color(), alpha=0.2, lw=0)
        ax.set_xscale("log")
        ax.set(xlabel="radius e", ylabel="cosine", title=f"against {self.truth}")
        ax.grid(alpha=0.25)
        ax.legend(frameon=False)
        return ax

    def __repr__(self) -> str:
        best = self.best
        curves = "exact" if self.exact else "evaluated"
        return (
            f"<{self.estimator}, n = {self.samples}, at {len(self.rows)} radii by {curves} loss curves, "
            f"against {self.truth}: cosine at most {best.cosine:.4f}, at radius {best.radius:.3g}>"
        )


def slopes(task: Task, batch: Batch, v: Direction, radii: Sequence[float]) -> tuple[np.ndarray, bool]:
    """The differences (L(w + e v) - L(w - e v)) / (2 e) for every radius e, from the loss curves along v
    and along -v; and whether these are exact.

    Args: v: a tensor for every parameter, zero for those that are not to move. radii: > 0.
    """
    curves = [
        Line(task.model, {name: sign * t for name, t in v.items()}).loss(
            batch.inputs, batch.targets, task.loss, max(radii), task.seed
        )
        for sign in (-1, 1)  # a step goes against its direction
    ]
    at = np.asarray(radii, dtype=np.float64)
    up, down = (curve(at) for curve in curves)
    return (up - down) / (2 * at), all(curve.exact for curve in curves)


def radius_quality(
    task: Task,
    batch: Batch,
    estimator: Smoothed,
    truth: Direction,
    radii: Sequence[float],
    samples: int,
    repeats: int,
) -> tuple[list[RadiusRow], bool]:
    """The quality of an estimator at every radius, by the same directions for all of them; and whether
    every loss curve was exact.

    Args: truth: what it estimates. radii: > 0. samples: of each estimate, >= 1. repeats: >= 2.
    """
    names = by_layer(task.model)[""]
    directions, at_radii, exact = [], [], True
    for repeat in range(repeats):
        drawn = list(estimator.directions(Repeated(task, "repeat", repeat), batch, samples))
        of_each = [slopes(task, batch, v, radii) for v in drawn]
        exact = exact and all(is_exact for _, is_exact in of_each)
        directions.append(torch.stack([flat(v, names) for v in drawn]))
        at_radii.append(torch.from_numpy(np.stack([slope for slope, _ in of_each])))
    exact_truth = flat(truth, names)
    rows = []
    for place in np.argsort(radii):
        estimates = torch.stack(
            [_mean(s[:, int(place)], v) for s, v in zip(at_radii, directions, strict=True)]
        )
        q = quality_of("", 1, estimates, exact_truth)
        rows.append(
            RadiusRow(
                float(radii[place]), q.cosine, q.cosine_low, q.cosine_high, q.rmse, q.bias, q.deviation
            )
        )
    return rows, exact


def _mean(slope: Tensor, v: Tensor) -> Tensor:
    """Return the mean over directions (n, numbers) of each times its slope (n,)."""
    return slope @ v / len(slope)
