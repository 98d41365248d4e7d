"""What a launch is: its name, its command and an identity of its own, kept in its root folder."""

from __future__ import annotations

import datetime
import json
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path

from srste.files import write_atomically

FILE = "launch.json"


@dataclass(frozen=True)
class Launch:
    """id: unique, kept when the same command goes on in the same folder. name: for people.
    multirun: whether by -m. command: as it was typed, expanded. created: UTC, ISO 8601."""

    id: str
    name: str
    multirun: bool
    command: str
    created: str

    @property
    def title(self) -> str:
        """For people: for example "multirun: estimator=sr_ste samples=1,2,...,10"."""
        return f"{'multirun' if self.multirun else 'job'}: {self.name}"


def open_launch(root: Path, name: str, multirun: bool, command: str) -> Launch:
    """The launch of that folder, made (and the folder with it) if there is none yet."""
    if (known := read_launch(root)) is not None:
        return known
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
    launch = Launch(uuid.uuid4().hex, name, multirun, command, now)
    root.mkdir(parents=True, exist_ok=True)
    write_atomically(root / FILE, json.dumps(asdict(launch), indent=1).encode())
    return launch


def read_launch(root: Path) -> Launch | None:
    """The launch of that folder; None if there is none, or no longer a legible one."""
    try:
        return Launch(**json.loads((root / FILE).read_bytes()))
    except (FileNotFoundError, ValueError, TypeError):
        return None
