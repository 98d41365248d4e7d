"""What a launch is, kept in its folder: a name and an identity of its own, and what it asks for."""

from __future__ import annotations

import datetime
import json
import os
import urllib.parse
import uuid
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from srste.errors import UserError
from srste.store.files import write_atomically

LAUNCH, CONTENTS = "launch.json", "contents.json"


@dataclass(frozen=True)
class Launch:
    """id: unique. name: for people. Both are kept when the same command goes on in the same folder.
    overrides: of its results, written out and sorted, and multirun: whether by -m; they tell one command
    from another. command: as it was last typed. created: UTC, ISO 8601. tracking: where its results go:
    name, uri (without password), experiment, granularity."""

    id: str
    name: str
    overrides: list[str]
    multirun: bool
    command: str
    created: str
    tracking: dict[str, Any]

    @property
    def on_server(self) -> bool:
        """Whether its store is a server, which jobs on other machines can write to. Told without
        importing MLflow, which takes a job longer than its studies."""
        return is_server(self.tracking["uri"] or os.environ.get("MLFLOW_TRACKING_URI", ""))

    @property
    def title(self) -> str:
        """For people: for example "multirun: estimator=sr_ste samples=1,2,...,10"."""
        return f"{'multirun' if self.multirun else 'job'}: {self.name}"


def is_server(uri: str) -> bool:
    """Whether that is the address of a server."""
    return urllib.parse.urlsplit(uri).scheme in ("http", "https")


@dataclass(frozen=True)
class JobContents:
    """One job. folder: of its output, below the launch's ("." if that is the same); studies: by key, the
    folder of each study's record, below the launch's, baselines included; groups: their keys without
    the batch; pretraining: the key of the one that its studies start from, if there is any."""

    folder: str
    studies: dict[str, str]
    groups: list[str]
    pretraining: str | None

    @property
    def keys(self) -> list[str]:
        """Of its studies."""
        return list(self.studies)


@dataclass(frozen=True)
class Contents:
    """All that a launch asks for."""

    jobs: list[JobContents]

    @cached_property
    def pretrainings(self) -> list[str]:
        """The keys of those that studies start from, each once."""
        return list(dict.fromkeys(job.pretraining for job in self.jobs if job.pretraining))

    @cached_property
    def studies(self) -> dict[str, str]:
        """The folder of each study's record, below the launch's, by the study's key; one that several
        jobs share counts once."""
        return {key: folder for job in self.jobs for key, folder in job.studies.items()}

    @cached_property
    def keys(self) -> frozenset[str]:
        """Of all studies."""
        return frozenset(self.studies)

    @cached_property
    def everything(self) -> frozenset[str]:
        """The keys of studies, groups and pretrainings."""
        groups = (key for job in self.jobs for key in job.groups)
        return self.keys.union(groups, self.pretrainings)


def refuse_another_command(key: str, root: Path, overrides: list[str], multirun: bool) -> None:
    """Raises: UserError where the folder holds the launch of another command. key: of the setting that
    names the folder."""
    before = read_launch(root)
    if before and (before.overrides, before.multirun) != (overrides, multirun):
        raise UserError(
            f"{key}={root}: holds the launch of another command ({before.command}); name another folder"
        )


def open_launch(
    root: Path,
    name: str,
    overrides: list[str],
    multirun: bool,
    command: str,
    tracking: dict[str, Any],
    contents: Contents,
) -> Launch:
    """The launch of that folder, made (and the folder with it) if there is none yet."""
    before = read_launch(root)
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
    launch = Launch(
        id=before.id if before else uuid.uuid4().hex,
        name=before.name if before else name,
        overrides=overrides,
        multirun=multirun,
        command=command,
        created=before.created if before else now,
        tracking=tracking,
    )
    root.mkdir(parents=True, exist_ok=True)
    write_atomically(root / CONTENTS, json.dumps(asdict(contents)).encode())
    write_atomically(root / LAUNCH, json.dumps(asdict(launch), indent=1).encode())
    return launch


def read_launch(root: Path) -> Launch | None:
    """The launch of that folder; None if there is none, or no longer a legible one."""
    try:
        return Launch(**json.loads((root / LAUNCH).read_bytes()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def read_contents(root: Path) -> Contents | None:
    """What the launch of that folder asks for; None as in :func:`read_launch`."""
    try:
        plain = json.loads((root / CONTENTS).read_bytes())
        return Contents([JobContents(**job) for job in plain["jobs"]])
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return None
