"""What a launch puts into MLflow: runs of its studies and estimators, and its own with the answer."""

import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from srste.launch.results import LaunchResults
from srste.report.chapters import Chapter
from srste.report.description import description
from srste.report.palette import column_looks, shade
from srste.report.report_files import NAME
from srste.report.summary import Summary
from srste.store.files import hash_of
from srste.store.pretraining_file import read_pretraining
from srste.store.records import Record

if TYPE_CHECKING:
    from srste.tracking import Chart, Entry, Store
    from srste.tracking.writer import Synced

HELDOUT = "held-out "
FRONT_SUMMARIES = 12
"""MLflow's charts show some twenty runs at first."""


@dataclass(frozen=True)
class Tracked:
    """Results whose runs are in a store."""

    results: LaunchResults
    synced: "Synced"
    summaries: list["Entry"]


def synced(results: LaunchResults, store: "Store", step: Callable[[int, int], None]) -> Tracked:
    """Make the store hold a run of each study, or job, and of each estimator. step: is called with the
    number of runs that are there, and of all.

    Raises: StoreError.
    """
    from srste.tracking import entries

    launch, contents = results.launch, results.contents
    pretrainings = [p for key in contents.pretrainings if (p := read_pretraining(results.root, key))]
    summaries = _summary_entries(launch.id, results.chapters)
    of_records = entries(results.records.values(), pretrainings, launch.tracking["granularity"])
    wanted = [*of_records, *summaries]
    planned = contents.everything | {entry.key for entry in summaries}
    done = itertools.count(1)
    runs = store.sync(launch, wanted, planned, lambda: step(next(done), len(wanted)))
    return Tracked(results, runs, summaries)


def write_outcome(tracked: Tracked, store: "Store", files: Sequence[Path], seconds: float) -> None:
    """Write the answer and these files and folders into the launch's run, and link the runs.

    Args: seconds: what the launch took this time. Raises: StoreError.
    """
    from srste.tracking import Outcome

    results, synced, summaries = tracked.results, tracked.synced, tracked.summaries
    launch, contents, chapters = results.launch, results.contents, results.chapters
    granularity = launch.tracking["granularity"]
    links = {key: store.run_link(run.info.run_id) for key, run in synced.runs.items()}
    of_launch = store.run_link(synced.launch_run)
    report = f"{of_launch}/artifacts/{NAME}" if any(path.name == NAME for path in files) else ""
    said = description(chapters, report, store.view_link(launch.id))
    if granularity == "job":
        said += "\n\nOne run per job: its artifacts are the records of its studies, with all trials."
    lost = results.lost
    complaint = f"**{len(lost)} of {len(contents.jobs)} jobs are missing.**\n\n" if lost else ""
    by_key = _runs_of(chapters)
    store.finish(
        launch,
        synced,
        Outcome(
            studies_seconds=sum(record.seconds for _, record in results.records.values()),
            description=complaint + said,
            numbers=_numbers(chapters),
            configs=_configurations(results),
            files=files,
            seconds=seconds,
            complete=not lost,
            headline=" ".join(c.headline for c in chapters[:2]) or "No study was completed.",
            has_report=bool(report),
            names={key: name for key, (name, _, _) in by_key.items()},
            tags={key: _tags(r, colour, of_launch, links) for key, (_, colour, r) in by_key.items()},
            front=[*(entry.key for entry in summaries[:FRONT_SUMMARIES]), *_front(chapters)],
            charts=_charts(chapters, granularity),
        ),
    )


def _configurations(results: LaunchResults) -> list[dict[str, Any]]:
    """Return the jobs' configurations, each once, in order of condition."""
    cells = [record for condition in results.conditions for record in condition.cells.values()]
    return list({json.dumps(r.config, sort_keys=True): r.config for r in cells}.values())


def _gain(baseline: str) -> str:
    from srste.tracking import metric_name

    return metric_name(f"gain over {baseline}")


def _ends(baseline: str) -> tuple[str, str]:
    return f"{_gain(baseline)} - lower end", f"{_gain(baseline)} - upper end"


def _summary_entries(launch_id: str, chapters: Sequence[Chapter]) -> list["Entry"]:
    """Return a run for each estimator of each setting, over all batches and networks."""
    from srste.tracking import Entry, summary_run

    made = []
    for chapter in chapters:
        colours = column_looks(chapter.setting.columns)
        for one in chapter.summaries:
            label = chapter.setting.label
            name = f"{one.series} {label}".strip()
            tags = {
                "estimator": one.series,
                "baseline": one.baseline,
                "condition": label,
                "networks": str(len(chapter.setting.networks)),
                "mlflow.runColor": colours[one.series].colour,
            }
            points = _points(one, chapter)
            # By its content, since the values of a metric cannot be replaced.
            key = hash_of({"launch": launch_id, "name": name, "tags": tags, "points": points})
            made.append(Entry(key, 1, partial(summary_run, name, tags, points)))
    return made


def _points(one: Summary, chapter: Chapter) -> dict[str, dict[int, float]]:
    """Return an estimator's metrics by N; one that draws nothing has the same at every N."""
    from srste.tracking import LOSS, gradient_metric

    points: dict[str, dict[int, float]] = {}
    every = chapter.samples or [1]
    for row in one.rows:
        values = {LOSS: row.loss}
        if row.gain is not None:
            gains = row.gain.comparison
            values |= {_gain(one.baseline): gains.mean}
            values |= zip(_ends(one.baseline), (gains.low, gains.high), strict=True)
        if row.heldout is not None:
            values[HELDOUT + _gain(one.baseline)] = row.heldout.comparison.mean
        for other in chapter.summaries:
            if other.baseline == one.series:
                values |= {_gain(one.series): 0.0}
                if any(r.heldout for r in other.rows):
                    values |= {HELDOUT + _gain(one.series): 0.0}
        for of_gradient in chapter.gradients:
            if (of_gradient.series, of_gradient.samples) == (one.series, row.samples):
                numbers = of_gradient.numbers.items()
                values |= {gradient_metric(of_gradient.layer, name): value for name, value in numbers}
        for name, value in values.items():
            if math.isfinite(value):
                points.setdefault(name, {}).update(
                    dict.fromkeys(every if row.samples is None else [row.samples], value)
                )
    return points


def _numbers(chapters: Sequence[Chapter]) -> dict[str, float]:
    """Return the answer's numbers, by the names of metrics."""
    from srste.tracking import metric_name

    numbers: dict[str, float] = {}
    for chapter in chapters:
        for one in chapter.summaries:
            if (best := one.best) is None or best.gain is None:
                continue
            at = f"{one.series} {chapter.setting.label}".strip()
            finding = one.chosen or best.gain
            gains = finding.comparison
            heldout = one.chosen_heldout or best.heldout
            values = {
                f"{at}: gain over {one.baseline}": gains.mean,
                f"{at}: gain - lower end": gains.low,
                f"{at}: gain - upper end": gains.high,
                f"{at}: p": finding.p_value,
                f"{at}: best N": best.samples,
                f"{at}: held-out gain": heldout.comparison.mean if heldout else None,
            }
            numbers |= {
                metric_name(name): float(value)
                for name, value in values.items()
                if value is not None and math.isfinite(value)
            }
    return numbers


def _runs_of(chapters: Sequence[Chapter]) -> dict[str, tuple[str, str, Record]]:
    """Return a unique name, a colour and a record for each study and each group of studies, by key."""
    by_key = {}
    for chapter in chapters:
        colours = column_looks(chapter.setting.columns)
        for condition in chapter.setting.networks.values():
            for (batch, column), record in condition.cells.items():
                colour = shade(colours[column.series].colour, column.samples, chapter.samples)
                words = [record.name.removesuffix(f" batch {batch}"), column.variant]
                of_batch = [*words, f"batch {batch}", condition.label]
                by_key[record.key] = " ".join(filter(None, of_batch)), colour, record
                of_group = " ".join(filter(None, [*words, condition.label]))
                by_key[record.group] = of_group, colour, record
    return by_key


def _tags(record: Record, colour: str, launch: str, links: Mapping[str, str]) -> dict[str, str]:
    """Return the colour of a run, and a description that leads to its launch and its baseline."""
    lines = [f"[The launch]({launch}): its answer and its report"]
    if record.baseline is not None and record.baseline.key in links:
        lines.append(f"[The baseline on the same batch]({links[record.baseline.key]})")
    return {"mlflow.runColor": colour, "mlflow.note.content": " · ".join(lines)}


def _front(chapters: Sequence[Chapter]) -> list[str]:
    """Return the keys of the studies on the first batch, each estimator's at its best N, and of their
    groups."""
    if not chapters:
        return []
    first = chapters[0]
    condition = next(iter(first.setting.networks.values()))
    best = {one.series: one.best.samples if one.best else None for one in first.summaries}
    cells = [
        condition.cells.get((condition.batches[0], column))
        for column in first.setting.columns
        if column.samples == best[column.series]
    ]
    return [record.key for record in cells if record] + [record.group for record in cells if record]


def _charts(chapters: Sequence[Chapter], granularity: str) -> list["Chart"]:
    """Return the charts: gains against N, the loss curve, and bars."""
    from srste.tracking import LOSS, RATE, TRIAL_LOSS, TRIAL_RATE, Chart, N

    baselines = dict.fromkeys(one.baseline for c in chapters for one in c.summaries if one.baseline)
    against = N if any(len(chapter.samples) > 1 for chapter in chapters) else ""
    heldout = any(row.heldout for c in chapters for one in c.summaries for row in one.rows)
    charts = [Chart((_gain(baseline),), against) for baseline in baselines]
    if heldout:
        charts += [Chart((HELDOUT + _gain(baseline),), against) for baseline in baselines]
    charts.append(Chart((LOSS,), against))
    if granularity == "study":
        charts.append(Chart((TRIAL_LOSS,), TRIAL_RATE))
    if against and any(len(chapter.setting.networks) > 1 for chapter in chapters):
        charts += [Chart((_gain(baseline), *_ends(baseline)), against) for baseline in baselines]
    return [*charts, Chart((LOSS,)), Chart((RATE,))]
