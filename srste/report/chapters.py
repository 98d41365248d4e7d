"""What a report says of each setting: its claims, its answer, its alarms."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from srste.analysis.alarms import Alarm
from srste.report import claims
from srste.report.answer import Answer, answer
from srste.report.certificate_text import overview, placed
from srste.report.claims import Claim, Count
from srste.report.conditions import Condition
from srste.report.gradients import GradientRow, gradient_rows
from srste.report.league import League, leagues
from srste.report.panels import Measure, Setting, measures, settings
from srste.report.study_alarms import alarms_of
from srste.report.summary import Summary, summaries


@dataclass(frozen=True)
class Chapter:
    """What there is to say of one setting."""

    setting: Setting
    claims: list[Claim]
    counts: list[Count]
    alarms: list[Alarm]
    summaries: list[Summary]
    answer: Answer

    @cached_property
    def leagues(self) -> list[League]:
        """The rankings of its estimators, of many."""
        return leagues(self.setting)

    @cached_property
    def gradients(self) -> list[GradientRow]:
        """Its gradients against the true ones; empty where no study was diagnosed."""
        return gradient_rows(self.setting)

    @property
    def measures(self) -> list[Measure]:
        """The measures that its studies have."""
        return measures(self.setting)

    @property
    def samples(self) -> list[int]:
        """All numbers of samples, ascending."""
        return sorted({c.samples for c in self.setting.columns if c.samples is not None})

    @property
    def over_all(self) -> list[str]:
        """Sentences on all learning rates, tried or not."""
        return overview(placed(self.setting.networks.values()))

    @property
    def headline(self) -> str:
        """The answer in one sentence, with the setting in front where there are several."""
        label = self.setting.label
        return f"{label}: {self.answer.headline}" if label else self.answer.headline


def chapters(arranged: Iterable[Condition], fixed: int | None = None) -> list[Chapter]:
    """Return a chapter for each setting among these conditions.

    Args: fixed: the sample count that was fixed beforehand; by default the smallest.
    """
    return [_chapter(setting, fixed) for setting in settings(list(arranged))]


def _chapter(setting: Setting, fixed: int | None) -> Chapter:
    tested = claims.claims(setting, fixed)
    results = summaries(setting, tested)
    alarms = [alarm for condition in setting.networks.values() for alarm in alarms_of(condition)]
    said = answer(setting, results, tested)
    return Chapter(setting, tested, claims.counts(setting), alarms, results, said)
