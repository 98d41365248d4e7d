"""The answer of a launch in sentences: which estimator takes the better step, and at which N."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from srste.analysis.statistics.paired import FEWEST_NETWORKS
from srste.analysis.statistics.verdicts import (
    BETTER,
    CHOSEN,
    FIXED,
    NO_EVIDENCE,
    NOTHING,
    TOO_FEW,
    WORSE,
    Finding,
)
from srste.report.claims import BEFORE, ZERO, Claim
from srste.report.formatting import p_value, percent, ranges, signed, with_interval
from srste.report.panels import BATCH, HELDOUT, Measure, Setting
from srste.report.summary import Row, Summary

MOST_NAMED = 5
"""Of more estimators than these the others are counted, and are in the tables."""


class Answer(NamedTuple):
    """headline: one sentence on the estimator with the largest gain over its baseline. details:
    sentences with its numbers, on the other estimators and on the controls."""

    headline: str
    details: list[str]


def answer(setting: Setting, results: Sequence[Summary], claims: Sequence[Claim]) -> Answer:
    """Return the answer for a setting. results: its summaries; claims: its claims."""
    compared = sorted((one for one in results if one.best), key=lambda one: -_best(one).mean)
    subjects = [one for one in compared if not one.control] or compared
    controls = [one for one in compared if one not in subjects]
    named = subjects[:MOST_NAMED]
    headlines = [_headline(one) for one in named] or [_alone(claims)]
    details = [*(_details(subjects[0]) if subjects else []), *headlines[1:]]
    if others := subjects[MOST_NAMED:]:
        named = subjects[:1]  # in what follows
        details.append(_others(others))
    details += [_control(one, named, claims) for one in controls]
    details += filter(None, (_zero_output(one, claims) for one in named))
    if claims and (networks := len(setting.networks)) < FEWEST_NETWORKS:
        count = "one network" if networks == 1 else f"{networks} networks"
        enough = f"{FEWEST_NETWORKS}: sweep seed=0,1,...,9 for ten"
        details.append(f"This describes {count}; a test needs at least {enough}.")
    return Answer(headlines[0], details)


def _others(others: Sequence[Summary]) -> str:
    """Return how many of these do better or worse than their baselines."""
    verdicts = [_verdict_of(one) for one in others]
    if TOO_FEW in verdicts:
        better = sum(_best(one).mean > 0 for one in others)
        words = f"{better} have a lower loss than their baseline, {len(others) - better} do not"
    else:
        counts = {v: verdicts.count(v) for v in (BETTER, WORSE, NO_EVIDENCE) if v in verdicts}
        words = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    return f"The other {len(others)} estimators, all in the table: {words}."


def _verdict_of(one: Summary) -> str:
    """Return the verdict on an estimator against its baseline over all N: at the N chosen on other
    batches; with one batch at any N after Holm's correction; with one N there."""
    if one.chosen is not None:
        return one.chosen.verdict
    verdicts = [row.gain.verdict for row in one.rows if row.gain]
    return next((v for v in (BETTER, WORSE, NO_EVIDENCE, TOO_FEW) if v in verdicts), NOTHING)


def _headline(one: Summary) -> str:
    best = _best(one)
    assert best.gain is not None
    verdict = _verdict_of(one)
    if verdict == TOO_FEW:
        won = percent(best.gain.comparison.batches_won.rate)
        return (
            f"The loss after {one.series}'s best step is {_lower(best.mean)} than after {one.baseline}'s"
            f"{_at(best)}, on average, and lower on {won} of the batches."
        )
    # With one batch the verdict is that of single N, and not always of the best.
    decisive = [row for row in one.rows if row.gain and row.gain.verdict == verdict]
    shown = best if one.chosen else max(decisive, key=lambda row: abs(row.mean), default=best)
    finding = one.chosen or shown.gain
    assert finding is not None
    words = {
        BETTER: f"{one.series} takes a better step than {one.baseline}",
        WORSE: f"{one.series} takes a worse step than {one.baseline}",
    }.get(verdict, f"No evidence that {one.series} takes a better or a worse step than {one.baseline}")
    comparison = finding.comparison
    words += f": the loss after it is {_lower(comparison.mean)}"
    over = f"on average over {comparison.networks} networks"
    if one.chosen is None:
        return f"{words}{_at(shown)}, {over} ({_p(finding)})."
    words += f" {over} (N chosen on other batches, {_p(finding)}); "
    words += f"{'most' if best.mean > 0 else 'least'}{_at(best)}"
    if (enough := one.enough) is not None:
        words += f", hardly more after N = {enough.samples}"
    return f"{words}."


def _details(one: Summary) -> list[str]:
    best = _best(one)
    assert best.gain is not None
    sentences = []
    for where, chosen, at_best in (
        (f"Gain over {one.baseline}", one.chosen, best.gain),
        ("On held-out data, by the same step", one.chosen_heldout, best.heldout),
    ):
        if at_best is not None:
            corrected = (
                f", corrected for {len(one.rows)} N" if chosen and chosen.verdict != TOO_FEW else ""
            )
            numbers = [f"{_numbers(at_best)}{_at(best)}{corrected}"]
            if chosen is not None and chosen.verdict != TOO_FEW:
                numbers.insert(0, f"{_numbers(chosen)} with N chosen on other batches")
            sentences.append(f"{where}: {'; '.join(numbers)}.")
    if (enough := one.enough) is not None:
        part = percent(enough.mean / best.mean)
        sentences.append(f"N = {enough.samples} gives {part} of the largest mean gain.")
    if len(one.rows) > 1 and best.gain.verdict != TOO_FEW:
        significant = [f"{v}{_where(one, v)}" for v in (BETTER, WORSE) if _where(one, v)]
        words = " and ".join(significant) or "no evidence at any"
        sentences.append(f"Each N by itself, with Holm's correction for {len(one.rows)}: {words}.")
    return sentences


def _numbers(finding: Finding) -> str:
    """Return for example "+0.041 [+0.02, +0.06], p = 0.016"."""
    gains = finding.comparison
    words = with_interval(gains.mean, gains.low, gains.high)
    return words if gains.networks < FEWEST_NETWORKS else f"{words}, {_p(finding)}"


def _p(finding: Finding) -> str:
    p = p_value(finding.p_value)
    return f"p {p if p.startswith('<') else f'= {p}'}"


def _control(one: Summary, subjects: Sequence[Summary], claims: Sequence[Claim]) -> str:
    """Return how a control fares against its baseline, and the estimators against the control."""
    best = _best(one)
    verdict = _verdict_of(one)
    gain = one.chosen.comparison.mean if one.chosen else best.mean
    words = "" if verdict == TOO_FEW else f"{verdict}, "
    sentences = [f"against {one.baseline} {words}{signed(gain)}{'' if one.chosen else _at(best)}"]
    for subject in subjects:
        if (finding := _finding(claims, subject.series, one.series, BATCH)) is not None:
            sentences.append(f"{subject.series} against it {_with_verdict(finding)}")
    return f"Control {one.series}: {'; '.join(sentences)}."


def _zero_output(one: Summary, claims: Sequence[Claim]) -> str:
    """Return how an estimator's step fares against a network that outputs zero; "" where it is better
    on the batch and held out."""
    shown = [
        (where, finding)
        for where, measure in (("", BATCH), ("held out ", HELDOUT))
        if (finding := _finding(claims, one.series, ZERO, measure)) is not None
    ]
    if all(finding.comparison.mean > 0 and finding.verdict in (BETTER, TOO_FEW) for _, finding in shown):
        return ""
    words = "; ".join(f"{where}{_with_verdict(finding)}" for where, finding in shown)
    return f"{one.series} against a network that outputs zero: {words}."


def _finding(claims: Sequence[Claim], first: str, second: str, measure: Measure) -> Finding | None:
    """Return the test of a claim at the N chosen on other batches, or else at the fixed one."""
    of_rule = {
        claim.finding.rule: claim.finding
        for claim in claims
        if (claim.first, claim.second, claim.measure) == (first, second, measure)
    }
    return of_rule.get(CHOSEN, of_rule.get(FIXED))


def _with_verdict(finding: Finding) -> str:
    """Return for example "better, +0.041 [+0.02, +0.06], p = 0.016"."""
    verdict = "" if finding.verdict in (TOO_FEW, NOTHING) else f"{finding.verdict}, "
    at = f" at N = {finding.samples}" if finding.samples is not None else ""
    return f"{verdict}{_numbers(finding)}{at}"


def _alone(claims: Sequence[Claim]) -> str:
    """Return what there is to say where no estimator has a baseline: whether it lowers the loss."""
    lowering = [c for c in claims if c.second == BEFORE and c.measure.short == BATCH.short]
    if not lowering:
        return "No study has a best step: all of their trials failed."
    best = max(lowering, key=lambda claim: claim.finding.comparison.mean)
    gain = best.finding.comparison.mean
    lowers = f"lowers the loss by {gain:.3g}" if gain > 0 else "does not lower the loss"
    return f"{best.first}'s best step {lowers} on average."


def _best(one: Summary) -> Row:
    assert one.best is not None
    return one.best


def _lower(gain: float) -> str:
    return f"{'lower' if gain >= 0 else 'higher'} by {abs(gain):.3g}"


def _at(row: Row) -> str:
    return "" if row.samples is None else f" at N = {row.samples}"


def _where(one: Summary, verdict: str) -> str:
    """Return the sample counts with that verdict, in words; "" for none."""
    counts = [r.samples for r in one.rows if r.samples and r.gain and r.gain.verdict == verdict]
    if len(counts) == len(one.rows):
        return " at every N"
    return f" at N = {ranges(counts)}" if counts else ""
