"""The gradients behind a setting's directions against the true ones, by estimator, N and layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

from srste.analysis.grouping import grouped
from srste.report.conditions import Column
from srste.report.panels import Setting
from srste.store.records import Record
from srste.study.results import LayerGradient

NUMBERS = tuple(field.name for field in fields(LayerGradient) if field.name != "layer")
"""What is measured of a layer's gradient, see :class:`srste.study.results.LayerGradient`."""

GAUGE = "heldout_gauge"
"""Of all parameters together only: the step-size gauge of the best step on held-out examples."""


@dataclass(frozen=True)
class GradientRow:
    """An estimator's gradient of a layer at one number of samples.

    samples: None where none are drawn. layer: "" for all parameters together. truth: what it is compared
    with, in words. numbers: by the names of :data:`NUMBERS` and :data:`GAUGE`, the mean over networks of
    each one's mean over batches; nan where no study has one.
    """

    series: str
    samples: int | None
    control: bool
    layer: str
    truth: str
    numbers: dict[str, float]

    def text(self, name: str) -> str:
        """A number in words, "" if there is none."""
        value = self.numbers[name]
        return "" if math.isnan(value) else f"{value:.3g}"


def gradient_rows(setting: Setting) -> list[GradientRow]:
    """Return a setting's rows, of the records that have a diagnosis: by estimator, N and layer."""
    rows = []
    with_diagnosis = [(column, r) for column, r in setting.records if r.diagnosis is not None]
    by_column = grouped(with_diagnosis, key=lambda pair: pair[0])
    for column in sorted(by_column, key=setting.columns.index):
        rows += _rows(column, [record for _, record in by_column[column]])
    return rows


def _rows(column: Column, records: Sequence[Record]) -> list[GradientRow]:
    by_layer: dict[str, list[tuple[int, dict[str, float | None]]]] = {}
    truths: dict[str, None] = {}
    for record in records:
        diagnosis = record.diagnosis
        assert diagnosis is not None
        truths[diagnosis.truth] = None
        for layer in diagnosis.layers:
            numbers = {name: getattr(layer, name) for name in NUMBERS}
            numbers[GAUGE] = None if layer.layer else diagnosis.heldout_gauge
            by_layer.setdefault(layer.layer, []).append((record.identity["seed"], numbers))
    return [
        GradientRow(
            column.series, column.samples, column.control, layer, ", ".join(truths),
            {name: _mean_of_networks(studies, name) for name in (*NUMBERS, GAUGE)},
        )
        for layer, studies in by_layer.items()
    ]  # fmt: skip


def _mean_of_networks(studies: Sequence[tuple[int, dict[str, float | None]]], name: str) -> float:
    by_network: dict[int, list[float]] = {}
    for seed, numbers in studies:
        if (value := numbers[name]) is not None:
            by_network.setdefault(seed, []).append(value)
    means = [math.fsum(values) / len(values) for values in by_network.values()]
    return math.fsum(means) / len(means) if means else math.nan


def at_most_samples(rows: Sequence[GradientRow]) -> list[GradientRow]:
    """Return the rows of each estimator's largest number of samples."""
    largest = {row.series: row.samples for row in rows}  # ascending
    return [row for row in rows if row.samples == largest[row.series]]


def layers_of(rows: Sequence[GradientRow]) -> list[str]:
    """Return the names of the layers, in the order of the network."""
    return list(dict.fromkeys(row.layer for row in rows if row.layer))
