"""Where a result comes from: code, versions, commit. Part of a record's key, and on every run."""

from __future__ import annotations

import ast
import hashlib
import json
import platform
import subprocess
from collections.abc import Iterator
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import srste

PACKAGES = ("torch", "numpy", "numba", "scipy", "optuna", "cmaes", "hydra-core", "omegaconf", "mlflow")
_HOME = Path(srste.__file__).parent

# What computes every result, beside all of `srste.curve`; a study's own parts are added by their
# `_target_`. The rest of the package shows, stores and launches.
_ALWAYS = (
    "binarize",
    "certificate",
    "checks",
    "estimators.angles",
    "heldout",
    "losses",
    "problem",
    "randomness",
    "replay",
    "sampling.base",
    "sampling.storage",
    "study",
)


def _targets(node: Any) -> Iterator[str]:
    """Every ``_target_`` in a configuration."""
    if isinstance(node, dict):
        if isinstance(target := node.get("_target_"), str):
            yield target
        for value in node.values():
            yield from _targets(value)


@cache
def _source_of(module: str) -> bytes:
    """The source of a module, without importing it; empty where there is none to read."""
    try:
        spec = find_spec(module)
    except (ImportError, ValueError):
        return b""
    return Path(spec.origin).read_bytes() if spec and spec.origin and spec.has_location else b""


def _imported(module: str) -> set[str]:
    """The modules of its own package that a module names in its imports, wherever in it they stand."""
    package = module.partition(".")[0]
    found: set[str] = set()
    for node in ast.walk(ast.parse(_source_of(module))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name for name in found if name.partition(".")[0] == package and _source_of(name)}


@cache
def _with_imports(module: str) -> frozenset[str]:
    """A module and all modules of its own package that it is built on."""
    found, waiting = {module}, [module]
    while waiting:
        new = _imported(waiting.pop()) - found
        found |= new
        waiting += new
    return frozenset(found)


def code_digest(identity: dict[str, Any]) -> str:
    """A hash of the source that determines a result: of what all studies use, and of the modules that
    the configuration names, with what they import from their own package. A new estimator's file does
    not change other studies' keys."""
    named = (target.rpartition(".")[0] for target in _targets(identity))
    modules = {f"srste.{name}" for name in _ALWAYS} | _of_the_curve()
    modules = modules.union(*map(_with_imports, named))
    return _digest_of(frozenset(modules))


def _of_the_curve() -> set[str]:
    """The modules that the loss curve, exact or evaluated, is computed by, without the package's
    progress bars and errors."""
    curve = "srste.curve"
    return {name for name in _with_imports(curve) if f"{name}.".startswith(f"{curve}.")}


@cache
def _digest_of(modules: frozenset[str]) -> str:
    digest = hashlib.sha256()
    for module in sorted(modules):
        digest.update(module.encode() + b"\0" + _source_of(module) + b"\0")
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
    arithmetic = ("torch", "numpy", "numba", "optuna", "scipy", "cmaes")
    computing = {name: versions()[name] for name in arithmetic}
    whole = {"identity": identity, "code": code_digest(identity), "versions": computing}
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()
