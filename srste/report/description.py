"""A launch's answer in Markdown, for the page of its run in MLflow."""

import re
from collections.abc import Sequence

from srste.report.chapters import Chapter
from srste.report.claims import SYMBOLS
from srste.report.formatting import with_interval
from srste.report.summary import Row, Summary

LONGEST = 7_500
"""Characters; MLflow takes 8,000."""


def description(chapters: Sequence[Chapter], report: str, charts: str) -> str:
    """Return links, then the answers and a table per setting as long as they fit.

    Args: report, charts: the links to the launch's report, "" without one, and to its charts.
    """
    links = [f"[Report: statistics, figures, curves]({report})"] if report else []
    links.append(f"[Charts]({charts})")
    parts = [" · ".join(links)]
    for block in (*map(_answer, chapters), *map(_table, chapters)):
        if sum(map(len, parts)) + len(block) > LONGEST:
            parts.append("More is in `results.csv` and in the report, see Artifacts.")
            break
        parts.append(block)
    return "\n\n".join(parts)


def escaped(text: str) -> str:
    """Return text in which nothing is Markdown."""
    return re.sub(r"[\\`*_\[\]<>#|~]", r"\\\g<0>", text)


def _answer(chapter: Chapter) -> str:
    return f"**{escaped(chapter.headline)}** {escaped(' '.join(chapter.answer.details))}"


def _table(chapter: Chapter) -> str:
    """Return a row per estimator and number of samples."""
    label = escaped(chapter.setting.label)
    lines = [
        *([f"**{label}**", ""] if label else []),
        "| estimator | N | loss after the best step | gain over the baseline [95 %] | held-out gain |",
        "|---|---:|---:|---|---|",
    ]
    for one in chapter.summaries:
        for row in one.rows:
            cells = [escaped(one.series), row.samples or "", f"{row.loss:.5g}", *_gains(one, row)]
            lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def _gains(one: Summary, row: Row) -> list[str]:
    if not one.baseline:
        return ["", ""]
    cells = []
    for finding in (row.gain, row.heldout):
        if finding is None:
            cells.append("")
            continue
        gains = finding.comparison
        words = with_interval(gains.mean, gains.low, gains.high)
        cells.append(f"{SYMBOLS[finding.verdict]} {words}")
    return cells
