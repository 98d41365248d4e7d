"""Is one estimator better than another? Three ways to ask, and the rule that asks nothing.

- At a number of samples fixed beforehand, and at every one with a correction for having looked at all.
- At the best number of samples as chosen on the other batches of the network (cross-validated), which
  is what someone who may choose it can expect.
- "Some N": the note's own rule, that a batch counts as won if any of the sample counts wins it. It is
  no evidence, since the lowest of ten tries wins by being ten: it is shown beside what a control gets
  by the same rule, and beside a fair form, the lowest of N tries against the lowest of as many.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from srste.analysis.statistics.paired import Comparison, compare, holm, verdict
from srste.analysis.statistics.panel import Array, Series, elementwise_lowest

FIXED, EACH, CHOSEN, LOWEST = "fixed", "each", "chosen", "lowest"

RULES = {
    FIXED: "at N = {samples}, fixed beforehand",
    EACH: "at N = {samples}, corrected for all N (Holm)",
    CHOSEN: "at the best N, chosen on the other batches",
    LOWEST: "lowest of all N against lowest of as many",
}


@dataclass(frozen=True)
class Finding:
    """One claim, "the first is better than the second", put to the test.

    rule: one of :data:`RULES`. samples: where it is for one sample count. p_value: Wilcoxon's, corrected
    where the rule says so.
    """

    rule: str
    samples: int | None
    comparison: Comparison
    p_value: float

    @property
    def verdict(self) -> str:
        """better, worse, no evidence, too few networks, no studies."""
        return verdict(self.comparison, self.p_value)

    @property
    def how(self) -> str:
        """The rule in words."""
        if self.rule == FIXED and self.samples is None:
            return "one step each"
        return RULES[self.rule].format(samples=self.samples)


def constant(values: Array) -> Series:
    """A line, such as the loss before the step, as something to be compared with."""
    return Series((None,), values[:, :, None])


def findings(first: Series, second: Series, fixed: int | None = None) -> list[Finding]:
    """The claim that ``first`` has a lower loss than ``second``, by every rule that applies.

    Args: fixed: the sample count that was fixed beforehand; by default the smallest of ``first``.
        Of two series with sample counts, each is compared at the same one.
    """
    if first.samples == (None,) and second.samples == (None,):
        return [_finding(FIXED, None, second.at(None) - first.at(None))]
    counts = [n for n in (first if first.samples != (None,) else second).samples if n is not None]
    fixed = min(counts) if fixed is None else fixed
    found = [_finding(FIXED, fixed, second.at(fixed) - first.at(fixed))]
    if len(counts) < 2:
        return found
    each = [compare(second.at(n) - first.at(n)) for n in counts]
    corrected = holm([comparison.wilcoxon_p for comparison in each])
    found += [Finding(EACH, n, c, p) for n, c, p in zip(counts, each, corrected, strict=True)]
    if first.losses.shape[1] > 1:
        found.append(_finding(CHOSEN, None, cross_validated(second) - cross_validated(first)))
    if first.samples == second.samples:
        gains = elementwise_lowest(second.losses) - elementwise_lowest(first.losses)
        found.append(_finding(LOWEST, None, gains))
    return found


def _finding(rule: str, samples: int | None, gains: Array) -> Finding:
    comparison = compare(gains)
    return Finding(rule, samples, comparison, comparison.wilcoxon_p)


def cross_validated(series: Series) -> Array:
    """(networks, batches) losses, each at the sample count with the lowest mean loss on the *other*
    batches of the same network; of several the smallest. nan where a study is missing that the choice
    would need."""
    if series.samples == (None,):
        return series.losses[:, :, 0]
    losses = series.losses
    present = np.isfinite(losses).all(axis=2, keepdims=True)
    others = np.where(present, losses, 0.0)
    sums = others.sum(axis=1, keepdims=True) - others
    counts = present.sum(axis=1, keepdims=True) - present
    chosen = np.argmin(sums, axis=2)[:, :, None]
    picked = np.take_along_axis(losses, chosen, axis=2)
    return np.where(present & (counts > 0), picked, np.nan)[:, :, 0]
