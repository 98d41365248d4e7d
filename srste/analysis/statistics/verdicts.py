"""Verdicts: whether one estimator is better than another, and by which rules they are compared.

- At a number of samples fixed beforehand, and at every one with a correction for multiple tests.
- At the best number of samples as chosen on the other batches of the network (cross-validated),
  which is what someone who may choose it can expect.
- The lowest of all sample counts against the lowest of as many: the fair form of the note's rule
  "some N is better", which is no evidence, since the lowest of ten tries wins by being ten.
"""

from dataclasses import dataclass

import numpy as np

from srste.analysis.statistics.paired import ALPHA, FEWEST_NETWORKS, Comparison, compare, holm
from srste.analysis.statistics.panel import Array, Series

BETTER, WORSE, NO_EVIDENCE = "better", "worse", "no evidence"
TOO_FEW, NOTHING = "too few networks", "no studies"

FIXED, EACH, CHOSEN, LOWEST = "fixed", "each", "chosen", "lowest"

RULES = {
    FIXED: "at N = {samples}, fixed beforehand",
    EACH: "at N = {samples}, corrected for all N (Holm)",
    CHOSEN: "at the best N, chosen on the other batches",
    LOWEST: "lowest of all N against lowest of as many",
}


@dataclass(frozen=True)
class Finding:
    """A test of the claim that the first is better than the second.

    rule: one of :data:`RULES`. samples: the sample count, if the rule is for one. p_value:
    Wilcoxon's, corrected where the rule says so.
    """

    rule: str
    samples: int | None
    comparison: Comparison
    p_value: float

    @property
    def verdict(self) -> str:
        """That of the Wilcoxon signed-rank test at 5 %: better, worse, no evidence, too few networks,
        no studies. The mean must point where the ranks do: an outlier may turn it around."""
        if self.comparison.networks == 0:
            return NOTHING
        if self.comparison.networks < FEWEST_NETWORKS:
            return TOO_FEW
        direction = self.comparison.direction
        if not self.p_value < ALPHA or direction * self.comparison.mean <= 0:
            return NO_EVIDENCE
        return BETTER if direction > 0 else WORSE

    @property
    def how(self) -> str:
        """The rule in words."""
        if self.rule == FIXED and self.samples is None:
            return "one step each"
        return RULES[self.rule].format(samples=self.samples)


def constant(values: Array) -> Series:
    """Return (networks, batches) losses, such as those before the step, as a series."""
    return Series((None,), values[:, :, None])


def findings(first: Series, second: Series, fixed: int | None = None) -> list[Finding]:
    """Test the claim that ``first`` has a lower loss than ``second``, by every rule that applies.

    Args: fixed: the sample count that was fixed beforehand; by default the smallest of ``first``.
        Two series with sample counts are compared at the same one.
    """
    if first.samples == (None,) and second.samples == (None,):
        return [_finding(FIXED, None, second.at(None) - first.at(None))]
    counts = [n for n in (first if first.samples != (None,) else second).samples if n is not None]
    fixed = min(counts) if fixed is None else fixed
    results = [_finding(FIXED, fixed, second.at(fixed) - first.at(fixed))]
    if len(counts) < 2:
        return results
    each = [compare(second.at(n) - first.at(n)) for n in counts]
    corrected = holm([comparison.wilcoxon_p for comparison in each])
    results += [Finding(EACH, n, c, p) for n, c, p in zip(counts, each, corrected, strict=True)]
    if first.losses.shape[1] > 1:
        results.append(_finding(CHOSEN, None, cross_validated(second) - cross_validated(first)))
    if first.samples == second.samples:  # nan where one is missing: the lowest of fewer is another thing
        gains = second.losses.min(axis=2) - first.losses.min(axis=2)
        results.append(_finding(LOWEST, None, gains))
    return results


def _finding(rule: str, samples: int | None, gains: Array) -> Finding:
    comparison = compare(gains)
    return Finding(rule, samples, comparison, comparison.wilcoxon_p)


def cross_validated(series: Series) -> Array:
    """Return (networks, batches) losses, each at the sample count with the lowest mean loss on the
    *other* batches of the same network; of several the smallest. nan where the choice needs a
    missing study."""
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
