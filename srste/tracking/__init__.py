"""MLflow, which no other package imports. It takes a second, so import this where needed."""

import os
import tempfile
from pathlib import Path

# Before the import: no usage data is sent, and a dead server is given up within seconds.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
# Its links may hold a password.
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
try:
    Path.home()
    import mlflow
except RuntimeError:  # HOME is unset and the account has no name, and MLflow asks as it is imported
    os.environ["HOME"] = tempfile.gettempdir()
    import mlflow  # noqa: F401

    del os.environ["HOME"]

from srste.tracking.chart_view import Chart
from srste.tracking.opening import open_store
from srste.tracking.run_contents import (
    LOSS,
    RATE,
    TRIAL_LOSS,
    TRIAL_RATE,
    Entry,
    N,
    entries,
    gradient_metric,
    metric_name,
    summary_run,
)
from srste.tracking.writer import Outcome, Store, StoreError

__all__ = [
    "LOSS", "RATE", "TRIAL_LOSS", "TRIAL_RATE", "Chart", "Entry", "N", "Outcome", "Store", "StoreError",
    "entries", "gradient_metric", "metric_name", "open_store", "summary_run",
]  # fmt: skip
