"""How to read the tables: what their marks mean, and what they do not show."""

from __future__ import annotations

from collections.abc import Sequence

from srste.report.certificate_text import (
    Placed,
    evaluated,
    in_range,
    nearness,
    no_descent,
    none_tried,
    placed,
    where_it_falls,
)
from srste.report.conditions import Condition
from srste.store.records import Record

NO_DESCENT, NONE_TRIED, LARGEST = "!", "*", "^"
PLACES_SHOWN = 3


def mark(record: Record) -> str:
    """What is to be known of a study's best loss; "" if nothing is."""
    if record.best is None:
        return ""
    if no_descent(record):
        return NO_DESCENT
    if none_tried(record):
        return NONE_TRIED
    return LARGEST if record.best.lr == record.best.largest_lr else ""


def caveat(arranged: list[Condition], marked: bool = True) -> str:
    """How to read the tables, and what they do not show, a line each.

    marked: whether the tables have the marks; if not, the lines say in how many studies.
    """
    rivals = any(len(condition.columns) > 1 for condition in arranged)
    found = placed(arranged)
    lines = [
        "Loss on the batch the step was computed from" + (", the lowest in bold." if rivals else "."),
        "zero output: the loss of a student that gives zero for everything.",
        *_of_marks(found, marked),
        *filter(None, (nearness(found), evaluated(found))),
    ]
    if any(_many_against_one(condition) for condition in arranged):
        lines.append(
            "Not yet evidence: where several sample counts face one step of another estimator, the "
            "lowest of many often wins by chance alone, and need not be lower on fresh data."
        )
    return "\n".join(lines)


def _of_marks(found: list[Placed], marked: bool) -> list[str]:
    by_mark = {m: [p for p in found if mark(p.record) == m] for m in (NO_DESCENT, NONE_TRIED, LARGEST)}
    lines = []

    def say(of: str, those: Sequence[Placed], words: str) -> None:
        if those:
            lines.append(f"{of if marked else f'In {len(those)} of {len(found)} studies'} {words}")

    nowhere = by_mark[NO_DESCENT]
    known = [p for p in by_mark[NONE_TRIED] if p.record.certificate is not None]
    unknown = [p for p in by_mark[NONE_TRIED] if p.record.certificate is None]
    ranges = [
        f"{where_it_falls(p.record.certificate)} ({p.place})" for p in known if p.record.certificate
    ]
    say(
        NO_DESCENT, nowhere,
        f"no learning rate {in_range(p.record for p in nowhere)} lowers the loss: certified.",
    )  # fmt: skip
    say(
        NONE_TRIED, known,
        f"no learning rate that was tried lowers the loss, but others do: {_first(ranges)}.",
    )  # fmt: skip
    places = f" ({_first([p.place for p in unknown])})" if known else ""
    say(NONE_TRIED, unknown, f"no learning rate that was tried lowers the loss{places}.")
    say(
        LARGEST, by_mark[LARGEST],
        "the largest learning rate that was tried is the best: it may go on.",
    )  # fmt: skip
    return lines


def _first(words: list[str]) -> str:
    more = f"; and {len(words) - PLACES_SHOWN} more" if len(words) > PLACES_SHOWN else ""
    return "; ".join(words[:PLACES_SHOWN]) + more


def _many_against_one(condition: Condition) -> bool:
    by_series: dict[str, int] = {}
    for column in condition.columns:
        by_series[column.series] = by_series.get(column.series, 0) + 1
    return len(by_series) > 1 and len(set(by_series.values())) > 1
