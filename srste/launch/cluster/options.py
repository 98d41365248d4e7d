"""The settings of the launchers, checked before anything is submitted."""

import os
import shutil
import subprocess
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from omegaconf import DictConfig

from srste.errors import UserError, first_line
from srste.launch.validation import TEXT, Rule, each, integer, matching, nullable, plain

MOST_TASKS_AT_ONCE = 1_000
"""The longest array of Slurm jobs; the cluster's own limit may be lower."""

_FORBIDDEN = (
    "--(array|job-name|requeue|no-requeue|parsable|clusters|cluster|output|error|signal|open-mode|wait|"
    "test-only|wrap|dependency|nodes|partition|account|time|mem|cpus-per-task|gpus-per-node|export)(=|$)"
)
_OTHER_OPTION = matching(
    rf"(?!{_FORBIDDEN})--[a-z][a-z-]*(=.+)?",
    "an option of sbatch, as --qos=long, that neither has a key of its own nor is the launcher's: not "
    "array, job-name, output, error, signal, (no-)requeue, clusters, dependency, export, parsable, wait",
)


def _option(default: Any, rule: Rule) -> Any:
    """Declare an option: its value where none is given, and what is allowed."""
    return field(default=default, metadata={"rule": rule})


@dataclass(frozen=True)
class LocalOptions:
    """workers: concurrent processes; None: one per core. jobs_per_task: None: spread evenly."""

    workers: int | None = _option(None, nullable(integer(1)))
    jobs_per_task: int | None = _option(None, nullable(integer(1)))

    name: ClassVar[str] = "local_parallel"

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

    partition: str | None = _option(None, nullable(TEXT))
    account: str | None = _option(None, nullable(TEXT))
    time: int = _option(60, integer(1))
    memory: str = _option("2G", matching(r"\d+[KMGT]?", "a number with K, M, G or T, as 2G"))
    cpus: int = _option(1, integer(1))
    gpus: int = _option(0, integer(0))
    array_parallelism: int = _option(100, integer(1))
    jobs_per_task: int = _option(10, integer(1))
    requeues: int = _option(3, integer(0))
    setup: Sequence[str] = _option((), each(TEXT))
    sbatch: Sequence[str] = _option((), each(_OTHER_OPTION))

    name: ClassVar[str] = "slurm"

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
    rules: dict[str, Rule] = {option.name: option.metadata["rule"] for option in fields(kind)}
    for key, value in values.items():
        if key not in rules:
            keys = ", ".join(rules)
            raise UserError(f"hydra.launcher.{key}={value}: no such key; known are {keys}")
        if complaint := rules[key](value):
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
