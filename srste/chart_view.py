"""The view of MLflow's UI that a launch's link opens: which runs, which columns, which charts.

MLflow keeps a view that someone shares as an experiment tag; this makes one. The charts say at once
what a stranger would otherwise have to set up by hand: the loss against the learning rate (MLflow's
own default draws it against the trial's number) and the gain over the baseline.
"""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

TAG_PREFIX = "mlflow.sharedViewState."

_COLUMNS = [
    *(f"metrics.`{m}`" for m in ("best/pre_loss", "best/post_loss", "best/lr", "baseline/gain")),
    *(f"tags.`{t}`" for t in ("estimator", "samples", "batch", "pretraining", "sampling", "seed")),
]
_SECTION = "srste"


def chart_view(search: str, order_by: str) -> str:
    """The value of the tag ``mlflow.sharedViewState.KEY`` that the link's ``viewStateShareKey=KEY``
    refers to. search: which runs, in MLflow's filter syntax. order_by: ascending, likewise."""
    state = {
        "searchFilter": search,
        "orderByKey": order_by,
        "orderByAsc": True,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": _COLUMNS,
        "columnOrder": [],
        "columnWidths": {},
        "runsExpanded": {},
        "runsPinned": [],
        "runsHidden": [],
        "runsVisibilityMap": {},
        "runsHiddenMode": "FIRST_20_RUNS",
        "compareRunCharts": [
            _line("trial/post_loss", "trial/lr", "Loss after the step, against learning rate"),
            _bar("best/post_loss", "Loss after the best step"),
            _bar("baseline/gain", "Gain over the baseline (> 0: lower loss)"),
            _bar("best/lr", "Best learning rate"),
        ],
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


def _chart(kind: str, metric: str, title: str) -> dict[str, Any]:
    return {
        "uuid": f"{_SECTION}-{metric}",
        "type": kind,
        "runsCountToCompare": 20,
        "metricSectionId": _SECTION,
        "deleted": False,
        "isGenerated": False,
        "displayName": title,
        "metricKey": metric,
    }


def _bar(metric: str, title: str) -> dict[str, Any]:
    return _chart("BAR", metric, title)


def _line(metric: str, against: str, title: str) -> dict[str, Any]:
    return _chart("LINE", metric, title) | {
        "selectedMetricKeys": [metric],
        "lineSmoothness": 0,
        "xAxisScaleType": "linear",
        "scaleType": "linear",
        "range": {},
        "xAxisKey": "metric",
        "selectedXAxisMetricKey": against,
        "yAxisKey": "metric",
        "yAxisExpressions": [],
        "ignoreOutliers": False,
        "useGlobalXaxisKey": False,
        "useGlobalLineSmoothing": False,
    }
