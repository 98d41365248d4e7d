"""The settings of the launchers, checked before anything is submitted."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass, field, fields
from typing import ClassVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from srste.errors import UserError, first_line
from srste.launch.validation import EachOf, Integer, Or, Pattern, Rule, Text

MOST_TASKS_AT_ONCE = 1_000
"""An array of Slurm jobs is at most that long; the cluster's own limit may be lower."""


_TAKEN = (
    "--(array|job-name|requeue|no-requeue|parsable|clusters|cluster|output|error|signal|open-mode|wait|"
    "test-only|wrap|dependency|nodes|partition|account|time|mem|cpus-per-task|gpus-per-node|export)(=|$)"
)
_OTHER_OPTIONS = (
    "an option of sbatch, as --qos=long, that neither has a key of its own nor is the launcher's: not "
    "array, job-name, output, error, signal, (no-)requeue, clusters, dependency, export, parsable, wait"
)


@dataclass(frozen=True)
class LocalOptions:
    """workers: processes at once; None: one a core. jobs_per_task: None: shared out evenly."""

    workers: int | None = None
    jobs_per_task: int | None = None

    name: ClassVar[str] = "local_parallel"
    rules: ClassVar[dict[str, Rule]] = {"workers": Or(Integer(1)), "jobs_per_task": Or(Integer(1))}

    def check(self) -> None:
        """Nothing beyond the rules."""

    @property
    def at_once(self) -> int:
        """Processes at once."""
        return self.workers or len(os.sched_getaffinity(0))

    def packed(self, jobs: int) -> int:
        """How many of that many jobs a task runs."""
        if self.jobs_per_task:
            return self.jobs_per_task
        # Each process starts Python and its imports anew: of many jobs not more than some tasks a core.
        evenly, in_eighths = -(-jobs // self.at_once), -(-jobs // (8 * self.at_once))
        return max(1, min(10, evenly), in_eighths)


@dataclass(frozen=True)
class SlurmOptions:
    """As in `conf/hydra/launcher/slurm.yaml`, which says what each is."""

    partition: str | None = None
    account: str | None = None
    time: int = 60
    memory: str = "2G"
    cpus: int = 1
    gpus: int = 0
    array_parallelism: int = 100
    jobs_per_task: int = 10
    requeues: int = 3
    setup: list[str] = field(default_factory=list)
    sbatch: list[str] = field(default_factory=list)

    name: ClassVar[str] = "slurm"
    rules: ClassVar[dict[str, Rule]] = {
        "partition": Or(Text()),
        "account": Or(Text()),
        "time": Integer(1),
        "memory": Pattern(r"\d+[KMGT]?", "a number with K, M, G or T, as 2G"),
        "cpus": Integer(1),
        "gpus": Integer(0),
        "array_parallelism": Integer(1),
        "jobs_per_task": Integer(1),
        "requeues": Integer(0),
        "setup": EachOf(Text()),
        "sbatch": EachOf(Pattern(rf"(?!{_TAKEN})--[a-z][a-z-]*(=.+)?", _OTHER_OPTIONS)),
    }

    @property
    def more(self) -> dict[str, str | bool]:
        """The other options of sbatch, by name."""
        pairs = (option.removeprefix("--").partition("=") for option in self.sbatch)
        return {name: value if equals else True for name, equals, value in pairs}

    def check(self) -> None:
        """Asks the cluster for what only it knows. Raises: UserError."""
        if shutil.which("sbatch") is None:
            raise UserError(
                "hydra/launcher=slurm: there is no sbatch on this machine; run it where Slurm is, or "
                "use hydra/launcher=local_parallel"
            )
        partitions = asked("sinfo", "--noheader", "--format=%R").split()
        if self.partition is not None and self.partition not in partitions:
            known = ", ".join(sorted(set(partitions)))
            raise UserError(f"hydra.launcher.partition={self.partition}: must be one of {known}")

    def packed(self, jobs: int) -> int:
        """How many of that many jobs a task runs."""
        return self.jobs_per_task


Options = LocalOptions | SlurmOptions

_OF_TARGET: dict[str, type[LocalOptions] | type[SlurmOptions]] = {
    "hydra_plugins.srste_launcher.LocalLauncher": LocalOptions,
    "hydra_plugins.srste_launcher.SlurmLauncher": SlurmOptions,
}


def options_of(node: DictConfig) -> Options | None:
    """The options of the launcher that was chosen; None if it is not one of ours.

    Raises: UserError for a value that is not allowed.
    """
    try:
        plain = OmegaConf.to_container(node, resolve=True)
    except OmegaConfBaseException as error:
        raise UserError(f"{getattr(error, 'full_key', '')}: {first_line(error)}") from error
    assert isinstance(plain, dict)
    values = {str(key): value for key, value in plain.items()}
    kind = _OF_TARGET.get(values.pop("_target_", ""))
    if kind is None:
        return None
    known = [f.name for f in fields(kind)]
    for key, value in values.items():
        if key not in known:
            raise UserError(f"hydra.launcher.{key}={value}: no such key; known are {', '.join(known)}")
        rule = kind.rules.get(key)
        if rule and (complaint := rule.broken_by(value)):
            raise UserError(f"hydra.launcher.{key}={value}: {complaint}")
    return kind(**values)


def asked(*command: str, patience: float = 30) -> str:
    """What one of Slurm's commands answers. Raises: UserError when it fails or does not answer."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=patience,
            start_new_session=True,  # the terminal's Ctrl-C is not for it
        )  # fmt: skip
    except subprocess.CalledProcessError as error:
        why = (error.stderr or error.stdout).strip().splitlines() or [f"exit code {error.returncode}"]
        raise UserError(f"hydra/launcher=slurm: {command[0]} says: {why[-1]}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UserError(f"hydra/launcher=slurm: {command[0]}: {first_line(error)}") from error
    return done.stdout
