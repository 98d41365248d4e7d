"""The manifest of a launch, kept in its folder: its name and id, and the studies it asks for."""

import json
import os
import urllib.parse
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from srste.errors import UserError
from srste.store.files import write_atomically

LAUNCH, CONTENTS = "launch.json", "contents.json"


@dataclass(frozen=True)
class Launch:
    """One launch.

    id, name: kept when the same command is repeated in the same folder; the name is for people.
    overrides: those that determine results, written out and sorted, and multirun: whether by -m;
    they tell one command from another. command: as last typed. created: UTC, ISO 8601. tracking:
    name, uri (without password), experiment, granularity.
    """

    id: str
    name: str
    overrides: list[str]
    multirun: bool
    command: str
    created: str
    tracking: dict[str, Any]

    @property
    def on_server(self) -> bool:
        """Whether its store is a server, which jobs on other machines can write to. Decided without
        importing MLflow, which takes longer than a job's studies."""
        return is_server(self.tracking["uri"] or os.environ.get("MLFLOW_TRACKING_URI", ""))

    @property
    def title(self) -> str:
        """For example "multirun: estimator=sr_ste samples=1,2,...,10"."""
        return f"{'multirun' if self.multirun else 'job'}: {self.name}"


def is_server(uri: str) -> bool:
    """Return whether that is the address of a server."""
    return urllib.parse.urlsplit(uri).scheme in ("http", "https")


@dataclass(frozen=True)
class JobContents:
    """One job. folder: of its output, relative to the launch's. studies: the folder of each study's
    record, likewise, by key, baselines included. groups: the keys of its studies without the batch.
    pretraining: the key of the pretraining that its studies start from, if any."""

    folder: str
    studies: dict[str, str]
    groups: list[str]
    pretraining: str | None


@dataclass(frozen=True)
class Contents:
    """The jobs that a launch asks for."""

    jobs: list[JobContents]

    @cached_property
    def pretrainings(self) -> list[str]:
        """The keys of the pretrainings, each once."""
        return list(dict.fromkeys(job.pretraining for job in self.jobs if job.pretraining))

    @cached_property
    def studies(self) -> dict[str, str]:
        """The folder of each study's record, relative to the launch's, by key; studies that several
        jobs share are there once."""
        return {key: folder for job in self.jobs for key, folder in job.studies.items()}

    @cached_property
    def everything(self) -> frozenset[str]:
        """The keys of studies, groups and pretrainings."""
        groups = (key for job in self.jobs for key in job.groups)
        return frozenset([*self.studies, *groups, *self.pretrainings])


def refuse_another_command(key: str, root: Path, launch: Launch) -> None:
    """Raise UserError if the folder holds the launch of another command. key: of the setting that
    names the folder."""
    earlier = read_launch(root)
    if earlier and (earlier.overrides, earlier.multirun) != (launch.overrides, launch.multirun):
        raise UserError(
            f"{key}={root}: holds the launch of another command ({earlier.command}); name another folder"
        )


def open_launch(root: Path, launch: Launch, contents: Contents) -> Launch:
    """Write the launch into its folder, made if missing; an earlier one there is continued. Returns
    the launch that was written."""
    if earlier := read_launch(root):
        launch = replace(launch, id=earlier.id, name=earlier.name, created=earlier.created)
    root.mkdir(parents=True, exist_ok=True)
    write_atomically(root / CONTENTS, json.dumps(asdict(contents)).encode())
    write_atomically(root / LAUNCH, json.dumps(asdict(launch), indent=1).encode())
    return launch


def read_launch(root: Path) -> Launch | None:
    """Return the launch of that folder; None if there is none that can be read."""
    try:
        return Launch(**json.loads((root / LAUNCH).read_bytes()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def read_contents(root: Path) -> Contents | None:
    """Return what the launch of that folder asks for; None if there is none that can be read."""
    try:
        jobs = json.loads((root / CONTENTS).read_bytes())["jobs"]
        return Contents([JobContents(**job) for job in jobs])
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return None
