"""The league: many estimators of a setting, ranked at equal numbers of samples and at equal cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from srste.analysis.statistics.paired import FEWEST_NETWORKS, Comparison, compare, holm
from srste.analysis.statistics.panel import Array, Panel
from srste.analysis.statistics.verdicts import EACH, Finding
from srste.report.claims import SYMBOLS
from srste.report.formatting import percent, signed, with_interval
from srste.report.panels import BATCH, HELDOUT, Setting, panel

FEWEST = 6
"""With fewer estimators than these the other tables say it all."""

BUDGET = 20
"""Forward and backward passes of a direction, of the league at equal cost: ten of each."""


@dataclass(frozen=True)
class Entrant:
    """An estimator at one number of samples.

    samples: None where none are drawn. passes: of a direction, forward and backward together; None
    where unknown. gain, heldout: of the baseline's loss less its own, tested over networks with Holm's
    correction for all entrants; None for the baseline. losses: (networks, batches), after the best step.
    """

    series: str
    samples: int | None
    passes: int | None
    control: bool
    gain: Finding | None
    heldout: Finding | None
    losses: Array

    @property
    def name(self) -> str:
        """For example "sr-STE, N=10"."""
        return self.series if self.samples is None else f"{self.series}, N={self.samples}"

    @property
    def improvement(self) -> str:
        """On which part of the batches its loss is lower than the baseline's, "" for the baseline."""
        if self.gain is None:
            return ""
        won = self.gain.comparison.batches_won
        return f"{percent(won.rate)} [{percent(won.low)}, {percent(won.high)}]"

    @property
    def mean(self) -> float:
        """The mean gain, 0 for the baseline."""
        return self.gain.comparison.mean if self.gain else 0.0


@dataclass(frozen=True)
class League:
    """A ranking of a setting's estimators.

    title: what is equal. setting: its label. entrants: by falling gain. before: (networks, batches)
    losses before the step. baseline: the series that gains are over. left_out: what costs more.
    """

    title: str
    setting: str
    entrants: tuple[Entrant, ...]
    before: Array
    baseline: str
    left_out: tuple[str, ...]

    @cached_property
    def complete(self) -> tuple[Array, list[Entrant]]:
        """The mean loss of each network, (networks, entrants), of those that have every study; these."""
        entrants = [one for one in self.entrants if np.isfinite(one.losses).all()]
        return np.stack([one.losses.mean(axis=1) for one in entrants], axis=1), entrants

    @property
    def decides(self) -> bool:
        """Whether there are networks enough for a test."""
        return len(self.before) >= FEWEST_NETWORKS


def leagues(setting: Setting) -> list[League]:
    """Return the leagues of a setting: at the largest number of samples, and at equal cost. None where
    there are few estimators, or several baselines."""
    baselines = set(setting.baselines.values())
    if len(baselines) != 1 or len({c.series for c in setting.columns}) < FEWEST:
        return []
    (baseline,) = baselines
    losses, heldout = panel(setting, BATCH), panel(setting, HELDOUT)
    passes = {(c.series, c.samples): r.passes for c, r in setting.records}
    most = {name: series.samples[-1] for name, series in losses.series.items()}
    counts = sorted({n for n in most.values() if n is not None})
    titles = f"at N = {counts[-1]}" if counts else "one step each"
    results = [_league(titles, setting, baseline, losses, heldout, passes, most, ())]
    if all(passes.get((name, n)) is not None for name, n in most.items()):
        affordable: dict[str, int | None] = {}
        for name, series in losses.series.items():
            within = [n for n in series.samples if (passes[name, n] or 0) <= BUDGET]
            if within:
                affordable[name] = within[-1]
        left_out = tuple(name for name in most if name not in affordable)
        if baseline in affordable and affordable != most:
            title = f"at most {BUDGET} forward and backward passes each"
            results.append(
                _league(title, setting, baseline, losses, heldout, passes, affordable, left_out)
            )
    return results


def _league(
    title: str,
    setting: Setting,
    baseline: str,
    losses: Panel,
    heldout: Panel,
    passes: dict[tuple[str, int | None], int | None],
    at: dict[str, int | None],
    left_out: tuple[str, ...],
) -> League:
    """Return the league of these estimators at these numbers of samples."""
    names = [name for name in at if name != baseline]

    def tested(of: Panel) -> dict[str, Finding]:
        reference = of.series[baseline].at(at[baseline])
        compared: list[Comparison] = [compare(reference - of.series[n].at(at[n])) for n in names]
        corrected = holm([one.wilcoxon_p for one in compared])
        return {
            name: Finding(EACH, at[name], one, p)
            for name, one, p in zip(names, compared, corrected, strict=True)
        }

    gains = tested(losses)
    held_out = tested(heldout) if np.isfinite(heldout.before).any() else {}
    entrants = [
        Entrant(
            name, n, passes.get((name, n)), name in setting.controls, gains.get(name),
            held_out.get(name), losses.series[name].at(n),
        )
        for name, n in at.items()
    ]  # fmt: skip
    ranked = tuple(sorted(entrants, key=lambda one: -one.mean))
    return League(title, setting.label, ranked, losses.before, baseline, left_out)


def rows(every: Sequence[League]) -> tuple[list[str], list[list[str]]]:
    """Return the columns, and a row per entrant, for CSV and Markdown."""
    columns = [
        "setting", "league", "place", "estimator", "N", "passes", "control", "verdict",
        "mean gain [95 %]", "networks won", "probability of improvement", "held-out verdict",
        "held-out gain [95 %]",
    ]  # fmt: skip
    table = []
    for league in every:
        for place, one in enumerate(league.entrants, 1):
            cells = [
                league.setting, league.title, str(place), one.series,
                "" if one.samples is None else str(one.samples),
                "" if one.passes is None else str(one.passes), "control" if one.control else "",
            ]  # fmt: skip
            if one.gain is None:
                cells += ["baseline", signed(0.0), "", "", "", ""]
            else:
                gains = one.gain.comparison
                cells += [
                    f"{SYMBOLS[one.gain.verdict]} {one.gain.verdict}",
                    with_interval(gains.mean, gains.low, gains.high), str(gains.networks_won),
                    one.improvement, *_heldout(one.heldout),
                ]  # fmt: skip
            table.append(cells)
    return columns, table


def _heldout(finding: Finding | None) -> list[str]:
    if finding is None:
        return ["", ""]
    gains = finding.comparison
    return [
        f"{SYMBOLS[finding.verdict]} {finding.verdict}",
        with_interval(gains.mean, gains.low, gains.high),
    ]


def profile(league: League, fractions: Array) -> dict[str, Array]:
    """Return each entrant's performance profile: on which part of all batches its decrease of the loss
    is at least these fractions of the largest decrease of any entrant there.

    References: Dolan and More (2002), "Benchmarking optimization software with performance profiles",
        with the decrease in the place of the time.
    """
    decreases = np.stack([league.before - one.losses for one in league.entrants])
    best = np.nanmax(decreases, axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        relative = decreases / np.where(best > 0, best, np.nan)
    return {
        one.name: np.array([np.nanmean(share >= fraction) for fraction in fractions])
        for one, share in zip(league.entrants, relative, strict=True)
    }
