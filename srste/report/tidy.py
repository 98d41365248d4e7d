"""Tables as numbers: a column each, for other programs. Described in docs/results.md."""

import json
import math
from collections.abc import Sequence
from typing import Any

from srste.analysis.alarms import Alarm
from srste.report.chapters import Chapter
from srste.report.claims import Claim
from srste.report.panels import Setting
from srste.report.summary import Row, Summary
from srste.store.files import csv_text

Cells = dict[str, object]


def verdicts(chapters: Sequence[Chapter]) -> list[Cells]:
    """Return a row per claim: what is compared, the gain with its interval, the tests, the verdict."""
    return [_verdict(chapter.setting, claim) for chapter in chapters for claim in chapter.claims]


def gains(chapters: Sequence[Chapter]) -> list[Cells]:
    """Return a row per estimator and number of samples: the figure's values."""
    return [
        _identity(chapter.setting) | _gain(one, row)
        for chapter in chapters
        for one in chapter.summaries
        for row in one.rows
    ]


def gradients(chapters: Sequence[Chapter]) -> list[Cells]:
    """Return a row per estimator, number of samples and layer whose gradient was diagnosed."""
    return [
        _identity(chapter.setting)
        | {
            "estimator": row.series,
            "control": int(row.control),
            "samples": row.samples,
            "layer": row.layer or "all",
            "truth": row.truth,
        }
        | row.numbers
        for chapter in chapters
        for row in chapter.gradients
    ]


def note_counts(chapters: Sequence[Chapter]) -> list[Cells]:
    """Return a row per estimator and statistic of the note: on how many batches it counts."""
    return [
        _identity(chapter.setting)
        | {
            "estimator": count.series,
            "statistic": count.statistic,
            "batches_counted": count.proportion.k,
            "batches": count.proportion.n,
            "rate_low": count.proportion.low,
            "rate_high": count.proportion.high,
        }
        for chapter in chapters
        for count in chapter.counts
    ]


def alarms(chapters: Sequence[Chapter]) -> list[Cells]:
    """Return a row per alarm."""
    return [_identity(c.setting) | _alarm(alarm) for c in chapters for alarm in c.alarms]


def as_csv(rows: Sequence[Cells]) -> str:
    """Return the rows as CSV, with an empty cell for what is missing or not a number."""
    columns = list(rows[0]) if rows else []
    return csv_text([columns, *([_cell(row[column]) for column in columns] for row in rows)])


def as_json(chapters: Sequence[Chapter]) -> str:
    """Return the answers, and the rows of :func:`verdicts` and :func:`gains`, as JSON."""
    answers = [
        {"setting": c.setting.label, "headline": c.answer.headline, "details": c.answer.details}
        for c in chapters
    ]
    tables = {"verdicts": verdicts(chapters), "gains": gains(chapters)}
    rows: dict[str, Any] = {
        name: [{key: _cell(value) for key, value in row.items()} for row in table]
        for name, table in tables.items()
    }
    return json.dumps({"answers": answers} | rows, indent=1)


def _identity(setting: Setting) -> Cells:
    """Return the columns that tell settings apart, and what a reader sorts by."""
    common = next(iter(setting.networks.values())).common
    parts = ("model", "data", "loss", "pretraining", "sampling")
    names = {part: common[part]["name"] for part in parts if part in common}
    return {"setting": setting.label} | names


def _verdict(setting: Setting, claim: Claim) -> Cells:
    finding, compared = claim.finding, claim.finding.comparison
    return _identity(setting) | {
        "first": claim.first,
        "second": claim.second,
        "measure": claim.measure.short,
        "rule": finding.rule,
        "samples": finding.samples,
        "verdict": finding.verdict,
        "gain": compared.mean,
        "gain_low": compared.low,
        "gain_high": compared.high,
        "networks": compared.networks,
        "networks_won": compared.networks_won.k,
        "batches": compared.batches_won.n,
        "batches_won": compared.batches_won.k,
        "effect_size": compared.effect_size,
        "p_wilcoxon": compared.wilcoxon_p,
        "p_corrected": finding.p_value,
        "p_sign": compared.sign_p,
        "networks_needed": compared.needed,
    }


def _gain(one: Summary, row: Row) -> Cells:
    gain = row.gain.comparison if row.gain else None
    heldout = row.heldout.comparison if row.heldout else None
    return {
        "estimator": one.series,
        "baseline": one.baseline,
        "control": int(one.control),
        "samples": row.samples,
        "passes": row.passes,
        "post_loss": row.loss,
        "gain": gain and gain.mean,
        "gain_low": gain and gain.low,
        "gain_high": gain and gain.high,
        "heldout_gain": heldout and heldout.mean,
        "heldout_gain_low": heldout and heldout.low,
        "heldout_gain_high": heldout and heldout.high,
    }


def _alarm(alarm: Alarm) -> Cells:
    return {"alarm": alarm.kind, "where": alarm.where, "detail": alarm.detail}


def _cell(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value
