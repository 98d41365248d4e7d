"""What a launch writes about a pretraining: key, identity, configuration, losses."""

from pathlib import Path
from typing import Any

from srste.store.files import unsealed

PRETRAINING = "pretraining"
"""The folder of these files, in a launch's."""


def pretraining_path(root: Path, key: str) -> Path:
    """Return the file about the pretraining of that key in a launch's folder."""
    return root / PRETRAINING / f"{key[:12]}.json"


def read_pretraining(root: Path, key: str) -> dict[str, Any] | None:
    """Return what a launch wrote about a pretraining (key, identity, config, losses, ...); None if
    the file is missing or damaged."""
    try:
        pretraining = unsealed(pretraining_path(root, key).read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return pretraining if pretraining.get("key") == key else None
