"""Sentences on what exact curves tell beyond the learning rates that were tried."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from srste.analysis.alarms import MISSED_PART
from srste.curve.minima import Interval
from srste.report.conditions import Condition
from srste.report.formatting import at_most, first
from srste.store.records import Record
from srste.study.certificate import Certificate

REASONS_SHOWN = 2


class Placed(NamedTuple):
    """A record and its place in the tables: "seed=3 batch 2, sr-STE N=1"."""

    place: str
    record: Record


def placed(arranged: Iterable[Condition]) -> list[Placed]:
    """Return the records of these conditions with their places."""
    return [
        Placed(f"{condition.label} batch {batch}, {column.title}".lstrip(), record)
        for condition in arranged
        for (batch, column), record in condition.cells.items()
    ]


def no_descent(record: Record) -> bool:
    """Return whether it is certain that no learning rate lowers the loss."""
    return record.certificate is not None and not record.certificate.descends


def none_tried(record: Record) -> bool:
    """Return whether no learning rate that was tried lowers the loss, and others may."""
    raised = record.best is not None and record.best.post_loss >= record.pre_loss
    return raised and not no_descent(record)


def in_range(records: Iterable[Record]) -> str:
    """Return for example "in (0, 0.5]"."""
    ends = {record.identity["sampling"].get("lr_max") for record in records}
    return f"in (0, {ends.pop() if len(ends) == 1 and None not in ends else 'lr_max'}]"


def where_it_falls(certificate: Certificate) -> str:
    """Return the widest range of learning rates that lower the loss: "from 0 to 8.9e-06"."""
    widest = certificate.largest
    assert widest is not None
    if widest.lo == widest.hi:
        return f"only at {widest.lo!r}"
    several = f", the widest of {certificate.intervals} ranges" if certificate.intervals > 1 else ""
    return f"from {_between(widest)}{several}"


def _between(span: Interval) -> str:
    """Return both ends, in as few digits as their distance needs."""
    for digits in range(2, 17):
        lo, hi = f"{span.lo:.{digits}g}", f"{span.hi:.{digits}g}"
        if abs(float(lo) - span.lo) + abs(float(hi) - span.hi) <= 0.02 * span.length:
            return f"{lo} to {hi}"
    return f"{span.lo!r} to {span.hi!r}"


def nearness(records: Sequence[Placed]) -> str:
    """Return how far searches were from the exact minimum at worst; "" if no exact curve falls."""
    regrets, shares = [], []
    for place, record in records:
        exact = record.certificate
        if exact is not None and exact.regret is not None and exact.descends:
            # The true minimum may be lower by the error, and the possible decrease larger.
            regret = exact.regret + exact.error
            regrets.append(regret)
            shares.append((regret / (record.pre_loss - exact.loss + exact.error), place))
    if not regrets:
        return ""
    every = "The best of every search"
    if any(no_descent(record) for _, record in records):
        every = "Where any learning rate lowers the loss, the best of every search"
    share, place = max(shares, key=lambda one: one[0])
    named = f" ({place})" if share > MISSED_PART else ""
    if max(regrets) == 0:
        return f"{every} is the exact minimum over all learning rates."
    part = "and at worst misses all" if share >= 1 else f"at most {at_most(100 * share)} %"
    return (
        f"{every} is within {at_most(max(regrets))} of the exact minimum over all learning rates, "
        f"{part} of the decrease that can be had{named}."
    )


def evaluated(records: Sequence[Placed]) -> str:
    """Return in which studies, and why, losses come from forward passes; "" if in none."""
    reasons = Counter(record.not_exact for _, record in records if record.not_exact)
    if not reasons:
        return ""
    count = reasons.total()
    where = "" if count == len(records) else f"In {count} of {len(records)} studies: "
    return (
        f"{where}The loss curve is evaluated by forward passes, and says nothing of learning rates that "
        f"were not tried. It has no exact form: {first(list(reasons), REASONS_SHOWN, ' reasons')}."
    )


def overview(records: Sequence[Placed]) -> list[str]:
    """Return sentences on a setting: in how many studies no learning rate, or none that was tried,
    lowers the loss; :func:`nearness`; :func:`evaluated`."""
    exact = [record for _, record in records if record.certificate is not None]
    sentences = []
    if exact:
        nowhere, unseen = sum(map(no_descent, exact)), sum(map(none_tried, exact))
        of_all = (
            f"of {len(exact):,} {'study' if len(exact) == 1 else 'studies'} with an exact loss curve"
        )
        if nowhere:
            sentences.append(
                f"In {nowhere:,} {of_all} no learning rate {in_range(exact)} lowers the loss: certified."
            )
        if unseen:
            sentences.append(
                f"In {unseen:,} {of_all} some learning rates lower the loss, but none that was tried."
            )
        if not nowhere and not unseen:
            sentences.append(f"In each {of_all} a learning rate that was tried lowers the loss.")
    return [*sentences, *filter(None, (nearness(records), evaluated(records)))]
