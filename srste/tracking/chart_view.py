"""The view of MLflow's UI that a launch's link opens: runs, columns and charts.

MLflow stores a shared view as an experiment tag; this makes one. MLflow 3.17 titles a chart by its
metric's name, whatever ``displayName`` says, so metrics are named for people.
"""

import base64
import json
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

TAG_PREFIX = "mlflow.sharedViewState."
_SECTION = "srste"
_COLUMNS = 2
_HEIGHT = 380  # pixels
_TAGS = ("estimator", "samples", "batch", "pretraining", "sampling", "seed")


class Chart(NamedTuple):
    """A chart. metrics: those that it draws. against: the metric of the horizontal axis of lines;
    "" for bars of the metrics' last values."""

    metrics: tuple[str, ...]
    against: str = ""


def chart_view(search: str, order_by: str, charts: Sequence[Chart], hidden: Sequence[str] = ()) -> str:
    """Return the value of the tag ``mlflow.sharedViewState.KEY`` for a link's
    ``viewStateShareKey=KEY``.

    search: the runs, in MLflow's filter syntax. order_by: ascending, likewise. hidden: ids of runs
    that are in the list and not in the charts."""
    metrics = list(dict.fromkeys(chart.metrics[0] for chart in charts))
    state = {
        "searchFilter": search,
        "orderByKey": order_by,
        "orderByAsc": True,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": [f"metrics.`{m}`" for m in metrics] + [f"tags.`{tag}`" for tag in _TAGS],
        "columnOrder": [],
        "columnWidths": {},
        "runsExpanded": {},
        "runsPinned": [],
        "runsHidden": [],
        "runsVisibilityMap": dict.fromkeys(hidden, False),
        "runsHiddenMode": "FIRST_20_RUNS",
        "compareRunCharts": [_chart(chart, place) for place, chart in enumerate(charts)],
        "compareRunSections": [
            {
                "uuid": _SECTION,
                "name": "Which step is better",
                "display": True,
                "isReordered": True,
                "deleted": False,
                "isGenerated": False,
                "columns": _COLUMNS,
                "cardHeight": _HEIGHT,
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


def _chart(chart: Chart, place: int) -> dict[str, Any]:
    bars = {
        "uuid": f"{_SECTION}-{place}",
        "type": "BAR",
        "runsCountToCompare": 20,
        "metricSectionId": _SECTION,
        "deleted": False,
        "isGenerated": False,
        "metricKey": chart.metrics[0],
    }
    if not chart.against:
        return bars
    return bars | {
        "type": "LINE",
        "selectedMetricKeys": list(chart.metrics),
        "lineSmoothness": 0,
        "xAxisScaleType": "linear",
        "scaleType": "linear",
        "range": {},
        "xAxisKey": "metric",
        "selectedXAxisMetricKey": chart.against,
        "yAxisKey": "metric",
        "yAxisExpressions": [],
        "ignoreOutliers": False,
        "useGlobalXaxisKey": False,
        "useGlobalLineSmoothing": False,
    }
