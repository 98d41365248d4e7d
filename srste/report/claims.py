"""The claims that a report tests, and their verdicts."""

from collections.abc import Iterator
from dataclasses import dataclass

from srste.analysis.statistics.panel import Panel
from srste.analysis.statistics.proportions import Proportion, of_networks
from srste.analysis.statistics.verdicts import (
    BETTER,
    EACH,
    NO_EVIDENCE,
    NOTHING,
    TOO_FEW,
    WORSE,
    Finding,
    constant,
    findings,
)
from srste.note2021.statistics import STATISTICS, Losses
from srste.report.formatting import p_value, percent, signed, with_interval
from srste.report.panels import BATCH, Measure, Setting, drawn, measures, panel

BEFORE, ZERO = "no step", "a zero output"
SYMBOLS = {BETTER: "▲", WORSE: "▼", NO_EVIDENCE: "○", TOO_FEW: "-", NOTHING: "-"}


@dataclass(frozen=True)
class Claim:
    """The claim that ``first`` has a lower loss than ``second``, by a measure, and its test."""

    setting: str
    measure: Measure
    first: str
    second: str
    finding: Finding

    @property
    def title(self) -> str:
        """For example "sr-STE against STE"."""
        return f"{self.first} against {self.second}"

    @property
    def words(self) -> str:
        """What the verdict rests on: "+0.054 [+0.048, +0.060], 20/20 networks, p < 0.001"."""
        gains = self.finding.comparison
        verdict = self.finding.verdict
        if verdict == NOTHING:
            return ""
        words = with_interval(gains.mean, gains.low, gains.high)
        words += f", {gains.networks_won.k}/{gains.networks_won.n} networks"
        if verdict == TOO_FEW:
            return words
        p = p_value(self.finding.p_value)
        words += f", p {p if p.startswith('<') else '= ' + p}"
        if verdict == NO_EVIDENCE:
            if gains.needed is None:
                words += "; no effect that a million networks would show"
            elif gains.needed > gains.networks:
                words += f"; would take {gains.needed:,} networks to show"
        return words


@dataclass(frozen=True)
class Count:
    """On how many batches one of the note's statistics counts an estimator."""

    setting: str
    series: str
    statistic: str
    proportion: Proportion


def claims(setting: Setting, fixed: int | None = None) -> list[Claim]:
    """Return every claim about a setting's estimators for which there are studies.

    fixed: the sample count that was fixed beforehand; by default the smallest.
    """
    tested = []
    for measure in measures(setting):
        losses = panel(setting, measure)
        series = losses.series | {ZERO: constant(losses.zero), BEFORE: constant(losses.before)}
        tested += [
            Claim(setting.title, measure, first, second, finding)
            for first, second in _pairs(setting, losses)
            for finding in findings(series[first], series[second], fixed)
            if finding.comparison.networks
        ]
    return tested


def _pairs(setting: Setting, losses: Panel) -> Iterator[tuple[str, str]]:
    """Yield estimators with their baseline, with the controls that have the same baseline, with a
    zero output and with the loss before; then controls with their baseline."""
    baselines, controls = setting.baselines, setting.controls
    subjects = [name for name in losses.series if name not in controls]
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


def main(every: list[Claim]) -> list[Claim]:
    """Return the claims without those for each sample count."""
    return [claim for claim in every if claim.finding.rule != EACH]


def undecidable(every: list[Claim]) -> bool:
    """Return whether there are too few networks for any verdict."""
    return all(claim.finding.verdict in (TOO_FEW, NOTHING) for claim in every)


def grid(every: list[Claim]) -> dict[str, dict[str, dict[str, Claim]]]:
    """Return the claims by title, then by rule in words, then by the short name of the measure."""
    by_title: dict[str, dict[str, dict[str, Claim]]] = {}
    for claim in every:
        by_rule = by_title.setdefault(claim.title, {})
        by_rule.setdefault(claim.finding.how, {})[claim.measure.short] = claim
    return by_title


def counts(setting: Setting) -> list[Count]:
    """Return the note's statistics on the batch, for every estimator with sample counts that has a
    baseline, controls included."""
    losses = panel(setting, BATCH)
    return [
        Count(setting.title, name, key, proportion)
        for name in drawn(losses)
        if name in setting.baselines
        for key, proportion in note_statistics(losses, name, setting.baselines[name]).items()
    ]


def note_statistics(losses: Panel, name: str, baseline: str) -> dict[str, Proportion]:
    """Return the note's statistics, with ``name`` for sr-STE and ``baseline`` for STE."""
    of_batches = Losses(losses.before, losses.series[baseline].at(None), losses.series[name].losses)
    return {key: of_networks(function(of_batches)) for key, (_, function) in STATISTICS.items()}


def rows(every: list[Claim]) -> tuple[list[str], list[list[str]]]:
    """Return the columns, and a row per claim, for CSV and Markdown."""
    columns = [
        "setting", "first", "second", "measure", "rule", "verdict", "mean gain", "95 % low", "95 % high",
        "networks won", "batches won", "effect size", "p (Wilcoxon)", "p (corrected)", "p (sign)",
        "networks needed",
    ]  # fmt: skip
    table = []
    for claim in every:
        gains = claim.finding.comparison
        table.append([
            claim.setting, claim.first, claim.second, claim.measure.short, claim.finding.how,
            claim.finding.verdict, signed(gains.mean), signed(gains.low), signed(gains.high),
            str(gains.networks_won),
            f"{percent(gains.batches_won.rate)} [{percent(gains.batches_won.low)}, "
            f"{percent(gains.batches_won.high)}]",
            signed(gains.effect_size), p_value(gains.wilcoxon_p), p_value(claim.finding.p_value),
            p_value(gains.sign_p), f"{gains.needed:,}" if gains.needed else "-",
        ])  # fmt: skip
    return columns, table


def count_rows(every: list[Count]) -> tuple[list[str], list[list[str]]]:
    """Return the columns, and a row per count, of the note's statistics."""
    columns = ["setting", "estimator", "on how many batches", "k/n [95 %]"]
    return columns, [[c.setting, c.series, STATISTICS[c.statistic][0], str(c.proportion)] for c in every]
