"""The settings of the launchers, checked before anything is submitted."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import ClassVar

from omegaconf import DictConfig

from srste.errors import UserError, first_line
from srste.launch.validation import TEXT, Rule, each, integer, matching, nullable, plain

MOST_TASKS_AT_ONCE = 1_000
"""The longest array of Slurm jobs; the cluster's own limit may be lower."""

_FORBIDDEN = (
    "--(array|job-name|requeue|no-requeue|parsable|clusters|cluster|output|error|signal|open-mode|wait|"
    "test-only|wrap|dependency|nodes|partition|account|time|mem|cpus-per-task|gpus-per-node|export)(=|$)"
)
_OTHER_OPTIONS = (
    "an option of sbatch, as --qos=long, that neither has a key of its own nor is the launcher's: not "
    "array, job-name, output, error, signal, (no-)requeue, clusters, dependency, export, parsable, wait"
)


@dataclass(frozen=True)
class LocalOptions:
    """workers: concurrent processes; None: one per core. jobs_per_task: None: spread evenly."""

    workers: int | None = None
    jobs_per_task: int | None = None

    name: ClassVar[str] = "local_parallel"
    rules: ClassVar[dict[str, Rule]] = {
        "workers": nullable(integer(1)),
        "jobs_per_task": nullable(integer(1)),
    }

    @property
    def concurrency(self) -> int:
        """The number of concurrent processes."""
        return self.workers or len(os.sched_getaffinity(0))

    def task_size(self, jobs: int) -> int:
        """Return how many of that many jobs a task runs."""
        if self.jobs_per_task:
            return self.jobs_per_task
        # Each process imports everything anew: of many jobs, at most 8 tasks per core.
        evenly, in_eighths = -(-jobs // self.concurrency), -(-jobs // (8 * self.concurrency))
        return max(1, min(10, evenly), in_eighths)


@dataclass(frozen=True)
class SlurmOptions:
    """See `conf/hydra/launcher/slurm.yaml`."""

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
        "partition": nullable(TEXT),
        "account": nullable(TEXT),
        "time": integer(1),
        "memory": matching(r"\d+[KMGT]?", "a number with K, M, G or T, as 2G"),
        "cpus": integer(1),
        "gpus": integer(0),
        "array_parallelism": integer(1),
        "jobs_per_task": integer(1),
        "requeues": integer(0),
        "setup": each(TEXT),
        "sbatch": each(matching(rf"(?!{_FORBIDDEN})--[a-z][a-z-]*(=.+)?", _OTHER_OPTIONS)),
    }

    @property
    def sbatch_options(self) -> dict[str, str | bool]:
        """The options of `sbatch`, by name."""
        pairs = (option.removeprefix("--").partition("=") for option in self.sbatch)
        return {name: value if equals else True for name, equals, value in pairs}

    def check(self, devices: Collection[str]) -> None:
        """Refuse (UserError) an unknown partition, and jobs on a GPU if none is requested."""
        for device in devices:
            if device != "cpu" and not self.gpus:
                raise UserError(f"hydra.launcher.gpus=0: must be at least 1 for device={device}")
        if shutil.which("sbatch") is None:
            raise UserError(
                "hydra/launcher=slurm: there is no sbatch on this machine; run it where Slurm is, or "
                "use hydra/launcher=local_parallel"
            )
        partitions = output_of("sinfo", "--noheader", "--format=%R").split()
        if self.partition is not None and self.partition not in partitions:
            allowed = ", ".join(sorted(set(partitions)))
            raise UserError(f"hydra.launcher.partition={self.partition}: must be one of {allowed}")

    def task_size(self, jobs: int) -> int:
        """Return how many of that many jobs a task runs."""
        return self.jobs_per_task


Options = LocalOptions | SlurmOptions

_OF_TARGET: dict[str, type[LocalOptions] | type[SlurmOptions]] = {
    "hydra_plugins.srste_launcher.LocalLauncher": LocalOptions,
    "hydra_plugins.srste_launcher.SlurmLauncher": SlurmOptions,
}


def options_of(node: DictConfig) -> Options | None:
    """Return the options of the launcher that was chosen; None for a launcher of Hydra's.

    Raises: UserError for a value that is not allowed.
    """
    values = plain(node)
    kind = _OF_TARGET.get(values.pop("_target_", ""))
    if kind is None:
        return None
    for key, value in values.items():
        if key not in kind.rules:
            keys = ", ".join(kind.rules)
            raise UserError(f"hydra.launcher.{key}={value}: no such key; known are {keys}")
        if complaint := kind.rules[key](value):
            raise UserError(f"hydra.launcher.{key}={value}: {complaint}")
    return kind(**values)


def output_of(*command: str) -> str:
    """Return what one of Slurm's commands prints. Raises: UserError when it fails or takes 30 s."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=30,
            start_new_session=True,  # out of reach of the terminal's Ctrl-C
        )  # fmt: skip
    except subprocess.CalledProcessError as error:
        why = (error.stderr or error.stdout).strip().splitlines() or [f"exit code {error.returncode}"]
        raise UserError(f"hydra/launcher=slurm: {command[0]} says: {why[-1]}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UserError(f"hydra/launcher=slurm: {command[0]}: {first_line(error)}") from error
    return done.stdout
