"""Computes from a log what claims are compared with."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from srste.analysis.alarms import Alarm, BestStep, alarms_in
from srste.analysis.statistics.panel import Array
from srste.analysis.statistics.proportions import Proportion, of_independent
from srste.note2021.log import LogLine, read_note_log
from srste.note2021.statistics import STATISTICS, Losses

FINEST = 1e-9
"""The precision of learning rates; a common step must be coarser."""

FIXED, DRAWN = "STE", "stochastic STE"
"""The labels of the note's two estimators."""


@dataclass(frozen=True)
class Log:
    """A log in the note's line format."""

    path: Path
    lines: list[LogLine]

    @classmethod
    def read(cls, path: Path) -> Log:
        """Read a file. Raises: UserError, see :func:`srste.note2021.log.read_note_log`."""
        return cls(path, read_note_log(path))

    @property
    def batches(self) -> list[int]:
        """The numbers of the batches, from 1."""
        return sorted({line.batch for line in self.lines})

    @property
    def samples(self) -> list[int]:
        """All sample counts, ascending."""
        return sorted({line.samples for line in self.lines if line.samples is not None})

    @cached_property
    def step(self) -> float | None:
        """The largest number of which all learning rates are multiples; None if there is none, or
        only one learning rate."""
        if len({line.lr for line in self.lines}) < 2:
            return None
        counts = [round(line.lr / FINEST) for line in self.lines]
        common = math.gcd(*counts)
        exact = all(
            abs(c * FINEST - line.lr) < 1e-3 * FINEST for c, line in zip(counts, self.lines, strict=True)
        )
        return common * FINEST if exact and common > 1 else None

    @property
    def at_the_lowest(self) -> list[LogLine]:
        """The lines whose learning rate is the lowest point of a grid with that step."""
        step = self.step
        return [x for x in self.lines if step is not None and math.isclose(x.lr, step, rel_tol=1e-6)]

    @property
    def labels(self) -> list[str]:
        """The labels of estimators with sample counts, in order of appearance; the note's first."""
        labels = dict.fromkeys(line.label for line in self.lines if line.samples is not None)
        return sorted(labels, key=lambda label: label != DRAWN)

    def losses(self, label: str) -> Losses:
        """Return the losses before, after STE's and after that estimator's best steps: (batches,),
        (batches,) and (batches, sample counts); nan where there is no line. Without the label
        "STE", the first estimator without samples takes its place."""
        fixed = [line.label for line in self.lines if line.samples is None]
        ste = FIXED if FIXED in fixed else next(iter(fixed), "")
        counts = sorted({x.samples for x in self.lines if x.label == label and x.samples is not None})
        shapes = [(len(self.batches),), (len(self.batches),), (len(self.batches), len(counts))]
        losses = Losses(*(np.full(shape, np.nan) for shape in shapes))
        for line in self.lines:
            row = line.batch - 1
            losses.before[row] = line.pre_loss
            if line.samples is None and line.label == ste:
                losses.ste[row] = line.post_loss
            elif line.samples is not None and line.label == label:
                losses.drawn[row, counts.index(line.samples)] = line.post_loss
        return losses

    def events(self, key: str, label: str) -> Array:
        """Return the events of one of the note's statistics, (batches,): 1 where it counts the
        batch, 0 where not, nan where lines are missing."""
        return STATISTICS[key][1](self.losses(label))

    def count(self, key: str, label: str = DRAWN) -> Proportion:
        """Return the number of events. The interval assumes independent batches, which those of one
        network are not quite: it may be too narrow."""
        events = self.events(key, label)
        return of_independent(int(np.nansum(events)), int((~np.isnan(events)).sum()))

    def batches_of(self, key: str, label: str = DRAWN) -> list[int]:
        """Return the batches with an event."""
        return [b for b, e in zip(self.batches, self.events(key, label), strict=True) if e == 1]

    @cached_property
    def steps(self) -> list[BestStep]:
        """The lines in the form that alarms are computed from."""
        return [
            BestStep(
                batch=line.batch,
                series=line.label,
                samples=line.samples,
                pre_loss=line.pre_loss,
                lr=line.lr,
                post_loss=line.post_loss,
                # A log has the best trials only; the lowest point of a grid is its step.
                smallest_lr=self.step,
                fixed=(line.lr, line.post_loss),
            )
            for line in self.lines
        ]

    @property
    def alarms(self) -> list[Alarm]:
        """The alarms of the log."""
        return alarms_in(self.steps)
