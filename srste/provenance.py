"""Where a result comes from: code, versions, commit. Part of a record's key, and on every run."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import srste

PACKAGES = ("torch", "numpy", "optuna", "hydra-core", "omegaconf", "mlflow")
_HOME = Path(srste.__file__).parent

# What computes results; the rest of the package shows, stores and launches.
_COMPUTES = [
    "binarize.py",
    "data.py",
    "problem.py",
    "pretraining.py",
    "randomness.py",
    "replay.py",
] + ["curve", "estimators", "models", "sampling"]


@cache
def code_digest() -> str:
    """A hash of the source that determines results, so that records of other code are told apart."""
    digest = hashlib.sha256()
    for name in _COMPUTES:
        path = _HOME / name
        for source in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(source.relative_to(_HOME).as_posix().encode() + b"\0")
            digest.update(source.read_bytes() + b"\0")
    return digest.hexdigest()


@cache
def versions() -> dict[str, str]:
    """The versions of srste, Python and the packages that matter."""
    found = {name: version(name) for name in PACKAGES}
    return {"srste": srste.__version__, "python": platform.python_version(), **found}


@cache
def git_commit() -> str:
    """The commit of the source, with "+changes" if it differs from it; "unknown" outside git."""

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(_HOME), *arguments], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def key_of(identity: dict[str, Any]) -> str:
    """The key (64 hexadecimal digits) of a result: of its configuration, the code and the versions
    of the packages that do the arithmetic."""
    computing = {name: versions()[name] for name in ("torch", "numpy", "optuna")}
    whole = {"identity": identity, "code": code_digest(), "versions": computing}
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()
