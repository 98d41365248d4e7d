"""The provenance of a result: code, versions, commit. Part of a record's key, and on every run.

The code in a key is that of `srste.launch.job_runner`, which runs a study from its configuration to
the record, of the classes that the study's `_target_`s name, and of all modules that these import
(see `srste.store.sources`), but for `NOT_HASHED` and what only that imports. So a module counts as
soon as one that counts imports it, or a configuration names it.
"""

import datetime
import os
import platform
import subprocess
from collections.abc import Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import srste
from srste.store.files import checksum, hash_of
from srste.store.sources import modules_of, source_of

ARITHMETIC = ("torch", "numpy", "numba", "optuna", "scipy", "cmaes")
"""The packages that a result is computed with; a key has their versions."""
PACKAGES = (*ARITHMETIC, "hydra-core", "omegaconf", "mlflow")
NOT_HASHED = ("srste.launch.progress",)
"""Modules without influence on a result, though code that counts imports them."""
# The public face starts the work and takes no part in it; Hydra only calls what a configuration names.
_PUBLIC = ("srste.api", "srste.networks.converting", "srste.testing")
_NOT_FOLLOWED = (*NOT_HASHED, *_PUBLIC, *ARITHMETIC, "hydra")
_FOLDER = Path(srste.__file__).resolve().parent


def _targets(node: Any) -> Iterator[str]:
    """Yield every ``_target_`` in a configuration, and the paths that Hydra's targets look up."""
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
    """Return the modules whose source determines the result of a study of these ``_target_``s."""
    return modules_of({"srste.launch.job_runner", *targets}, without=_NOT_FOLLOWED)


@cache
def _digest_of(targets: frozenset[str]) -> str:
    modules = sorted(code_modules(targets))
    return checksum(b"".join(m.encode() + b"\0" + source_of(m) + b"\0" for m in modules))


@cache
def versions() -> dict[str, str]:
    """Return the versions of srste, Python and :data:`PACKAGES`."""
    packages = {name: version(name) for name in PACKAGES}
    return {"srste": srste.__version__, "python": platform.python_version(), **packages}


def now() -> str:
    """Return the time, UTC, ISO 8601."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


@cache
def git_commit() -> str:
    """Return the commit of the source, with "+changes" if files differ; "unknown" outside git."""
    return _commit_of(_FOLDER)


def _commit_of(package: Path) -> str:
    # Git reads no checkout of another user unless told to. This one is trusted, since its code runs; one
    # further up that contains it is still refused.
    checkout = str(package.parent)
    options = ("-C", checkout, "-c", f"safe.directory={checkout}", "-c", "core.fsmonitor=false")
    # Git's variables may point to another repository, for example in a hook.
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
    """Return the key (64 hexadecimal digits) of a result: a hash of its configuration, the code and
    the versions of the packages that it is computed with."""
    code = _digest_of(frozenset(_targets(identity)))
    computing = {name: versions()[name] for name in ARITHMETIC}
    return hash_of({"identity": identity, "code": code, "versions": computing})
