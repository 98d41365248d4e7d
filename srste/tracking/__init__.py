"""MLflow, the only package that imports it (more than a second, so others do where they need it)."""

from srste.tracking.runs import entries
from srste.tracking.store import Store, StoreError, open_store

__all__ = ["Store", "StoreError", "entries", "open_store"]
