"""The claims that a report puts to the test, and what comes of them: verdicts first."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from srste.analysis.statistics.paired import (
    BETTER,
    NO_EVIDENCE,
    NOTHING,
    TOO_FEW,
    WORSE,
)
from srste.analysis.statistics.panel import Panel, Series
from srste.analysis.statistics.proportions import Proportion, of_networks
from srste.analysis.statistics.verdicts import EACH, FIXED, Finding, constant, findings
from srste.note2021.statistics import STATISTICS, Losses
from srste.report.formatting import p_value, percent, signed
from srste.report.panels import BATCH, Measure, Setting, drawn, measures, panel

BEFORE, ZERO = "the loss before", "a zero output"
SYMBOLS = {BETTER: "▲", WORSE: "▼", NO_EVIDENCE: "○", TOO_FEW: "-", NOTHING: "-"}


@dataclass(frozen=True)
class Claim:
    """ "``first`` has a lower loss than ``second``" in a setting, by a measure, and what was found."""

    setting: str
    measure: Measure
    first: str
    second: str
    finding: Finding

    @property
    def title(self) -> str:
        """For example "sr-STE better than STE?"."""
        if self.second == BEFORE:
            return f"{self.first} lowers the loss?"
        return f"{self.first} better than {self.second}?"

    @property
    def words(self) -> str:
        """What the verdict rests on: "+0.054 [+0.048, +0.060], 20/20 networks, p < 0.001"."""
        of = self.finding.comparison
        verdict = self.finding.verdict
        if verdict == NOTHING:
            return ""
        found = f"{signed(of.mean)}"
        if not math.isnan(of.low):
            found += f" [{signed(of.low)}, {signed(of.high)}]"
        found += f", {of.networks_won.k}/{of.networks_won.n} networks"
        if verdict == TOO_FEW:
            return found
        p = p_value(self.finding.p_value)
        found += f", p {p if p.startswith('<') else '= ' + p}"
        if verdict == NO_EVIDENCE:
            if of.needed is None:
                found += "; a million networks would not tell"
            elif of.needed > of.networks:
                found += f"; {of.needed:,} networks would tell"
        return found


@dataclass(frozen=True)
class Count:
    """One of the note's statistics for an estimator in a setting: on how many batches."""

    setting: str
    series: str
    statistic: str
    found: Proportion


def claims(setting: Setting, fixed: int | None = None) -> list[Claim]:
    """Every claim about a setting's estimators that its studies can speak of.

    fixed: the sample count that was fixed beforehand; by default the smallest.
    """
    found = []
    for measure in measures(setting):
        of = panel(setting, measure)
        for first, second in _pairs(setting, of):
            found += [
                Claim(setting.title, measure, first, second, finding)
                for finding in findings(_series(of, first), _series(of, second), fixed)
                if finding.comparison.networks
            ]
    return found


def _pairs(setting: Setting, of: Panel) -> Iterator[tuple[str, str]]:
    """Estimators against their baseline, against the controls that are set beside the same one, against
    a zero output and against doing nothing; and the controls against their baseline."""
    baselines, controls = setting.baselines, setting.controls
    subjects = [name for name in of.series if name not in controls]
    for name in subjects:
        if name in baselines:
            yield name, baselines[name]
            for control in controls:
                if baselines.get(control) == baselines[name]:
                    yield name, control
    for name in sorted(subjects, key=lambda name: name not in baselines):
        yield name, ZERO
        yield name, BEFORE
    for control in controls:
        if control in baselines:
            yield control, baselines[control]


def _series(of: Panel, name: str) -> Series:
    if name == ZERO:
        return constant(of.zero)
    return constant(of.before) if name == BEFORE else of.series[name]


def main(every: list[Claim]) -> list[Claim]:
    """Those that a reader wants first: without the ones for each sample count."""
    return [claim for claim in every if claim.finding.rule != EACH]


def in_short(every: list[Claim]) -> list[Claim]:
    """Those at the sample count that was fixed beforehand."""
    return [claim for claim in every if claim.finding.rule == FIXED]


def undecidable(every: list[Claim]) -> bool:
    """Whether there are too few networks for any verdict."""
    return all(claim.finding.verdict in (TOO_FEW, NOTHING) for claim in every)


def grid(every: list[Claim]) -> dict[str, dict[str, dict[str, Claim]]]:
    """By claim, then by how it was asked, then by the short name of the measure; in their order."""
    found: dict[str, dict[str, dict[str, Claim]]] = {}
    for claim in every:
        by_rule = found.setdefault(claim.title, {})
        by_rule.setdefault(claim.finding.how, {})[claim.measure.short] = claim
    return found


def counts(setting: Setting) -> list[Count]:
    """The note's statistics on the batch, for every estimator with sample counts that is set beside
    another one, controls included."""
    of = panel(setting, BATCH)
    return [
        Count(setting.title, name, key, found)
        for name in drawn(of)
        if name in setting.baselines
        for key, found in of_the_note(of, name, setting.baselines[name]).items()
    ]


def of_the_note(of: Panel, name: str, baseline: str) -> dict[str, Proportion]:
    """The note's statistics, ``baseline`` in the place of STE and ``name`` in that of sr-STE."""
    losses = Losses(of.before, of.series[baseline].at(None), of.series[name].losses)
    return {key: of_networks(function(losses)) for key, (_, function) in STATISTICS.items()}


def rows(every: list[Claim]) -> tuple[list[str], list[list[str]]]:
    """(the columns, a row for each claim) in full, for CSV and Markdown."""
    columns = [
        "setting", "first", "second", "measure", "rule", "verdict", "mean gain", "95 % low", "95 % high",
        "networks won", "batches won", "effect size", "p (Wilcoxon)", "p (corrected)", "p (sign)",
        "networks needed",
    ]  # fmt: skip
    table = []
    for claim in every:
        of = claim.finding.comparison
        table.append([
            claim.setting, claim.first, claim.second, claim.measure.short, claim.finding.how,
            claim.finding.verdict, signed(of.mean), signed(of.low), signed(of.high),
            str(of.networks_won),
            f"{percent(of.batches_won.rate)} [{percent(of.batches_won.low)}, "
            f"{percent(of.batches_won.high)}]",
            signed(of.effect_size), p_value(of.wilcoxon_p), p_value(claim.finding.p_value),
            p_value(of.sign_p), f"{of.needed:,}" if of.needed else "-",
        ])  # fmt: skip
    return columns, table


def count_rows(every: list[Count]) -> tuple[list[str], list[list[str]]]:
    """The same for the note's statistics."""
    columns = ["setting", "estimator", "on how many batches", "k/n [95 %]"]
    return columns, [[c.setting, c.series, STATISTICS[c.statistic][0], str(c.found)] for c in every]
