"""What a log itself says, whatever is claimed of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from srste.alarms import Alarm, Drift, Step, alarms_in, drift
from srste.report.notelog import LogLine, read_note_log
from srste.statistics.note import STATISTICS, Losses
from srste.statistics.panel import Array
from srste.statistics.proportions import Proportion, of_independent

FINEST = 1e-9
"""Learning rates are looked at to that many decimals; without a coarser common step there is none."""


@dataclass(frozen=True)
class Log:
    """A log that has been read."""

    path: Path
    lines: list[LogLine]

    @classmethod
    def read(cls, path: Path) -> Log:
        """Raises: UserError, see :func:`srste.report.notelog.read_note_log`."""
        return cls(path, read_note_log(path))

    @property
    def batches(self) -> list[int]:
        """Their numbers, from 1."""
        return sorted({line.batch for line in self.lines})

    @property
    def samples(self) -> list[int]:
        """All sample counts, ascending."""
        return sorted({line.samples for line in self.lines if line.samples is not None})

    @cached_property
    def step(self) -> float | None:
        """The largest number of which all learning rates are multiples; None without one."""
        counts = [round(line.lr / FINEST) for line in self.lines]
        common = math.gcd(*counts)
        whole = all(
            abs(c * FINEST - line.lr) < 1e-3 * FINEST for c, line in zip(counts, self.lines, strict=True)
        )
        return common * FINEST if whole and common > 1 else None

    @property
    def at_the_lowest(self) -> list[LogLine]:
        """The lines whose learning rate is the lowest point of a grid with that step."""
        step = self.step
        return [x for x in self.lines if step is not None and math.isclose(x.lr, step, rel_tol=1e-6)]

    @property
    def losses(self) -> Losses:
        """Before, after STE's, and after the drawn estimator's best steps: (batches,), (batches,) and
        (batches, sample counts); nan where there is no line. Of several estimators the first counts."""
        before = np.full(len(self.batches), np.nan)
        ste = before.copy()
        drawn = np.full((len(self.batches), len(self.samples)), np.nan)
        for line in reversed(self.lines):
            row = line.batch - 1
            before[row] = line.pre_loss
            if line.samples is None:
                ste[row] = line.post_loss
            else:
                drawn[row, self.samples.index(line.samples)] = line.post_loss
        return Losses(before, ste, drawn)

    @cached_property
    def statistics(self) -> dict[str, Array]:
        """Of each of the note's statistics, (batches,): 1 where it counts the batch, 0 where not, nan
        where lines are missing."""
        if not self.samples:
            return {key: np.full(len(self.batches), np.nan) for key in STATISTICS}
        return {key: function(self.losses) for key, (_, function) in STATISTICS.items()}

    def count(self, key: str) -> Proportion:
        """How many batches it counts. The interval takes batches for independent, which those of one
        network are not quite: it is, if anything, too narrow."""
        events = self.statistics[key]
        return of_independent(int(np.nansum(events)), int((~np.isnan(events)).sum()))

    def batches_of(self, key: str) -> list[int]:
        """The batches that it counts."""
        return [b for b, event in zip(self.batches, self.statistics[key], strict=True) if event == 1]

    @cached_property
    def steps(self) -> list[Step]:
        """The lines as the alarms look at them."""
        # A log does not say what else was tried: of a grid its lowest point would be its step.
        lowest = self.step or min(line.lr for line in self.lines)
        return [
            Step(
                batch=line.batch,
                series=line.label,
                samples=line.samples,
                pre_loss=line.pre_loss,
                lr=line.lr,
                post_loss=line.post_loss,
                smallest_lr=lowest,
                fixed=(line.lr, line.post_loss),
            )
            for line in self.lines
        ]

    @property
    def alarms(self) -> list[Alarm]:
        """What is alarming in it."""
        return alarms_in(self.steps)

    @property
    def drift(self) -> Drift:
        """How its losses go with N at a learning rate that stays the same."""
        return drift(self.steps)
