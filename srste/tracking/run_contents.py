"""The runs in MLflow, made from records: of a study, of a job's studies, of a pretraining."""

import datetime
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from mlflow.entities import Metric

from srste.sampling import Trials
from srste.store import records
from srste.store.files import csv_text
from srste.store.quantities import CERTIFIED, flat, quantity
from srste.store.records import Record, StoredRecord


@dataclass(frozen=True)
class Run:
    """One run. start: UTC, ISO 8601; None: now. files: artifacts, under their names,
    folders too. texts: artifacts by file name."""

    name: str
    tags: dict[str, str]
    params: dict[str, Any]
    start: str | None = None
    seconds: float = 0.0
    metrics: list[Metric] = field(default_factory=list)
    files: Sequence[Path] = ()
    texts: dict[str, str] = field(default_factory=dict)
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

    Args: pretrainings: see :func:`srste.launch.job_runner.read_pretraining`. granularity: "study": a run
        each; "job": one for all batches of an estimator at a sample count.
    """
    runs = [Entry(p["key"], 1, partial(pretraining_run, p)) for p in pretrainings]
    if granularity == "study":
        return runs + [Entry(record.key, 1, partial(study_run, path, record)) for path, record in stored]
    groups: dict[str, list[Record]] = {}
    for _, record in stored:
        groups.setdefault(record.group, []).append(record)
    return runs + [Entry(key, len(group), partial(job_run, group)) for key, group in groups.items()]


def study_run(folder: Path, record: Record) -> Run:
    """Return the run of one study: its best step, its curve, its record as artifacts."""
    tags = {"kind": "study", "batch": str(record.batch)} | _tags(record)
    if record.reason:
        tags["failure"] = f"{record.failed} of {record.trials} trials: {record.reason}"
    if record.alarms:
        tags["alarm"] = ", ".join(record.alarms)
    if record.best and not record.best.explained:
        tags["warning"] = "the replayed loss differs from the curve's by more than rounding"
    time = milliseconds(record.created)
    scalars = [Metric(k, v, time, 0) for k, v in _scalars(record).items()]
    config = record.config | {"batch": record.batch}
    return Run(
        name=record.name,
        tags=tags,
        params=flat(config),
        start=record.created,
        seconds=record.seconds,
        metrics=scalars + _curve(records.read_trials(folder), time),
        files=[folder / records.TRIALS, folder / records.RECORD],
        texts={"config.yaml": yaml.safe_dump(config, sort_keys=False)},
        failed=record.best is None,
    )


def job_run(group: list[Record]) -> Run:
    """Return the run of all batches of one estimator at one sample count: their means, their values
    with the batch as the step, and a table of the studies."""
    group = sorted(group, key=lambda record: record.batch)
    first = group[0]
    time = milliseconds(first.created)
    metrics = [
        Metric("job/studies", len(group), time, 0),
        Metric("job/failed_studies", sum(r.best is None for r in group), time, 0),
        Metric("job/seconds", sum(r.seconds for r in group), time, 0),
    ]
    for name in _COLUMNS:
        values = [(r.batch, v) for r in group if (v := quantity(name, r)) is not None]
        metrics += [Metric(f"batch/{name}", value, time, batch) for batch, value in values]
        if values:
            mean = statistics.fmean(value for _, value in values)
            metrics.append(Metric(f"mean/{name}", mean, time, 0))
    return Run(
        name=first.name.removesuffix(f" batch {first.batch}"),
        tags={"kind": "job", "batches": str(len(group))} | _tags(first),
        params=flat(first.config),
        start=first.created,
        seconds=sum(r.seconds for r in group),
        metrics=metrics,
        texts={
            "config.yaml": yaml.safe_dump(first.config, sort_keys=False),
            "studies.csv": _studies_csv(group),
        },
        failed=all(r.best is None for r in group),
    )


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
        tags=tags | code_tags(stored["git_commit"], stored["versions"]),
        params=flat(identity),
        start=stored["created"],
        metrics=[Metric("pretraining/loss", loss, time, step) for step, loss in enumerate(losses)],
        texts={"config.yaml": yaml.safe_dump(stored["config"], sort_keys=False)},
    )


def side_by_side(configs: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Return each key with its value, or its values where the configurations differ."""
    values: dict[str, dict[str, None]] = {}
    for config in configs:
        for key, value in flat(config).items():
            if value is not None:
                values.setdefault(key, {})[str(value)] = None
    joined = {key: ", ".join(several)[:6_000] for key, several in values.items()}  # MLflow's limit
    return {key: text for key, text in joined.items() if text}


def code_tags(commit: str, versions: dict[str, str]) -> dict[str, str]:
    """Return the tags that say which code a run comes from."""
    return {"mlflow.source.git.commit": commit} | {f"version.{k}": v for k, v in versions.items()}


def milliseconds(created: str | None) -> int:
    """Return the milliseconds since 1970 of an ISO 8601 time, or of now."""
    when = datetime.datetime.fromisoformat(created) if created else datetime.datetime.now()
    return round(1e3 * when.timestamp())


def _tags(record: Record) -> dict[str, str]:
    """Return the tags to filter and group by, and why a curve is not exact."""
    tags = code_tags(record.git_commit, record.versions) | {
        "estimator": record.estimator,
        "samples": "-" if record.samples is None else str(record.samples),
        "seed": str(record.identity["seed"]),
        "condition": record.condition,
    }
    for part in ("model", "loss", "pretraining", "sampling"):
        tags[part] = str(record.identity[part]["name"])
    if record.not_exact:
        tags |= {"curve": "evaluated", "not_exact": record.not_exact}
    elif record.certificate:
        tags["curve"] = "exact"
    return tags


_COLUMNS = (
    "pre_loss", "post_loss", "decrease", "lr", "gain", "heldout_pre_loss", "heldout_post_loss",
    "heldout_best_lr", "heldout_best_loss", "zero_loss", "angle", "descent_exists", *CERTIFIED,
)  # fmt: skip
"""The quantities of a study that runs have, by their names in a job's run."""

_STUDY_NAMES = {"gain": "baseline/gain", "angle": "baseline/angle"} | {
    name: name.replace("_", "/", 1)
    for name in _COLUMNS
    if name.startswith(("heldout_", "zero_", "descent_"))
}
"""Their names in a study's run; of the others "best/" and the name."""


def _scalars(record: Record) -> dict[str, float]:
    """Return the metrics of a study that have one value."""
    scalars: dict[str, float | None] = {
        _STUDY_NAMES.get(name, f"best/{name}"): quantity(name, record) for name in _COLUMNS
    } | {
        "study/trials": record.trials,
        "study/failed_trials": record.failed,
        "study/seconds": record.seconds,
        "replay/pre_loss": record.best.replayed_pre_loss if record.best else None,
        "replay/post_loss": quantity("replayed_post_loss", record),
        "baseline/post_loss": record.baseline.post_loss if record.baseline else None,
    }
    return {name: value for name, value in scalars.items() if value is not None}


def _studies_csv(group: list[Record]) -> str:
    columns = [*_COLUMNS, "replayed_post_loss", "trials", "failed", "seconds"]
    rows = [[r.batch, *(quantity(name, r) for name in columns), r.key] for r in group]
    return csv_text([["batch", *columns, "key"], *rows])


def _curve(trials: Trials, time: int) -> list[Metric]:
    points = trials.points()
    columns = {
        "trial/pre_loss": np.full(len(trials), trials.pre_loss),
        "trial/post_loss": trials.post_loss,
        "trial/lr": trials.lr,
    }
    return [Metric(name, float(v[i]), time, int(i)) for name, v in columns.items() for i in points]
