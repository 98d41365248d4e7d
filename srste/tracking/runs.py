"""What a run in MLflow holds: made from records, of a study, of a job's studies, of a pretraining."""

from __future__ import annotations

import csv
import datetime
import io
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from mlflow.entities import Metric
from numpy.typing import NDArray

from srste.sampling import Trials
from srste.store import records
from srste.store.quantities import QUANTITIES, flat, quantity
from srste.store.records import Record

CURVE_POINTS = 320
"""The most points of a curve that MLflow's charts show; beyond, they drop some by stride."""

WHOLE_UP_TO = 1_000
"""Studies of up to that many trials are logged point by point."""

Found = tuple[Path, Record]
"""A record and its folder."""


@dataclass(frozen=True)
class Run:
    """One run. start: UTC, ISO 8601; None: now. files: artifacts; folders: likewise, each under its
    own name. texts: artifacts by file name."""

    name: str
    tags: dict[str, str]
    params: dict[str, Any]
    start: str | None = None
    seconds: float = 0.0
    metrics: list[Metric] = field(default_factory=list)
    files: Sequence[Path] = ()
    folders: Sequence[Path] = ()
    texts: dict[str, str] = field(default_factory=dict)
    failed: bool = False


@dataclass(frozen=True)
class Entry:
    """A run that the store is to have. key: it has one run of each. size: of two runs of a key the
    one that tells of more studies is kept. make: the run, made only if it is needed."""

    key: str
    size: int
    make: Callable[[], Run]


def entries(
    found: Iterable[Found], pretrainings: Iterable[dict[str, Any]], granularity: str
) -> list[Entry]:
    """The runs of these records.

    Args: pretrainings: see :func:`srste.launch.job_runner.read_pretraining`. granularity: "study": one
        each; "job": one for all batches of an estimator at a sample count.
    """
    wanted = [_pretraining_entry(note) for note in pretrainings]
    if granularity == "study":
        return wanted + [_study_entry(folder, record) for folder, record in found]
    groups: dict[str, list[Record]] = {}
    for _, record in found:
        groups.setdefault(record.group, []).append(record)
    return wanted + [_job_entry(group) for group in groups.values()]


def _study_entry(folder: Path, record: Record) -> Entry:
    return Entry(record.key, 1, lambda: study_run(folder, record))


def _job_entry(group: list[Record]) -> Entry:
    return Entry(group[0].group, len(group), lambda: job_run(group))


def _pretraining_entry(note: dict[str, Any]) -> Entry:
    return Entry(note["key"], 1, lambda: pretraining_run(note))


def study_run(folder: Path, record: Record) -> Run:
    """One study: its best step, its curve, its record as artifacts."""
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
    """All batches of one estimator at one sample count: their means, their values with the batch as
    the step, and a table of the studies."""
    group = sorted(group, key=lambda record: record.batch)
    first = group[0]
    time = milliseconds(first.created)
    metrics = [
        Metric("job/studies", len(group), time, 0),
        Metric("job/failed_studies", sum(r.best is None for r in group), time, 0),
        Metric("job/seconds", sum(r.seconds for r in group), time, 0),
    ]
    columns = {name: [(r.batch, v) for r in group if (v := value(r)) is not None]
               for name, value in _COLUMNS.items()}  # fmt: skip
    for name, values in columns.items():
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


def pretraining_run(note: dict[str, Any]) -> Run:
    """A pretraining, with its loss curve."""
    identity, losses = note["identity"], note["losses"]
    name, seed = str(identity["pretraining"]["name"]), str(identity["seed"])
    tags = {"kind": "pretraining", "pretraining": name, "seed": seed}
    if note["still_falling"]:
        tags["warning"] = "the loss was still falling at the end"
    time = milliseconds(note["created"])
    return Run(
        name=f"pretraining {name} seed {seed}",
        tags=tags | code_tags(note["git_commit"], note["versions"]),
        params=flat(identity),
        start=note["created"],
        metrics=[Metric("pretraining/loss", loss, time, step) for step, loss in enumerate(losses)],
        texts={"config.yaml": yaml.safe_dump(note["config"], sort_keys=False)},
    )


def side_by_side(configs: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Each key with its value, or its values where the configurations differ."""
    flats = [flat(config) for config in configs]
    found: dict[str, str] = {}
    for key in dict.fromkeys(key for config in flats for key in config):
        values = dict.fromkeys(str(config[key]) for config in flats if config.get(key) is not None)
        found[key] = ", ".join(values)[:6_000]  # MLflow's limit
    return {key: value for key, value in found.items() if value}


def code_tags(commit: str, versions: dict[str, str]) -> dict[str, str]:
    """Which code a run comes from."""
    return {"mlflow.source.git.commit": commit} | {f"version.{k}": v for k, v in versions.items()}


def milliseconds(created: str | None) -> int:
    """Since 1970; of an ISO 8601 time, or of now."""
    when = datetime.datetime.fromisoformat(created) if created else datetime.datetime.now()
    return round(1e3 * when.timestamp())


def _tags(record: Record) -> dict[str, str]:
    """What to filter and group by; and why a curve is not exact."""
    of_curve = {"curve": "exact"} if record.certificate else {}
    if record.not_exact:
        of_curve = {"curve": "evaluated", "not_exact": record.not_exact}
    return (
        code_tags(record.git_commit, record.versions)
        | of_curve
        | {
            "estimator": record.estimator,
            "samples": "-" if record.samples is None else str(record.samples),
            "model": str(record.identity["model"]["name"]),
            "loss": str(record.identity["loss"]["name"]),
            "pretraining": str(record.identity["pretraining"]["name"]),
            "sampling": str(record.identity["sampling"]["name"]),
            "seed": str(record.identity["seed"]),
            "condition": record.condition,
        }
    )


def _gain(record: Record) -> float | None:
    """How much lower the loss is than the baseline's; None where either has none."""
    baseline = record.baseline
    if record.best is None or baseline is None or baseline.post_loss is None:
        return None
    return baseline.post_loss - record.best.post_loss


_COLUMNS: dict[str, Callable[[Record], float | None]] = {
    "pre_loss": lambda r: r.pre_loss,
    "post_loss": lambda r: r.best.post_loss if r.best else None,
    "decrease": lambda r: r.pre_loss - r.best.post_loss if r.best else None,
    "lr": lambda r: r.best.lr if r.best else None,
    "gain": _gain,
    "heldout_pre_loss": lambda r: r.heldout.pre_loss if r.heldout else None,
    "heldout_post_loss": lambda r: r.heldout.post_loss if r.heldout else None,
    "heldout_best_lr": lambda r: r.heldout.best_lr if r.heldout else None,
    "heldout_best_loss": lambda r: r.heldout.best_loss if r.heldout else None,
    "zero_loss": lambda r: r.zero_loss,
    "angle": lambda r: r.angles.get(""),
    "descent_exists": lambda r: int(r.certificate.descends) if r.certificate else None,
    **{name: partial(quantity, name) for name in QUANTITIES},
}
"""The numbers of a study, by the name that they have in a job's run."""

_OWN_NAMES = {
    "gain": "baseline/gain",
    "angle": "baseline/angle",
    "zero_loss": "zero/loss",
    "heldout_pre_loss": "heldout/pre_loss",
    "heldout_post_loss": "heldout/post_loss",
    "heldout_best_lr": "heldout/best_lr",
    "heldout_best_loss": "heldout/best_loss",
    **{name: name.replace("_", "/", 1) for name in _COLUMNS if name.startswith("descent_")},
}
"""Their names in a study's own run; of the others "best/" and the name."""


def _scalars(record: Record) -> dict[str, float]:
    found: dict[str, float] = {
        _OWN_NAMES.get(name, f"best/{name}"): v
        for name, value in _COLUMNS.items()
        if (v := value(record)) is not None
    } | {
        "study/trials": record.trials,
        "study/failed_trials": record.failed,
        "study/seconds": record.seconds,
    }
    if record.best:
        found["replay/pre_loss"] = record.best.replayed_pre_loss
        found["replay/post_loss"] = record.best.replayed_post_loss
    if record.baseline and record.baseline.post_loss is not None:
        found["baseline/post_loss"] = record.baseline.post_loss
    return found


def _studies_csv(group: list[Record]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["batch", *_COLUMNS, "replayed_post_loss", "trials", "failed", "seconds", "key"])
    for r in group:
        replayed = r.best.replayed_post_loss if r.best else None
        values = [value(r) for value in _COLUMNS.values()]
        writer.writerow([r.batch, *values, replayed, r.trials, r.failed, r.seconds, r.key])
    return buffer.getvalue()


def curve_points(trials: Trials) -> NDArray[np.intp]:
    """The numbers of the trials that are logged as points, ascending: all of up to 1,000, otherwise
    at most 320 by stride, the best among them. Failed trials are left out."""
    usable = np.flatnonzero(~trials.failed)
    if len(trials) <= WHOLE_UP_TO or usable.size <= CURVE_POINTS:
        return usable
    by_stride = usable[np.linspace(0, usable.size - 1, CURVE_POINTS - 1).round().astype(np.intp)]
    best = trials.best()
    assert best is not None
    return np.union1d(by_stride, [best])


def _curve(trials: Trials, time: int) -> list[Metric]:
    points = curve_points(trials)
    columns: list[tuple[str, Callable[[int], float]]] = [
        ("trial/pre_loss", lambda i: trials.pre_loss),
        ("trial/post_loss", lambda i: float(trials.post_loss[i])),
        ("trial/lr", lambda i: float(trials.lr[i])),
    ]
    return [Metric(name, value(i), time, int(i)) for name, value in columns for i in points]
