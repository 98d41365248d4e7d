"""The user's cache folder: what is made once on a machine, and made again where it is missing."""

import os
from pathlib import Path


def user_cache() -> Path:
    """Return srste's folder in the user's cache: `$XDG_CACHE_HOME/srste`, or `~/.cache/srste`.

    It may not exist, and need not be writable. Raises: RuntimeError for a user without a home.
    """
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".cache") / "srste"
