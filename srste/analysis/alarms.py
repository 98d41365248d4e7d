"""Alarms: signs that a result is not what it claims to be.

Each would have caught something in the logs of the 2021 note. Some ring while a study runs
(`srste.study.checks`), others in the results of several studies, given as :class:`BestStep`.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, groupby, pairwise
from typing import NamedTuple

import numpy as np

from srste.analysis.grouping import grouped
from srste.study.results import NOT_MOVED, NOT_RESTORED, SAME_DRAWS

DRIFT, SAME_RESULT, SMALLEST = "drift", "same result", "smallest learning rate"
MISSED = "missed decrease"

MISSED_PART = 0.01
"""The fraction of the possible decrease that a search may miss without an alarm."""

MEANING = {
    DRIFT: "the loss at a fixed learning rate moves with N as N(N+1)/2, as it does when gradients are "
    "never zeroed and add up; fresh gradients do not do that",
    SAME_DRAWS: "other random draws give the same direction: the quantiser is not the stochastic one "
    "that was asked for",
    NOT_MOVED: "the direction of these parameter tensors is zero, so that no step moves them: their "
    "gradient is lost on the way, as in a sign without a straight-through, or all units behind them are "
    "dead or saturated on this batch; requires_grad=False says that it is meant",
    SAME_RESULT: "different sample counts give the same learning rate and the same loss to the last "
    "digit, as repeated draws do that are none",
    SMALLEST: "the smallest learning rate that was tried is the best: there is no descent, or the grid "
    "is too coarse to see it",
    MISSED: "there are learning rates that lower the loss further: the best that was tried misses more "
    "than 1 % of the decrease that can be had, which a finer grid or more trials would find",
    NOT_RESTORED: "the loss before the update is not the same in all studies of a batch, or the "
    "weights were not, after a study, what they had been before it",
}
"""What each kind of alarm means."""


@dataclass(frozen=True)
class Alarm:
    """kind: one of :data:`MEANING`. where, detail: where and what it is, in words."""

    kind: str
    where: str
    detail: str


def by_kind(alarms: Iterable[Alarm]) -> dict[str, list[Alarm]]:
    """Return the alarms of each kind, in the order of their first ones."""
    return grouped(alarms, key=lambda alarm: alarm.kind)


class BestStep(NamedTuple):
    """The best step of one study, stored or from a log.

    series: one estimator with all its sample counts. samples: None where it draws nothing.
    pre_loss, post_loss: before and after the step. lr: of the step. smallest_lr: the lower end of
    the search; None where it is not known or says nothing. fixed: a learning rate that many sample
    counts share and the loss there, if any. descends: whether any learning rate lowers the loss.
    missed: the fraction of the possible decrease that the step misses. None where not known.
    """

    batch: int
    series: str
    samples: int | None
    pre_loss: float
    lr: float
    post_loss: float
    smallest_lr: float | None
    fixed: tuple[float, float] | None
    descends: bool | None = None
    missed: float | None = None


@dataclass(frozen=True)
class Drift:
    """The trend of the loss at a fixed learning rate in N, over all batches.

    down, steps: the number of steps from one N to the next in which the loss falls, and of all.
    p_value: two-sided, of steps up or down by chance. r_squared: of a straight line in N(N+1)/2,
    the median over the batches with at least ``SHORTEST_RUN`` sample counts; nan if none.
    """

    down: int
    steps: int
    p_value: float
    r_squared: float

    @property
    def alarming(self) -> bool:
        """Whether the loss moves one way beyond chance, and straight in N(N+1)/2."""
        return self.p_value < DRIFT_P_VALUE and self.r_squared > DRIFT_R_SQUARED


SAME_LOSS = 1e-9
"""The relative difference up to which two machines may round a mean over a batch differently."""

SHORTEST_RUN = 4
DRIFT_P_VALUE, DRIFT_R_SQUARED = 1e-3, 0.9


def drift(steps: Iterable[BestStep]) -> Drift:
    """Return the drift over N of one series, or of several pooled."""
    from scipy.stats import binomtest, linregress  # most of a second to import

    down = total = 0
    fits = []
    for run in fixed_lr_runs(steps):
        losses = [step.fixed[1] for step in run if step.fixed]
        changes = [after - before for before, after in pairwise(losses) if after != before]
        down += sum(change < 0 for change in changes)
        total += len(changes)
        if len(run) >= SHORTEST_RUN and len(set(losses)) > 1:
            summed = [(step.samples or 0) * ((step.samples or 0) + 1) / 2 for step in run]
            fits.append(float(linregress(summed, losses).rvalue) ** 2)
    p_value = float(binomtest(down, total).pvalue) if total else 1.0
    return Drift(down, total, p_value, float(np.median(fits)) if fits else float("nan"))


def fixed_lr_runs(steps: Iterable[BestStep]) -> Iterator[list[BestStep]]:
    """Yield, by batch and series, consecutive sample counts with one fixed learning rate."""
    sampled = [step for step in steps if step.samples is not None and step.fixed is not None]
    for members in grouped(sampled, key=lambda step: (step.batch, step.series)).values():
        members.sort(key=lambda step: step.samples or 0)
        for _, run in groupby(members, key=lambda step: step.fixed and step.fixed[0]):
            yield list(run)


def alarms_in(steps: Iterable[BestStep]) -> list[Alarm]:
    """Return the alarms in the results of one problem's studies, all batches and estimators."""
    steps = list(steps)
    kinds = (_not_restored, _drifting, _same_results, _smallest, _missing)
    return list(chain.from_iterable(alarms(steps) for alarms in kinds))


def _not_restored(steps: list[BestStep]) -> Iterator[Alarm]:
    for batch, members in grouped(steps, key=lambda step: step.batch).items():
        losses = sorted(step.pre_loss for step in members)
        if not math.isclose(losses[0], losses[-1], rel_tol=SAME_LOSS):
            yield Alarm(
                NOT_RESTORED, f"batch {batch}", f"losses before from {losses[0]} to {losses[-1]}"
            )


def _drifting(steps: list[BestStep]) -> Iterator[Alarm]:
    for series, members in grouped(steps, key=lambda step: step.series).items():
        trend = drift(members)
        if trend.alarming:
            detail = f"{trend.down} of {trend.steps} steps from one N to the next go down"
            yield Alarm(DRIFT, series, f"{detail}, R² {trend.r_squared:.3f}")


def _same_results(steps: list[BestStep]) -> Iterator[Alarm]:
    drawn = [step for step in steps if step.samples is not None]
    for series, of_series in grouped(drawn, key=lambda step: step.series).items():
        for batch, members in grouped(of_series, key=lambda step: step.batch).items():
            results = grouped(members, key=lambda step: (step.lr, step.post_loss))
            for (lr, loss), same in results.items():
                if len(same) > 1:
                    counts = sorted(step.samples or 0 for step in same)
                    detail = f"N = {', '.join(map(str, counts))}: loss {loss} at {lr:g}"
                    yield Alarm(SAME_RESULT, f"{series} batch {batch}", detail)


def _smallest(steps: list[BestStep]) -> Iterator[Alarm]:
    for step in steps:
        if step.smallest_lr is not None and math.isclose(step.lr, step.smallest_lr, rel_tol=1e-6):
            below = f"below the {step.pre_loss:.6g} before"
            if not step.post_loss < step.pre_loss:
                below = f"not {below}{_OTHER_RATES[step.descends]}"
            yield Alarm(SMALLEST, _study(step), f"loss {step.post_loss:.6g} at {step.lr:g}, {below}")


_OTHER_RATES = {None: "", True: "; others lower it: the grid is too coarse", False: "; none lowers it"}
"""What is known of the learning rates that were not tried, by whether any lowers the loss."""


def _missing(steps: list[BestStep]) -> Iterator[Alarm]:
    for step in steps:
        if step.missed is not None and step.missed > MISSED_PART:
            part = "all" if step.missed >= 1 else f"{100 * step.missed:.2g} %"
            yield Alarm(
                MISSED,
                _study(step),
                f"loss {step.post_loss:.6g} at {step.lr:g}, which misses {part} of the decrease from "
                f"{step.pre_loss:.6g} that can be had",
            )


def _study(step: BestStep) -> str:
    samples = "" if step.samples is None else f" N={step.samples}"
    return f"{step.series}{samples} batch {step.batch}"
