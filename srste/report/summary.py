"""The numbers of a launch's answer: each estimator's loss, and its gain over its baseline, by N."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from srste.analysis.statistics.panel import Array, network_means
from srste.analysis.statistics.verdicts import CHOSEN, EACH, FIXED, Finding
from srste.report.claims import Claim
from srste.report.panels import BATCH, HELDOUT, Setting, panel

MOST = 0.9
"""The part of the largest gain from which a larger number of samples is said to add hardly any."""


MOST_UNSORTED = 5
"""More estimators than these are sorted by their gain."""


class Row(NamedTuple):
    """An estimator at one number of samples, over all batches and networks.

    samples: None where none are drawn. loss: after the best step, the mean over networks of each
    one's mean over batches. gain, heldout: the test of the gain over the baseline, on the batch and
    on held-out data at the same learning rate, with Holm's correction for all N; None for the
    baseline, or without held-out data. passes: forward and backward passes of a direction together;
    None where the estimator does not say, or where networks differ in it.
    """

    samples: int | None
    loss: float
    gain: Finding | None
    heldout: Finding | None
    passes: int | None

    @property
    def mean(self) -> float:
        """The mean gain on the batch; nan without one."""
        return self.gain.comparison.mean if self.gain else float("nan")


@dataclass(frozen=True)
class Summary:
    """An estimator over its numbers of samples.

    baseline: the estimator it is compared with, "" for none. rows: by ascending number of samples.
    chosen, chosen_heldout: the test at the N that is best on the other batches, on the batch and
    on held-out data; None with one N or one batch.
    """

    series: str
    baseline: str
    control: bool
    rows: tuple[Row, ...]
    chosen: Finding | None
    chosen_heldout: Finding | None

    @property
    def best(self) -> Row | None:
        """The row with the largest mean gain on the batch."""
        compared = [row for row in self.rows if row.gain]
        return max(compared, key=lambda row: row.mean, default=None)

    @property
    def enough(self) -> Row | None:
        """The row of the smallest N whose mean gain is at least :data:`MOST` of the largest; None
        where there is no gain, or the largest needs the largest N."""
        best = self.best
        if best is None or best.mean <= 0:
            return None
        enough = next(row for row in self.rows if row.mean >= MOST * best.mean)
        return None if enough is self.rows[-1] else enough


def summaries(setting: Setting, claims: Sequence[Claim]) -> list[Summary]:
    """Return a setting's estimators: the baselines, then the others, controls last; many of them by
    falling gain.

    Args: claims: the setting's, see :func:`srste.report.claims.claims`.
    """
    losses = panel(setting)
    tested = {
        (claim.first, claim.second, claim.measure.short, claim.finding.samples): claim.finding
        for rule in (FIXED, EACH)  # the corrected one where there are several N
        for claim in claims
        if claim.finding.rule == rule
    }
    chosen = {
        (claim.first, claim.second, claim.measure.short): claim.finding
        for claim in claims
        if claim.finding.rule == CHOSEN
    }
    passes = _passes(setting)
    results = []
    for name, series in losses.series.items():
        baseline = setting.baselines.get(name, "")
        rows = tuple(
            Row(
                samples,
                _mean(series.at(samples)),
                tested.get((name, baseline, BATCH.short, samples)),
                tested.get((name, baseline, HELDOUT.short, samples)),
                passes.get((name, samples)),
            )
            for samples in series.samples
        )
        at_chosen = (chosen.get((name, baseline, measure.short)) for measure in (BATCH, HELDOUT))
        results.append(Summary(name, baseline, name in setting.controls, rows, *at_chosen))
    many = len(results) > MOST_UNSORTED

    def place(one: Summary) -> tuple[bool, bool, float]:
        return one.control, bool(one.baseline), -one.best.mean if many and one.best else 0.0

    return sorted(results, key=place)


def _passes(setting: Setting) -> dict[tuple[str, int | None], int | None]:
    """Return what a direction costs, by series and number of samples."""
    of: dict[tuple[str, int | None], set[int | None]] = {}
    for column, record in setting.records:
        of.setdefault((column.series, column.samples), set()).add(record.passes)
    return {place: counts.pop() if len(counts) == 1 else None for place, counts in of.items()}


def _mean(losses: Array) -> float:
    means = network_means(losses)
    return float(means.mean()) if means.size else float("nan")
