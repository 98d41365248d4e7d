"""Records as arrays over networks, batches and sample counts, for the statistics."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from srste.analysis.grouping import grouped
from srste.analysis.statistics.panel import Panel, Series
from srste.report.conditions import Column, Condition, labelled_groups, ordered
from srste.store.quantities import quantity
from srste.store.records import Record

Value = Callable[[Record], float | None]


@dataclass(frozen=True)
class Measure:
    """A loss to compare by. words: what it is; short: the same for a column's heading. before,
    after, zero: the loss before the step, after it, and of a zero output. panel: the title of its
    panel in a figure, "" if none is drawn."""

    words: str
    short: str
    before: Value
    after: Value
    zero: Value
    panel: str = ""


BATCH = Measure(
    words="on the batch that the step was computed from",
    short="batch",
    before=partial(quantity, "pre_loss"),
    after=partial(quantity, "post_loss"),
    zero=partial(quantity, "zero_loss"),
    panel="on the batch",
)
HELDOUT = Measure(
    words="on held-out data, at the learning rate that is best on the batch",
    short="held-out",
    before=partial(quantity, "heldout_pre_loss"),
    after=partial(quantity, "heldout_post_loss"),
    zero=partial(quantity, "heldout_zero_loss"),
    panel="held out",
)


def _before_where_exact(record: Record) -> float | None:
    heldout = record.heldout
    return heldout.pre_loss if heldout and heldout.best_loss is not None else None


HELDOUT_BEST = Measure(
    words="on held-out data, at the learning rate that is best there",
    short="held-out, its own best lr",
    # Only an exact curve has a best loss.
    before=_before_where_exact,
    after=partial(quantity, "heldout_best_loss"),
    zero=HELDOUT.zero,
)
DRAWN = Measure(
    words="with its units drawn, at the learning rate that is best for that",
    short="units drawn",
    before=partial(quantity, "drawn_pre_loss"),
    after=partial(quantity, "drawn_post_loss"),
    zero=BATCH.zero,
    panel="units drawn",
)
MEASURES = (BATCH, HELDOUT, HELDOUT_BEST, DRAWN)


@dataclass(frozen=True)
class Setting:
    """Conditions that differ in the seed alone: networks that are drawn alike.

    label: the settings in which it differs from the others, "" if there is only one. networks: the
    conditions by seed.
    """

    label: str
    networks: dict[int, Condition]

    @cached_property
    def columns(self) -> list[Column]:
        """The columns of all networks, in the order of the tables."""
        return ordered(column for condition in self.networks.values() for column in condition.columns)

    @cached_property
    def records(self) -> list[tuple[Column, Record]]:
        """Every record, with its column."""
        return [(c, r) for n in self.networks.values() for (_, c), r in n.cells.items()]

    @cached_property
    def baselines(self) -> dict[str, str]:
        """The baseline's series by series, if the setting has it."""
        series = {record.key: column.series for column, record in self.records}
        baselines: dict[str, str] = {}
        for column, record in self.records:
            if record.baseline is None or column.series in baselines:
                continue
            # By its name if that record is not among these, but for example a newer one of the study.
            named = {c.series for c in self.columns if c.estimator == record.baseline.estimator}
            others = {series[record.baseline.key]} if record.baseline.key in series else named
            if len(others) == 1:
                baselines[column.series] = others.pop()
        return baselines

    @cached_property
    def baseline_records(self) -> dict[str, Record]:
        """The baseline's record on the same network and batch, by the key of each record."""
        deterministic = {
            (r.identity["seed"], r.batch, c.series): r for c, r in self.records if c.samples is None
        }
        places = {
            r.key: (r.identity["seed"], r.batch, self.baselines.get(c.series)) for c, r in self.records
        }
        return {key: deterministic[place] for key, place in places.items() if place in deterministic}

    @property
    def controls(self) -> tuple[str, ...]:
        """The series of controls, in the order of the tables."""
        return tuple(dict.fromkeys(column.series for column in self.columns if column.control))

    @property
    def title(self) -> str:
        """The label, or "all networks" of a single setting."""
        return self.label or "all networks"


def settings(arranged: list[Condition]) -> list[Setting]:
    """Return the settings among these conditions, in the order of their differing settings."""
    return [
        Setting(label, {condition.seed: condition for condition in group})
        for label, group in labelled_groups(arranged, lambda c: c.common | {"seed": None})
    ]


def panel(setting: Setting, measure: Measure = BATCH) -> Panel:
    """Return the losses of a setting by one measure."""
    networks = sorted(setting.networks)
    batches = sorted({b for condition in setting.networks.values() for b in condition.batches})
    shape = (len(networks), len(batches))
    before, zero = np.full((2, *shape), np.nan)
    after = {column: np.full(shape, np.nan) for column in setting.columns}
    for row, seed in enumerate(networks):
        for (batch, column), record in setting.networks[seed].cells.items():
            for losses, value in (
                (before, measure.before), (zero, measure.zero), (after[column], measure.after),
            ):  # fmt: skip
                if (loss := value(record)) is not None:
                    losses[row, batches.index(batch)] = loss
    members = grouped(setting.columns, key=lambda column: column.series)
    series = {
        name: Series(tuple(c.samples for c in columns), np.stack([after[c] for c in columns], axis=-1))
        for name, columns in members.items()
    }
    return Panel(before, zero, series)


def measures(setting: Setting) -> list[Measure]:
    """Return the measures that the setting's studies have."""
    records = [record for _, record in setting.records]
    return [m for m in MEASURES if any(m.before(record) is not None for record in records)]


def drawn(losses: Panel) -> list[str]:
    """Return the series with sample counts."""
    return [name for name, series in losses.series.items() if series.samples != (None,)]
