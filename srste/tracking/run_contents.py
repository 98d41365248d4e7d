"""The runs in MLflow: of a study, of a job's studies, of a pretraining, of an estimator over all N."""

import datetime
import re
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from mlflow.entities import Metric

from srste.sampling import Trials
from srste.store import records
from srste.store.files import as_yaml, csv_text
from srste.store.quantities import CERTIFIED, flat, of_gradient, quantity
from srste.store.records import Record, StoredRecord
from srste.store.trial_tables import as_table
from srste.tracking.curve_picture import curve_picture

TABLE = "trials.parquet"
"""The artifact with all trials of a study."""


@dataclass(frozen=True)
class Run:
    """One run. start: UTC, ISO 8601; None: now. files: artifacts, under their names,
    folders too. contents: of artifacts, by file name."""

    name: str
    tags: dict[str, str]
    params: dict[str, Any]
    start: str | None = None
    seconds: float = 0.0
    metrics: list[Metric] = field(default_factory=list)
    files: Sequence[Path] = ()
    contents: dict[str, str | bytes] = field(default_factory=dict)
    failed: bool = False


@dataclass(frozen=True)
class Entry:
    """A run that the store is to have. key: the store has one run of each. size: the number of
    studies; of two runs of a key the larger is kept. make: makes the run, called only if needed."""

    key: str
    size: int
    make: Callable[[], Run]


def entries(
    stored: Iterable[StoredRecord], pretrainings: Iterable[dict[str, Any]], granularity: str
) -> list[Entry]:
    """Return the runs of these records and pretrainings.

    Args: pretrainings: see :func:`srste.store.pretraining_file.read_pretraining`. granularity:
        "study": a run each; "job": one for all batches of an estimator at a sample count.
    """
    runs = [Entry(p["key"], 1, partial(pretraining_run, p)) for p in pretrainings]
    if granularity == "study":
        return runs + [Entry(record.key, 1, partial(study_run, path, record)) for path, record in stored]
    groups: dict[str, list[StoredRecord]] = {}
    for path, record in stored:
        groups.setdefault(record.group, []).append((path, record))
    return runs + [Entry(key, len(group), partial(job_run, group)) for key, group in groups.items()]


def study_run(folder: Path, record: Record) -> Run:
    """Return the run of one study: what a person compares, and its trials; its record, with all that
    is known of it, as an artifact."""
    tags = {"kind": "study", "batch": str(record.batch)} | _tags(record)
    if record.reason:
        tags["failure"] = f"{record.failed} of {record.trials} trials: {record.reason}"
    if record.alarms:
        tags["alarm"] = ", ".join(record.alarms)
    if record.best and not record.best.explained:
        tags["warning"] = "the replayed loss differs from the curve's by more than rounding"
    time = milliseconds(record.created)
    scalars = [Metric(name, value, time, 0) for name, value in _compared(record).items()]
    n = record.samples or 1
    scalars += [Metric(name, value, time, n) for name, value in _gradient(record).items()]
    config = record.config | {"batch": record.batch}
    trials = records.read_trials(folder)
    contents: dict[str, str | bytes] = {"config.yaml": as_yaml(config), TABLE: as_table(trials)}
    if picture := curve_picture(record, trials):
        contents["loss_curve.svg"] = picture
    return Run(
        name=record.name,
        tags=tags,
        params=flat(config),
        start=record.created,
        seconds=record.seconds,
        metrics=scalars + _curve(trials, time),
        files=[folder / records.RECORD],
        contents=contents,
        failed=record.best is None,
    )


def job_run(group: list[StoredRecord]) -> Run:
    """Return the run of all batches of one estimator at one sample count: the means of what a person
    compares, and its values with the batch as the step; a table of the studies and the folders of
    their records, with all trials, as artifacts."""
    group = sorted(group, key=lambda stored: stored[1].batch)
    of_batch = [record for _, record in group]
    first = of_batch[0]
    time = milliseconds(first.created)
    metrics = []
    values: dict[str, dict[int, float]] = {}
    for record in of_batch:
        for name, value in (_compared(record) | _gradient(record)).items():
            values.setdefault(name, {})[record.batch] = value
    for name, by_batch in values.items():
        metrics.append(Metric(name, statistics.fmean(by_batch.values()), time, 0))
        metrics += [Metric(f"batch/{name}", value, time, batch) for batch, value in by_batch.items()]
    return Run(
        name=first.name.removesuffix(f" batch {first.batch}"),
        tags={"kind": "job", "batches": str(len(group))} | _tags(first),
        params=flat(first.config),
        start=first.created,
        seconds=sum(record.seconds for record in of_batch),
        metrics=metrics,
        contents={
            "config.yaml": as_yaml(first.config),
            "studies.csv": _studies_csv(of_batch),
        },
        files=[folder for folder, _ in group],
        failed=all(record.best is None for record in of_batch),
    )


def summary_run(name: str, tags: dict[str, str], points: Mapping[str, Mapping[int, float]]) -> Run:
    """Return the run of an estimator over all batches and networks, for MLflow's chart against N.

    Args: points: by metric, its value at each N, which is the metrics' step and the metric "N".
    """
    time = milliseconds(None)
    counts = {N: {n: float(n) for by_n in points.values() for n in by_n}}
    metrics = [
        Metric(metric, value, time, n)
        for metric, by_n in (counts | dict(points)).items()
        for n, value in by_n.items()
    ]
    return Run(name, {"kind": "summary"} | tags, {}, metrics=metrics)


def pretraining_run(stored: dict[str, Any]) -> Run:
    """Return the run of a pretraining, with its loss curve."""
    identity, losses = stored["identity"], stored["losses"]
    name, seed = str(identity["pretraining"]["name"]), str(identity["seed"])
    tags = {"kind": "pretraining", "pretraining": name, "seed": seed}
    if stored["still_falling"]:
        tags["warning"] = "the loss was still falling at the end"
    time = milliseconds(stored["created"])
    return Run(
        name=f"pretraining {name} seed {seed}",
        tags=tags,
        params=flat(identity),
        start=stored["created"],
        metrics=[Metric("pretraining/loss", loss, time, step) for step, loss in enumerate(losses)],
        contents={"config.yaml": as_yaml(stored["config"])},
    )


def metric_name(words: str) -> str:
    """Return words as the name of a metric, with "_" for characters that MLflow refuses, and for those
    that would make it a path."""
    return re.sub(r"^\.|[^\w\-. :]", "_", words)


def gradient_metric(layer: str, name: str) -> str:
    """Return the name of the metric of a layer's gradient, "" for all parameters."""
    of_layer = f"{metric_name(f'layer {layer}')}/" if layer else ""
    return f"gradient/{of_layer}{name.replace('_', ' ')}"


def milliseconds(created: str | None) -> int:
    """Return the milliseconds since 1970 of an ISO 8601 time, or of now."""
    when = datetime.datetime.fromisoformat(created) if created else datetime.datetime.now()
    return round(1e3 * when.timestamp())


def _tags(record: Record) -> dict[str, str]:
    """Return the tags to filter and group by, and why a curve is not exact."""
    tags = {
        "estimator": record.estimator,
        "samples": "-" if record.samples is None else str(record.samples),
        "seed": str(record.identity["seed"]),
    }
    for part in ("model", "loss", "pretraining", "sampling"):
        tags[part] = str(record.identity[part]["name"])
    if record.not_exact:
        tags |= {"curve": "evaluated", "not_exact": record.not_exact}
    elif record.certificate:
        tags["curve"] = "exact"
    return tags


N = "N"
LOSS, RATE = "loss after the best step", "best learning rate"
TRIAL_LOSS, TRIAL_RATE = "trials/loss after the step", "trials/learning rate"
_BEFORE = "trials/loss before the step"

_COMPARED = {
    "pre_loss": "loss before the step",
    "post_loss": LOSS,
    "lr": RATE,
    "gain": "gain over the baseline",
    "angle": "angle to the baseline in degrees",
    "heldout_pre_loss": "held-out loss before the step",
    "heldout_post_loss": "held-out loss after the step",
    "drawn_pre_loss": "loss with drawn units before the step",
    "drawn_post_loss": "loss with drawn units after the step",
    "exact_loss": "lowest loss at any learning rate",
    "exact_lr": "learning rate of the lowest loss",
}
"""The names of a study's metrics, by quantity; all other quantities are in its record."""


def _compared(record: Record) -> dict[str, float]:
    """Return the metrics of a study that have one value."""
    values = {name: quantity(key, record) for key, name in _COMPARED.items()}
    return {name: value for name, value in values.items() if value is not None}


def _gradient(record: Record) -> dict[str, float]:
    """Return the metrics of its gradient, if it was diagnosed."""
    return {gradient_metric(*place): value for place, value in of_gradient(record).items()}


_COLUMNS = (
    "pre_loss", "post_loss", "decrease", "lr", "gain", "heldout_pre_loss", "heldout_post_loss",
    "heldout_best_lr", "heldout_best_loss", "zero_loss", "angle", "descent_exists", *CERTIFIED,
    "replayed_post_loss", "trials", "failed", "seconds",
)  # fmt: skip


def _studies_csv(group: list[Record]) -> str:
    rows = [[r.batch, *(quantity(name, r) for name in _COLUMNS), r.key] for r in group]
    return csv_text([["batch", *_COLUMNS, "key"], *rows])


def _curve(trials: Trials, time: int) -> list[Metric]:
    """Return the metrics of the trials that a chart shows. The loss before the step is the same for all,
    and a line of two points."""
    points = trials.points()
    columns = {TRIAL_LOSS: trials.post_loss, TRIAL_RATE: trials.lr}
    metrics = [Metric(name, float(v[i]), time, int(i)) for name, v in columns.items() for i in points]
    return metrics + [
        Metric(_BEFORE, trials.pre_loss, time, int(i)) for i in {*points[:1], *points[-1:]}
    ]
