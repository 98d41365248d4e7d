"""Records arranged for looking at: conditions, batches, and a column per estimator and sample count."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from srste.store.quantities import flat
from srste.store.records import Record

DISPLAY = {
    "ste": "STE",
    "sr_ste": "sr-STE",
    "tilted_ste": "tilted STE",
    "same_angle": "same angle",
    "negative_ste": "negative STE",
}


class Column(NamedTuple):
    """estimator: its name. variant: the settings that tell it from others of that name, "" if there
    are none. samples: None where it draws nothing. control: whether it is there to be compared with."""

    estimator: str
    variant: str
    samples: int | None
    control: bool = False

    @property
    def series(self) -> str:
        """The estimator without its samples, as people write it: for example "sr-STE"."""
        name = DISPLAY.get(self.estimator, self.estimator)
        return f"{name} {self.variant}" if self.variant else name

    @property
    def title(self) -> str:
        """For example "STE" or "sr-STE N=3"."""
        return self.series + ("" if self.samples is None else f" N={self.samples}")


def ordered(columns: Iterable[Column]) -> list[Column]:
    """Each column once: those that draw nothing first, controls last in each part, then by estimator,
    variant and samples."""
    return sorted(set(columns), key=lambda c: (c.samples is not None, c.control, c[:2], c.samples or 0))


@dataclass(frozen=True)
class Condition:
    """Comparable studies: one problem, one sampling; they differ in estimator, samples and batch.

    label: what sets it apart from the other conditions, "" if there is only one.
    columns: deterministic estimators first, then by name and samples.
    cells: the record at (batch, column); missing ones are absent.
    """

    label: str
    columns: list[Column]
    batches: list[int]
    cells: dict[tuple[int, Column], Record]

    @property
    def common(self) -> dict[str, Any]:
        """The identity that all its studies share."""
        return next(iter(self.cells.values())).common

    @property
    def seed(self) -> int:
        """Of its network."""
        return int(self.common["seed"])

    def pre_loss(self, batch: int) -> float:
        """The loss before the update, the same for all estimators."""
        return self._on(batch).pre_loss

    def zero_loss(self, batch: int) -> float:
        """The loss of a student whose output is zero."""
        return self._on(batch).zero_loss

    def _on(self, batch: int) -> Record:
        return next(r for (b, _), r in self.cells.items() if b == batch)

    def post_loss(self, batch: int, column: Column) -> float | None:
        """The loss after the best update; None where there is none."""
        record = self.cells.get((batch, column))
        return record.best.post_loss if record and record.best else None

    def mean_pre_loss(self) -> float:
        """Over the batches."""
        return statistics.fmean(self.pre_loss(batch) for batch in self.batches)

    def mean_zero_loss(self) -> float:
        """Over the batches."""
        return statistics.fmean(self.zero_loss(batch) for batch in self.batches)

    def mean_post_loss(self, column: Column) -> float | None:
        """Over the batches; None unless every batch has one."""
        losses = [self.post_loss(batch, column) for batch in self.batches]
        found = [loss for loss in losses if loss is not None]
        return statistics.fmean(found) if found and len(found) == len(losses) else None

    def winners(self, batch: int) -> list[Column]:
        """The columns with the lowest loss; several only in an exact tie."""
        losses = {c: x for c in self.columns if (x := self.post_loss(batch, c)) is not None}
        return [c for c, loss in losses.items() if loss == min(losses.values())]


def conditions(records: Iterable[Record]) -> list[Condition]:
    """The conditions among these records, in the order of what sets them apart."""
    by_name: dict[str, list[Record]] = defaultdict(list)
    by_condition: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        by_name[record.estimator].append(record)
        by_condition[record.condition].append(record)

    variant: dict[str, str] = {}
    for group in by_name.values():
        labels = labels_of([record.identity["estimator"] for record in group], _short)
        variant |= {r.key: label for r, (_, label) in zip(group, labels, strict=True)}

    firsts = [group[0] for group in by_condition.values()]
    labels = labels_of([record.common for record in firsts])
    found = [
        (order, _condition(label, by_condition[first.condition], variant))
        for (order, label), first in zip(labels, firsts, strict=True)
    ]
    return [condition for _, condition in sorted(found, key=lambda pair: pair[0])]


def _condition(label: str, records: list[Record], variant: dict[str, str]) -> Condition:
    # Of several records of one study, as two launches or versions of the code leave them, the newest.
    cells = {
        (r.batch, Column(r.estimator, variant[r.key], r.samples, r.is_control)): r
        for r in sorted(records, key=lambda r: r.created)
    }
    return Condition(
        label=label,
        columns=ordered(column for _, column in cells),
        batches=sorted({batch for batch, _ in cells}),
        cells=cells,
    )


def _whole(key: str, value: Any) -> str:
    return f"{key}={value}"


def _short(key: str, value: Any) -> str:
    """A choice by itself, a number with the last word of its key: columns have little room."""
    return value if isinstance(value, str) else f"{key.rpartition('.')[2]}={value}"


def labels_of(
    nodes: list[dict[str, Any]], one_setting: Callable[[str, Any], str] = _whole
) -> list[tuple[list[Any], str]]:
    """For each configuration a sort key and a label of the settings in which they differ."""
    flats = [flat(node) for node in nodes]
    names = sorted({name for one in flats for name in one})
    varying = [n for n in names if len({str(one.get(n)) for one in flats}) > 1]
    # A group's choice says in one word what its arguments say in many.
    groups = tuple(n for n in varying if any(m.startswith(f"{n}.") for m in varying))
    shown = [n for n in varying if not n.startswith(tuple(f"{g}." for g in groups))]
    brief = [" ".join(one_setting(n, one[n]) for n in shown if n in one) for one in flats]
    # Unless two configurations share the word: then the arguments in which those differ are said too.
    alike: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for one, label in zip(flats, brief, strict=True):
        alike[label].append(one)
    found = []
    for one, label in zip(flats, brief, strict=True):
        rest = [n for n in varying if n not in shown]
        more = [n for n in rest if len({str(other.get(n)) for other in alike[label]}) > 1 and n in one]
        whole = " ".join(filter(None, [label, *(one_setting(n, one[n]) for n in more)]))
        found.append(([_sortable(one.get(n)) for n in [*shown, *rest]], whole))
    return found


def _sortable(value: Any) -> tuple[int, float, str]:
    """Numbers by size, then words, "none" before the others."""
    if isinstance(value, int | float):
        return (0, float(value), "")
    return (1, 0.0, "" if value in (None, "none") else str(value))
