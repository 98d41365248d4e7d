"""Records as the statistics take them: arrays over networks, batches and sample counts."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from srste.analysis.statistics.panel import Array, Panel, Series
from srste.report.conditions import Column, Condition, labels_of, ordered
from srste.store.records import Record

Value = Callable[[Record], float | None]


@dataclass(frozen=True)
class Measure:
    """Which loss is looked at. words: what it is; short: the same for a column's heading."""

    words: str
    short: str
    before: Value
    after: Value
    zero: Value


BATCH = Measure(
    words="on the batch that the step was computed from",
    short="batch",
    before=lambda r: r.pre_loss,
    after=lambda r: r.best.post_loss if r.best else None,
    zero=lambda r: r.zero_loss,
)
HELDOUT = Measure(
    words="on held-out data, at the learning rate that is best on the batch",
    short="held-out",
    before=lambda r: r.heldout.pre_loss if r.heldout else None,
    after=lambda r: r.heldout.post_loss if r.heldout else None,
    zero=lambda r: r.heldout.zero_loss if r.heldout else None,
)
HELDOUT_BEST = Measure(
    words="on held-out data, at the learning rate that is best there",
    short="held-out, its own best lr",
    # Where no curve is exact there is no best one to be had.
    before=lambda r: r.heldout.pre_loss if r.heldout and r.heldout.best_loss is not None else None,
    after=lambda r: r.heldout.best_loss if r.heldout else None,
    zero=HELDOUT.zero,
)
MEASURES = (BATCH, HELDOUT, HELDOUT_BEST)


@dataclass(frozen=True)
class Setting:
    """Conditions that differ in nothing but the seed: networks that are drawn alike.

    label: what sets it apart from the other settings, "" if there is only one. networks: the
    conditions by seed.
    """

    label: str
    networks: dict[int, Condition]

    @cached_property
    def columns(self) -> list[Column]:
        """Of all networks, in the order of the tables."""
        return ordered(column for condition in self.networks.values() for column in condition.columns)

    @cached_property
    def records(self) -> list[tuple[Column, Record]]:
        """Every record, with its column."""
        return [(c, r) for n in self.networks.values() for (_, c), r in n.cells.items()]

    @cached_property
    def baselines(self) -> dict[str, str]:
        """For each series that is set beside another one, that other one, if it is here."""
        series = {record.key: column.series for column, record in self.records}
        named: dict[str, set[str]] = defaultdict(set)
        for column, record in self.records:
            named[record.estimator].add(column.series)
        found: dict[str, str] = {}
        for column, record in self.records:
            if record.baseline is None or column.series in found:
                continue
            # By its name where the very record is not here: an older one, say, of the same study.
            others = {series.get(record.baseline.key, "")} - {""} or named[record.baseline.estimator]
            if len(others) == 1:
                found[column.series] = others.pop()
        return found

    def of_baseline(self, record: Record) -> Record | None:
        """The baseline's record on the same network and batch."""
        return self._by_place.get((record.identity["seed"], record.batch, self._series[record.key]))

    @cached_property
    def _series(self) -> dict[str, str | None]:
        return {record.key: self.baselines.get(column.series) for column, record in self.records}

    @cached_property
    def _by_place(self) -> dict[tuple[int, int, str | None], Record]:
        return {
            (record.identity["seed"], record.batch, column.series): record
            for column, record in self.records
            if column.samples is None
        }

    @property
    def controls(self) -> tuple[str, ...]:
        """The series that are there to be compared with, in the order of the tables."""
        return tuple(dict.fromkeys(column.series for column in self.columns if column.control))

    @property
    def title(self) -> str:
        """Its label, or what a setting by itself is called."""
        return self.label or "all networks"


def settings(arranged: list[Condition]) -> list[Setting]:
    """The settings among these conditions, in the order of what sets them apart."""
    groups: dict[str, list[Condition]] = defaultdict(list)
    for condition in arranged:
        groups[json.dumps(_of_all_networks(condition), sort_keys=True)].append(condition)
    firsts = [_of_all_networks(group[0]) for group in groups.values()]
    found = [
        (order, Setting(label, {condition.seed: condition for condition in group}))
        for (order, label), group in zip(labels_of(firsts), groups.values(), strict=True)
    ]
    return [setting for _, setting in sorted(found, key=lambda pair: pair[0])]


def _of_all_networks(condition: Condition) -> dict[str, Any]:
    return {key: value for key, value in condition.common.items() if key != "seed"}


def panel(setting: Setting, measure: Measure = BATCH) -> Panel:
    """The losses of a setting by one measure."""
    networks = sorted(setting.networks)
    batches = sorted({b for condition in setting.networks.values() for b in condition.batches})
    shape = (len(networks), len(batches))
    before, zero = np.full(shape, np.nan), np.full(shape, np.nan)
    members: dict[str, list[Column]] = defaultdict(list)
    for column in setting.columns:
        members[column.series].append(column)
    losses = {name: np.full((*shape, len(columns)), np.nan) for name, columns in members.items()}
    place = {c: (name, i) for name, columns in members.items() for i, c in enumerate(columns)}
    for row, seed in enumerate(networks):
        for (batch, column), record in setting.networks[seed].cells.items():
            at = row, batches.index(batch)
            _put(before, at, measure.before(record))
            _put(zero, at, measure.zero(record))
            name, i = place[column]
            _put(losses[name], (*at, i), measure.after(record))
    series = {
        name: Series(tuple(column.samples for column in columns), losses[name])
        for name, columns in members.items()
    }
    return Panel(tuple(networks), tuple(batches), before, zero, series)


def measures(setting: Setting) -> list[Measure]:
    """Those that there is anything of."""
    records = [record for _, record in setting.records]
    return [m for m in MEASURES if any(m.before(record) is not None for record in records)]


def _put(array: Array, at: tuple[int, ...], value: float | None) -> None:
    if value is not None:
        array[at] = value


def drawn(of: Panel) -> list[str]:
    """The series with sample counts."""
    return [name for name, series in of.series.items() if series.samples != (None,)]
