"""Builds every job of a launch and tries it, so that what does not fit is refused before any work."""

import json
import shlex
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from srste.errors import address_without_password
from srste.launch import folders
from srste.launch.cluster.options import SlurmOptions
from srste.launch.command_line import program_command
from srste.launch.composing import Composed
from srste.launch.hydra_cache import CachingLoader
from srste.launch.job_config import Job
from srste.launch.job_runner import Folders, group_of
from srste.launch.overrides import quoted
from srste.launch.sweep import CHECKED_SWEEPER
from srste.store.manifest import Contents, JobContents, Launch
from srste.store.provenance import key_of, now

RUN_A_STUDY = 500
"""The most studies that have a run each in MLflow unless the launch says so."""

_UNTRACKED = {"uri": None, "experiment": "srste", "granularity": "study"}
"""What the configuration `tracking=none` leaves out."""


@dataclass(frozen=True)
class Plan:
    """A checked launch.

    root: its folder; folder_key: the setting that names it; launch: as its manifest is to have it;
    jobs: in Hydra's order; contents: what they compute; argv: for Hydra, ellipses written out,
    passwords left out; lines: of a sweep, each job's overrides, likewise; in_process: whether its jobs
    run in this process, one after the other; loader: that composed them; secret_uri: of the store, with
    its password; None if it has none.
    """

    root: Path
    folder_key: str
    launch: Launch
    jobs: list[Job]
    contents: Contents
    argv: list[str]
    lines: list[list[str]]
    in_process: bool
    loader: CachingLoader
    secret_uri: str | None

    @property
    def wants_report(self) -> bool:
        """Whether it ends with a report: a multirun without `report=false`."""
        return self.launch.multirun and all(job.config["report"] for job in self.jobs)

    @property
    def estimators_without_samples(self) -> list[str]:
        """The names of the estimators that ignore `samples`, if `samples` was given."""
        deterministic = {j.config["estimator"]["name"] for j in self.jobs if not j.estimator.stochastic}
        given = len({j.samples for j in self.jobs}) > 1 or self.jobs[0].samples != 1
        return sorted(deterministic) if given else []

    @property
    def keys_not_resumed(self) -> frozenset[str]:
        """The keys of the studies whose records are not to be reused."""
        pairs = zip(self.jobs, self.contents.jobs, strict=True)
        return frozenset(
            key for job, contents in pairs if not job.config["resume"] for key in contents.studies
        )


def check(composed: Composed, argv: Sequence[str]) -> Plan:
    """Build the parts of every job, and run each once at the smallest size. argv: as typed.

    Raises: UserError for whatever does not fit together, and for folders that cannot be written.
    """
    built: dict[str, Any] = {}
    with folders.hydra_config(composed.master):  # of this launch, also after another one in this process
        jobs = [Job(values, built) for values in composed.jobs]
    for job in {_rehearsal_key(job): job for job in jobs}.values():
        job.rehearse()
    if isinstance(composed.launcher, SlurmOptions):
        composed.launcher.check([job.config["device"] for job in jobs])
    folders.make_writable(composed.root, composed.folder_key)
    folders.make_writable(jobs[0].cache, "cache")

    command = composed.command
    # Hydra gets the folders as they are now: their names may contain the time of day.
    overrides = [*composed.overrides, f"{composed.folder_key}={quoted(str(composed.root.resolve()))}"]
    lines = []
    if composed.multirun:
        overrides.append(f"hydra.sweeper._target_={CHECKED_SWEEPER}")
        pairs = zip(composed.lines, composed.subdirs, strict=True)
        lines = [[*line, f"hydra.sweep.subdir={quoted(subdir)}"] for line, subdir in pairs]
    hydra_argv = command.argv(overrides)
    secret_uri = _secret_uri(composed.master)
    if secret_uri is not None:
        # Hydra writes its overrides and its configurations to disk.
        safe = f"++tracking.uri={quoted(address_without_password(secret_uri))}"
        hydra_argv = [*map(address_without_password, hydra_argv), safe]
        lines = [[*map(address_without_password, line), safe] for line in lines]
    contents = _contents(jobs, composed.subdirs)
    tracking = _UNTRACKED | jobs[0].config["tracking"]  # which all jobs share
    if tracking["granularity"] == "auto":
        tracking["granularity"] = "study" if len(contents.studies) <= RUN_A_STUDY else "job"
    return Plan(
        root=composed.root,
        folder_key=composed.folder_key,
        launch=Launch(
            id=uuid.uuid4().hex,
            name=" ".join(filter(folders.affects_results, command.typed)) or folders.DEFAULTS,
            overrides=list(map(address_without_password, command.result_settings)),
            multirun=composed.multirun,
            command=f"{program_command()} {shlex.join(map(address_without_password, argv))}".strip(),
            created=now(),
            tracking=tracking,
        ),
        jobs=jobs,
        contents=contents,
        argv=hydra_argv,
        lines=lines,
        in_process=composed.launcher is None,
        loader=composed.loader,
        secret_uri=secret_uri,
    )


def _contents(jobs: list[Job], subdirs: list[str]) -> Contents:
    contents = []
    for job, subdir in zip(jobs, subdirs, strict=True):
        places = Folders(Path(subdir), Path())
        studies: dict[str, str] = {}
        groups: dict[str, None] = {}
        for identity in job.identities():
            key = key_of(identity)
            studies[key] = places.study(identity, key).as_posix()
            groups[group_of(identity)] = None
        pretraining = key_of(job.pretraining_identity()) if job.pretraining.steps else None
        contents.append(JobContents(subdir, studies, list(groups), pretraining))
    return Contents(contents)


def _secret_uri(config: DictConfig) -> str | None:
    """Return the address of the store if it contains a password."""
    uri = OmegaConf.select(config, "tracking.uri")
    return str(uri) if uri is not None and address_without_password(str(uri)) != str(uri) else None


def _rehearsal_key(job: Job) -> str:
    """Return what a rehearsal depends on."""
    keys = ("model", "data", "loss", "estimator", "sampling", "evaluation", "diagnostics")
    parts = {key: job.config[key] for key in keys}
    return json.dumps(parts, sort_keys=True)
