"""Where a result comes from: code, versions, commit. Part of a record's key, and on every run.

The code that counts is `srste.launch.job_runner`, which does a study from the configuration to the
record, what the study's `_target_`s name, and all that these are built on (see `srste.store.sources`).
The modules that launch, track and report are imported by none of these, but for one that only shows
what goes on; it is in `SHOWN`, and has no part in a key, nor has what it alone imports. So a new module
counts as soon as anything that counts imports it, or a configuration names it; a new estimator's file
counts for the studies that name it and no other.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import srste
from srste.store.sources import modules_of, source_of

ARITHMETIC = ("torch", "numpy", "numba", "optuna", "scipy", "cmaes")
"""The packages that a result is computed with. Their versions stand for their code."""
PACKAGES = (*ARITHMETIC, "hydra-core", "omegaconf", "mlflow")
SHOWN = {
    "srste.launch.progress": "it is told how far the work is, and tells the work nothing",
}
"""What does not count, by its place, though code that counts imports it, and why."""
# The public face asks for the work and takes no part in it; Hydra only calls what a configuration names.
_PUBLIC = ("srste.api", "srste.networks.converting", "srste.testing")
_NOT_FOLLOWED = (*SHOWN, *_PUBLIC, *ARITHMETIC, "hydra")
_FOLDER = Path(srste.__file__).resolve().parent


def _targets(node: Any) -> Iterator[str]:
    """Every ``_target_`` in a configuration, and what one of Hydra's own looks up."""
    if isinstance(node, dict):
        if isinstance(target := node.get("_target_"), str):
            yield target
            if target.startswith("hydra.utils.") and isinstance(path := node.get("path"), str):
                yield path
        for value in node.values():
            yield from _targets(value)
    elif isinstance(node, list):
        for value in node:
            yield from _targets(value)


@cache
def code_modules(targets: frozenset[str]) -> frozenset[str]:
    """The modules whose source determines the result of a study of these ``_target_``s."""
    return modules_of({"srste.launch.job_runner", *targets}, without=_NOT_FOLLOWED)


@cache
def _digest_of(targets: frozenset[str]) -> str:
    digest = hashlib.sha256()
    for module in sorted(code_modules(targets)):
        digest.update(module.encode() + b"\0" + source_of(module) + b"\0")
    return digest.hexdigest()


def code_digest(identity: dict[str, Any]) -> str:
    """A hash of the source that determines a result."""
    return _digest_of(frozenset(_targets(identity)))


@cache
def versions() -> dict[str, str]:
    """The versions of srste, Python and the packages that matter."""
    found = {name: version(name) for name in PACKAGES}
    return {"srste": srste.__version__, "python": platform.python_version(), **found}


@cache
def git_commit() -> str:
    """The commit of the source, with "+changes" if it differs from it; "unknown" outside git."""
    return _commit_of(_FOLDER)


def _commit_of(package: Path) -> str:
    # Git reads no checkout of another user unless told to. Whoever runs the code of this one trusts it
    # already; one further up, which only contains it, is still refused. Nothing is written.
    checkout = str(package.parent)
    options = ("-C", checkout, "-c", f"safe.directory={checkout}", "-c", "core.fsmonitor=false")
    # In a hook of git, say, variables point to another repository.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    environment["GIT_OPTIONAL_LOCKS"] = "0"

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", *options, *arguments], capture_output=True, text=True, check=True, env=environment
        )
        return done.stdout.strip()

    try:
        # A package installed into an environment may lie in somebody else's repository.
        git("ls-files", "--error-unmatch", f"{package.name}/__init__.py")
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def key_of(identity: dict[str, Any]) -> str:
    """The key (64 hexadecimal digits) of a result: of its configuration, the code and the versions
    of the packages that do the arithmetic."""
    computing = {name: versions()[name] for name in ARITHMETIC}
    whole = {"identity": identity, "code": code_digest(identity), "versions": computing}
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()
