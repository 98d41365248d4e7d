"""The legend of the tables: what their marks mean, and what they do not show."""

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
from srste.report.formatting import first
from srste.store.records import Record

NO_DESCENT, NONE_TRIED, LARGEST = "!", "*", "^"
PLACES_SHOWN = 3


def mark(record: Record) -> str:
    """Return the mark at a study's best loss, or ""."""
    if record.best is None:
        return ""
    if no_descent(record):
        return NO_DESCENT
    if none_tried(record):
        return NONE_TRIED
    return LARGEST if record.best.lr == record.best.largest_lr else ""


def caveat(arranged: list[Condition], marked: bool = True) -> str:
    """Return the legend of the tables, in lines.

    marked: whether the tables have the marks; if not, the lines say in how many studies.
    """
    records = placed(arranged)
    lines = [
        "Losses are those on the batch that the step was computed from, unless held out.",
        *_mark_lines(records, marked),
        *filter(None, (nearness(records), evaluated(records))),
    ]
    return "\n".join(lines)


def _mark_lines(records: list[Placed], marked: bool) -> list[str]:
    by_mark = {m: [p for p in records if mark(p.record) == m] for m in (NO_DESCENT, NONE_TRIED, LARGEST)}
    ranges = [
        f"{where_it_falls(c)} ({p.place})" for p in by_mark[NONE_TRIED] if (c := p.record.certificate)
    ]
    others = [p.place for p in by_mark[NONE_TRIED] if not p.record.certificate]
    places = f" ({first(others, PLACES_SHOWN)})" if ranges else ""
    searched = in_range(p.record for p in by_mark[NO_DESCENT])
    tried = "no learning rate that was tried lowers the loss"
    at_largest = by_mark[LARGEST]
    where = "" if marked else f" ({first([p.place for p in at_largest], PLACES_SHOWN)})"
    largest = (
        f"the best learning rate is the largest tried{where}: a larger sampling.lr_max may do better."
    )
    explained: list[tuple[str, Sequence[object], str]] = [
        (NO_DESCENT, by_mark[NO_DESCENT], f"no learning rate {searched} lowers the loss: certified."),
        (NONE_TRIED, ranges, f"{tried}, but others do: {first(ranges, PLACES_SHOWN)}."),
        (NONE_TRIED, others, f"{tried}{places}."),
        (LARGEST, at_largest, largest),
    ]
    return [
        f"{m if marked else f'In {len(those)} of {len(records)} studies'} {words}"
        for m, those, words in explained
        if those
    ]
