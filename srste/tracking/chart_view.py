"""The view of MLflow's UI that a launch's link opens: runs, columns and charts.

MLflow stores a shared view as an experiment tag; this makes one. It charts the loss against the
learning rate (MLflow's default is against the trial's number) and the gain over the baseline.
"""

import base64
import json
import zlib
from typing import Any

TAG_PREFIX = "mlflow.sharedViewState."

_METRICS = {
    "study": ("best/pre_loss", "best/post_loss", "best/lr", "baseline/gain"),
    "job": ("mean/pre_loss", "mean/post_loss", "mean/lr", "mean/gain"),
}
_TAGS = ("estimator", "samples", "batch", "pretraining", "sampling", "seed")
_SECTION = "srste"


def chart_view(search: str, order_by: str, granularity: str) -> str:
    """Return the value of the tag ``mlflow.sharedViewState.KEY`` for a link's
    ``viewStateShareKey=KEY``.

    search: the runs, in MLflow's filter syntax. order_by: ascending, likewise. granularity: "study"
    or "job", what a run is."""
    metrics = [f"metrics.`{metric}`" for metric in _METRICS[granularity]]
    state = {
        "searchFilter": search,
        "orderByKey": order_by,
        "orderByAsc": True,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": metrics + [f"tags.`{tag}`" for tag in _TAGS],
        "columnOrder": [],
        "columnWidths": {},
        "runsExpanded": {},
        "runsPinned": [],
        "runsHidden": [],
        "runsVisibilityMap": {},
        "runsHiddenMode": "FIRST_20_RUNS",
        "compareRunCharts": _job_charts() if granularity == "job" else _study_charts(),
        "compareRunSections": [
            {
                "uuid": _SECTION,
                "name": "Which step is better",
                "display": True,
                "isReordered": True,
                "deleted": False,
                "isGenerated": False,
            }
        ],
        "viewMaximized": False,
        "runListHidden": False,
        "isAccordionReordered": True,  # otherwise sections that MLflow adds sort above ours
        "useGroupedValuesInCharts": True,
        "hideEmptyCharts": True,
        "groupBy": None,
        "groupsExpanded": {},
        "autoRefreshEnabled": True,
        "globalLineChartConfig": {"xAxisKey": "step", "lineSmoothness": 0, "selectedXAxisMetricKey": ""},
    }
    compressed = zlib.compress(json.dumps(state).encode())
    return "deflate;" + base64.b64encode(compressed).decode()


def _study_charts() -> list[dict[str, Any]]:
    return [
        _line("trial/post_loss", "trial/lr", "Loss after the step, against learning rate"),
        _bar("best/post_loss", "Loss after the best step"),
        _bar("baseline/gain", "Gain over the baseline (> 0: lower loss)"),
        _bar("best/lr", "Best learning rate"),
    ]


def _job_charts() -> list[dict[str, Any]]:
    return [
        _bar("mean/post_loss", "Loss after the best step, mean over batches"),
        _bar("mean/gain", "Gain over the baseline (> 0: lower loss), mean over batches"),
        _line("batch/post_loss", None, "Loss after the best step, batch by batch"),
        _line("batch/gain", None, "Gain over the baseline, batch by batch"),
    ]


def _bar(metric: str, title: str) -> dict[str, Any]:
    return {
        "uuid": f"{_SECTION}-{metric}",
        "type": "BAR",
        "runsCountToCompare": 20,
        "metricSectionId": _SECTION,
        "deleted": False,
        "isGenerated": False,
        "displayName": title,
        "metricKey": metric,
    }


def _line(metric: str, against: str | None, title: str) -> dict[str, Any]:
    return _bar(metric, title) | {
        "type": "LINE",
        "selectedMetricKeys": [metric],
        "lineSmoothness": 0,
        "xAxisScaleType": "linear",
        "scaleType": "linear",
        "range": {},
        "xAxisKey": "metric" if against else "step",
        "selectedXAxisMetricKey": against or "",
        "yAxisKey": "metric",
        "yAxisExpressions": [],
        "ignoreOutliers": False,
        "useGlobalXaxisKey": False,
        "useGlobalLineSmoothing": False,
    }
