"""Records arranged in tables: by condition and batch, a column per estimator and sample count."""

import json
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

from srste.analysis.grouping import grouped
from srste.store.quantities import flat
from srste.store.records import Record

T = TypeVar("T")

_DISPLAYED = {
    "ste": "STE",
    "sr_ste": "sr-STE",
    "tilted_ste": "tilted STE",
    "same_angle": "same angle",
    "negative_ste": "negative STE",
    "hard_sigmoid_st": "hard-sigmoid ST",
    "logistic_st": "logistic ST",
    "rounding_st": "rounding ST",
    "rounding_reinmax": "rounding ReinMax",
    "reinmax": "ReinMax",
    "gumbel_st": "Gumbel-ST",
    "gumbel_rao": "Gumbel-Rao",
    "mean_field": "mean field",
    "reinforce": "REINFORCE",
    "leave_one_out": "leave-one-out",
    "arm": "ARM",
    "disarm": "DisARM",
    "psa": "PSA",
    "by_decrease": "weighted by decrease",
    "fitted_weights": "fitted weights",
    "cdg": "CDG",
    "nes": "NES",
    "spsa": "SPSA",
    "guided_es": "guided ES",
    "fogzo": "FOGZO",
    "ede": "EDE",
    "reste": "ReSTE",
    "ewgs": "EWGS",
    "relu1": "ReLU1",
    "approx_sign": "ApproxSign",
    "swish_sign": "SwishSign",
}
"""Names as the literature writes them."""


class Column(NamedTuple):
    """estimator: its name. variant: the settings that tell it from others of that name, or "".
    samples: None where it draws nothing. control: whether it is a control."""

    estimator: str
    variant: str
    samples: int | None
    control: bool = False

    @property
    def series(self) -> str:
        """The estimator without its sample count, for example "sr-STE"."""
        name = _DISPLAYED.get(self.estimator, self.estimator)
        return f"{name} {self.variant}" if self.variant else name

    @property
    def title(self) -> str:
        """For example "STE" or "sr-STE N=3"."""
        return self.series + ("" if self.samples is None else f" N={self.samples}")


def ordered(columns: Iterable[Column]) -> list[Column]:
    """Return each column once: those that draw nothing first, controls last in each part, then by
    estimator, variant and samples."""
    return sorted(set(columns), key=lambda c: (c.samples is not None, c.control, c[:2], c.samples or 0))


@dataclass(frozen=True)
class Condition:
    """Comparable studies: of one problem and sampling; they differ in estimator, samples and batch.

    label: the settings in which it differs from the other conditions, "" if there is only one.
    cells: the record at (batch, column), if there is one.
    """

    label: str
    cells: dict[tuple[int, Column], Record]

    @cached_property
    def columns(self) -> list[Column]:
        """Its columns, see :func:`ordered`."""
        return ordered(column for _, column in self.cells)

    @cached_property
    def batches(self) -> list[int]:
        """The numbers of its batches, ascending."""
        return sorted({batch for batch, _ in self.cells})

    @property
    def common(self) -> dict[str, Any]:
        """The identity that all its studies share."""
        return next(iter(self.cells.values())).common

    @property
    def seed(self) -> int:
        """The seed of its network."""
        return int(self.common["seed"])

    def pre_loss(self, batch: int) -> float:
        """Return the loss before the step, the same for all estimators."""
        return self._on(batch).pre_loss

    def zero_loss(self, batch: int) -> float:
        """Return the loss of a model whose output is zero."""
        return self._on(batch).zero_loss

    def _on(self, batch: int) -> Record:
        return next(r for (b, _), r in self.cells.items() if b == batch)

    def post_loss(self, batch: int, column: Column) -> float | None:
        """Return the loss after the best step; None where there is none."""
        record = self.cells.get((batch, column))
        return record.best.post_loss if record and record.best else None

    def post_losses(self, batch: int) -> dict[Column, float]:
        """Return the loss after the best step by column, where there is one."""
        return {c: loss for c in self.columns if (loss := self.post_loss(batch, c)) is not None}

    def mean(self, loss: Callable[[int], float | None]) -> float | None:
        """Return the mean over the batches of a loss by batch; None unless every batch has one."""
        losses = [loss(batch) for batch in self.batches]
        present = [x for x in losses if x is not None]
        return statistics.fmean(present) if len(present) == len(losses) else None

    def winners(self, batch: int) -> list[Column]:
        """Return the columns with the lowest loss; several only in an exact tie."""
        losses = self.post_losses(batch)
        return [c for c, loss in losses.items() if loss == min(losses.values())]


def conditions(records: Iterable[Record]) -> list[Condition]:
    """Return the conditions among these records, in the order of their differing settings."""
    # Of several records of one study, from two launches or versions of the code, the newest.
    records = sorted(records, key=lambda record: record.created)
    columns: dict[str, Column] = {}
    for group in grouped(records, key=lambda record: record.estimator).values():
        labels = labels_of([record.identity["estimator"] for record in group], _short)
        for r, (_, variant) in zip(group, labels, strict=True):
            columns[r.key] = Column(r.estimator, variant, r.samples, r.is_control)
    return [
        Condition(label, {(r.batch, columns[r.key]): r for r in group})
        for label, group in labelled_groups(records, lambda record: record.common)
    ]


def labelled_groups(
    items: Iterable[T], settings: Callable[[T], dict[str, Any]]
) -> list[tuple[str, list[T]]]:
    """Return the items in groups of equal settings, each with a label of those in which it differs
    from the other groups, sorted by them."""
    groups = list(grouped(items, key=lambda x: json.dumps(settings(x), sort_keys=True)).values())
    labels = labels_of([settings(group[0]) for group in groups])
    by_order = sorted(zip(labels, groups, strict=True), key=lambda pair: pair[0][0])
    return [(label, group) for (_, label), group in by_order]


def _short(key: str, value: Any) -> str:
    """Return a choice by itself, a number with the last part of its key: columns are narrow."""
    return value if isinstance(value, str) else f"{key.rpartition('.')[2]}={value}"


def labels_of(
    nodes: list[dict[str, Any]], one_setting: Callable[[str, Any], str] = "{}={}".format
) -> list[tuple[list[Any], str]]:
    """Return for each configuration a sort key and a label of the settings in which they differ."""
    flats = [flat(node) for node in nodes]
    names = sorted({name for one in flats for name in one})
    varying = [n for n in names if len({str(one.get(n)) for one in flats}) > 1]
    # The choice of a group stands for its arguments.
    groups = tuple(n for n in varying if any(m.startswith(f"{n}.") for m in varying))
    shown = [n for n in varying if not n.startswith(tuple(f"{g}." for g in groups))]
    brief = [" ".join(one_setting(n, one[n]) for n in shown if n in one) for one in flats]
    # Configurations with the same choices are told apart by the arguments in which they differ.
    labelled = list(zip(flats, brief, strict=True))
    alike = grouped(labelled, key=lambda pair: pair[1])
    labels = []
    rest = [n for n in varying if n not in shown]
    for one, label in labelled:
        more = [
            n for n in rest if len({str(other.get(n)) for other, _ in alike[label]}) > 1 and n in one
        ]
        full = " ".join(filter(None, [label, *(one_setting(n, one[n]) for n in more)]))
        labels.append(([_sortable(one.get(n)) for n in [*shown, *rest]], full))
    return labels


def _sortable(value: Any) -> tuple[int, float, str]:
    """Return a sort key: numbers by size, then words, "none" first."""
    if isinstance(value, int | float):
        return (0, float(value), "")
    return (1, 0.0, "" if value in (None, "none") else str(value))
