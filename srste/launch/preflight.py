"""Everything that can be refused before any work is: the whole sweep is composed and checked first."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from hydra._internal.utils import _locate
from hydra.core.override_parser.types import ChoiceSweep, Override
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from srste.errors import UserError, address_without_password, in_one_line
from srste.launch.cluster.options import Options, SlurmOptions, options_of
from srste.launch.command_line import CommandLine, read
from srste.launch.composer import Composer
from srste.launch.folders import (
    DEFAULTS,
    as_in_the_job,
    bearable,
    below,
    below_and_apart,
    common_folder,
    folder_name,
    folder_of,
    is_of_the_result,
    register_resolvers,
    resolved,
    writable,
)
from srste.launch.job_config import KEYS, Job, building_once
from srste.launch.job_runner import Folders, group_of
from srste.launch.overrides import key_of_line, line_of, parse, quoted
from srste.launch.sweep import CHECKED_SWEEPER, hand_over, job_lines, parameters
from srste.store.manifest import Contents, JobContents
from srste.store.provenance import key_of


@dataclass(frozen=True)
class Plan:
    """A checked launch.

    root: its folder; name: for people, of what determines its results; overrides: what determines
    them, written out and sorted; typed: the command line as it was typed; jobs: in Hydra's order;
    contents: what they ask for; argv: what Hydra is to see, ellipses written out, passwords left out;
    secret_uri: of the store, with its password; None if it has none.
    """

    root: Path
    name: str
    overrides: list[str]
    typed: list[str]
    multirun: bool
    jobs: list[Job]
    contents: Contents
    argv: list[str]
    secret_uri: str | None

    @property
    def tracking(self) -> dict[str, Any]:
        """The tracking that all jobs share, without password."""
        nothing = {"uri": None, "experiment": "srste", "granularity": "study"}
        return nothing | self.jobs[0].tracking

    @property
    def folder_key(self) -> str:
        """The key of the setting that names its folder."""
        return "hydra.sweep.dir" if self.multirun else "hydra.run.dir"

    @property
    def wants_report(self) -> bool:
        """Whether it is to end with a report: a multirun, unless told not to."""
        return self.multirun and all(job.config["report"] for job in self.jobs)

    @property
    def that_ignore_samples(self) -> list[str]:
        """The names of the estimators for which `samples` was given in vain."""
        deterministic = {j.config["estimator"]["name"] for j in self.jobs if not j.estimator.stochastic}
        given = len({j.samples for j in self.jobs}) > 1 or self.jobs[0].samples != 1
        return sorted(deterministic) if given else []

    @property
    def to_run_again(self) -> frozenset[str]:
        """The keys of the studies whose records are not to be reused."""
        pairs = zip(self.jobs, self.contents.jobs, strict=True)
        return frozenset(key for job, contents in pairs if not job.resume for key in contents.keys)


@dataclass(frozen=True)
class _Checked:
    """The jobs of a command line. folders: of each, below the root. master: the configuration that
    they have in common. overrides: what Hydra is to compose that of. lines: the overrides of each job,
    of a sweep."""

    root: Path
    jobs: list[Job]
    folders: list[str]
    master: DictConfig
    launcher: Options | None
    overrides: list[str]
    lines: list[list[str]]


def check(argv: Sequence[str], config_dir: Path) -> Plan | list[str]:
    """Composes and checks every job of this command line, and leaves those of a sweep to the sweeper.

    Returns: the plan; where Hydra is only asked to show something (`--help`, `--cfg`, ...), what it is
        to see, after checking the overrides.
    Raises: UserError for whatever is not allowed.
    """
    command = read(argv, config_dir)
    bearable("the working folder", Path.cwd())
    register_resolvers(folder_name(command.of_the_result))
    if not command.composes:
        return command.argv(command.overrides)
    parsed = parse(command.overrides)
    composer = Composer(command, config_dir)
    _not_removed(parsed)
    _slashes(parsed, composer)
    multirun = command.options.multirun or _asks_for_multirun(parsed, composer)
    if not multirun or command.only_shows:
        _single_values(parsed)
    if command.only_shows:
        _shown(composer.compose(command.overrides), command)
        return command.argv(command.overrides)
    swept = _swept(command, parsed, composer) if multirun else _single(command, composer)
    _gpus(swept.jobs, swept.launcher)
    for job in {_parts(job): job for job in swept.jobs}.values():
        job.rehearse()
    if swept.launcher is not None:
        swept.launcher.check()
    where = "hydra.sweep.dir" if multirun else "hydra.run.dir"
    writable(swept.root, where)
    writable(swept.jobs[0].cache, "cache")
    # The folders go to Hydra as they were settled here: what they are made of may be the time of day.
    hydra_argv = command.argv([*swept.overrides, f"{where}={quoted(str(swept.root.resolve()))}"])
    lines = (
        [
            [*line, f"hydra.sweep.subdir={quoted(folder)}"]
            for line, folder in zip(swept.lines, swept.folders, strict=True)
        ]
        if multirun
        else []
    )
    if multirun:
        hydra_argv.append(f"hydra.sweeper._target_={CHECKED_SWEEPER}")
    secret_uri = _secret_uri(swept.master)
    if secret_uri is not None:
        # Hydra writes its overrides and its configurations to disk.
        safe = f"++tracking.uri={quoted(address_without_password(secret_uri))}"
        hydra_argv = [*map(address_without_password, hydra_argv), safe]
        lines = [[*map(address_without_password, line), safe] for line in lines]
    hand_over(lines)
    return Plan(
        root=swept.root,
        name=" ".join(filter(is_of_the_result, command.typed)) or DEFAULTS,
        overrides=list(map(address_without_password, command.of_the_result)),
        typed=list(argv),
        multirun=multirun,
        jobs=swept.jobs,
        contents=_contents(swept.jobs, swept.folders),
        argv=hydra_argv,
        secret_uri=secret_uri,
    )


def _single(command: CommandLine, composer: Composer) -> _Checked:
    """The one job of a command line."""
    config = composer.compose(command.overrides)
    config.hydra.mode = RunMode.RUN
    launcher = _launcher(config, multirun=False)
    with as_in_the_job(config):
        root = folder_of("hydra.run.dir", resolved(config, "hydra.run.dir"))
        _settled(config, root)
        _logging_resolves(config)
        job = Job(config)
    return _Checked(root, [job], ["."], config, launcher, command.overrides, [])


def _swept(command: CommandLine, parsed: list[Override], composer: Composer) -> _Checked:
    """The jobs of a sweep."""
    _nothing_of_the_launch_swept(parsed)
    multirun = f"hydra.mode={RunMode.MULTIRUN.name}"
    loose, master = composer.compose_loosely([*command.overrides, multirun], RunMode.MULTIRUN)
    launcher = _launcher(master, multirun=True)
    resolved(master, "hydra.sweep.dir")  # which Hydra does before there are jobs
    of_hydra = [line_of(o) for o in parsed if o.is_hydra_override()]
    of_jobs = [line_of(o) for o in parsed if not o.is_hydra_override()]
    lines = job_lines(master, of_jobs, composer.loader)
    differing = [key for o in parsed if o.is_sweep_override() for key in [key_of_line(line_of(o))]]
    differing += map(key_of_line, parameters(master))
    register_resolvers(folder_name(command.of_the_result), frozenset(differing))
    jobs, roots, folders, build = [], [], [], building_once()
    settings = _Settings(master, of_jobs)
    for number, line in enumerate(lines):
        config = composer.compose([*of_hydra, multirun, *line])  # some 200 kB: none is kept
        settings.check(config, line)
        OmegaConf.copy_cache(master, config)
        with as_in_the_job(config, number):
            roots.append(resolved(config, "hydra.sweep.dir"))
            folders.append(resolved(config, "hydra.sweep.subdir"))
            _settled(config, Path(roots[-1], folders[-1]))
            if number == 0:
                _logging_resolves(config)
            jobs.append(Job(config, isinstance(launcher, SlurmOptions), build))
    root = common_folder(roots)
    if len(set(roots)) > 1:
        folders = [os.path.relpath(Path(*both), root) for both in zip(roots, folders, strict=True)]
    folders = [str(PurePath(folder)) for folder in folders]
    below_and_apart(folders)
    root = folder_of("hydra.sweep.dir", str(root))
    return _Checked(root, jobs, folders, master, launcher, loose[:-1], lines)


def _settled(config: DictConfig, folder: Path) -> None:
    """Tells a job's configuration its folder, and checks what Hydra writes there. Raises: UserError."""
    config.hydra.runtime.output_dir = str(folder.absolute())
    below("hydra.job.name", resolved(config, "hydra.job.name"))
    below("hydra.output_subdir", resolved(config, "hydra.output_subdir", null="none"))


def _logging_resolves(config: DictConfig) -> None:
    """Raises: UserError for a setting of a job's logging that does not."""
    try:
        for node in ("job_logging", "hydra_logging"):
            OmegaConf.to_container(config.hydra[node], resolve=True)
    except OmegaConfBaseException as error:
        raise UserError(f"{error.full_key}: {in_one_line(error)}") from error


def _shown(config: DictConfig, command: CommandLine) -> None:
    """Raises: UserError where what is to be shown does not resolve."""
    if command.options.resolve:
        with as_in_the_job(config):
            Job(config)


class _Settings:
    """Those of Hydra that a launch has one of: a choice that jobs differ in has no say in them."""

    _NODES = ("launcher", "sweeper", "callbacks")

    def __init__(self, master: DictConfig, overrides: list[str]) -> None:
        self._given = set(map(key_of_line, overrides))
        self._of_master = self._read(master)

    def check(self, config: DictConfig, line: list[str]) -> None:
        """Raises: UserError for a job whose choices set what would silently be left out."""
        of_job = self._read(config)
        for key, value in of_job.items():
            if value != self._of_master[key]:
                chosen = next((o for o in line if o.startswith("experiment=")), " ".join(line))
                what = "sweeper.params" if key == "sweeper" else key
                raise UserError(
                    f"{chosen}: sets hydra.{what}, which has no effect where jobs differ in that; "
                    "give it on the command line, or run one after the other"
                )

    def _read(self, config: DictConfig) -> dict[str, Any]:
        read: dict[str, Any] = {
            name: OmegaConf.to_container(config.hydra[name], resolve=False) for name in self._NODES
        }
        swept = read["sweeper"].get("params") or {}
        # What the command gives of it wins.
        read["sweeper"]["params"] = {k: v for k, v in swept.items() if k not in self._given}
        return read


def _launcher(master: DictConfig, multirun: bool) -> Options | None:
    """The options of the launcher, if it is one of ours. Raises: UserError."""
    launcher = options_of(master.hydra.launcher)
    if launcher is not None and not multirun:
        raise UserError(f"hydra/launcher={launcher.name}: needs -m (--multirun)")
    for key in ("hydra.launcher", *(f"hydra.callbacks.{name}" for name in master.hydra.callbacks)):
        node = OmegaConf.select(master, key)
        _there_is(f"{key}._target_", node.get("_target_") if OmegaConf.is_dict(node) else None)
    return launcher


def _there_is(key: str, target: object) -> None:
    """Raises: UserError if there is no class of that name."""
    try:
        _locate(str(target))
    except (Exception, SystemExit) as error:
        cause = error.__cause__ or error
        why = f"{type(cause).__name__}: {in_one_line(cause)}"
        raise UserError(f"{key}={target}: must be a class ({why})") from error


def _gpus(jobs: list[Job], launcher: Options | None) -> None:
    """Raises: UserError when jobs would look for a GPU that they have not asked Slurm for."""
    if isinstance(launcher, SlurmOptions) and not launcher.gpus:
        for job in jobs:
            if job.config["device"] != "cpu":
                device = job.config["device"]
                raise UserError(f"hydra.launcher.gpus=0: must be at least 1 for device={device}")


def _contents(jobs: list[Job], folders: list[str]) -> Contents:
    """What the jobs ask for, by key."""
    asked = []
    for job, folder in zip(jobs, folders, strict=True):
        identities = list(job.identities())
        places = Folders(Path(folder), Path())
        studies = {}
        for identity in identities:
            key = key_of(identity)
            studies[key] = places.study(identity, key).as_posix()
        groups = dict.fromkeys(group_of(identity) for identity in identities)
        pretraining = key_of(job.pretraining_identity()) if job.pretraining.steps else None
        asked.append(JobContents(folder, studies, list(groups), pretraining))
    return Contents(asked)


def _secret_uri(config: DictConfig) -> str | None:
    """The address of the store, if it holds what lets one in."""
    uri = OmegaConf.select(config, "tracking.uri")
    return str(uri) if uri is not None and address_without_password(str(uri)) != str(uri) else None


def _parts(job: Job) -> str:
    """What a rehearsal depends on."""
    parts = {key: job.config[key] for key in ("model", "data", "loss", "estimator", "sampling")}
    return json.dumps(parts, sort_keys=True)


def _asks_for_multirun(parsed: list[Override], composer: Composer) -> bool:
    """Whether the configuration does, without `-m`."""
    fixed = [line_of(o) for o in parsed if not o.is_sweep_override()]
    mode = composer.compose_loosely(fixed, RunMode.RUN)[1].hydra.mode
    return bool(mode == RunMode.MULTIRUN)


def _single_values(parsed: list[Override]) -> None:
    for override in parsed:
        if override.is_sweep_override():
            raise UserError(f"{line_of(override)}: several values need -m (--multirun)")


def _nothing_of_the_launch_swept(parsed: list[Override]) -> None:
    for override in parsed:
        if override.is_sweep_override() and override.is_hydra_override():
            raise UserError(f"{line_of(override)}: what is Hydra's own cannot be swept")
        if override.is_sweep_override() and override.key_or_group.partition(".")[0] == "tracking":
            raise UserError("tracking: cannot be swept; one launch has one store")


def _not_removed(parsed: list[Override]) -> None:
    for override in parsed:
        if override.is_delete() and override.key_or_group in KEYS:
            raise UserError(
                f"{line_of(override)}: not an override that is taken here; every job has that key"
            )


def _slashes(parsed: list[Override], composer: Composer) -> None:
    """A choice within a group is made with a slash; a dot there would put a word in its place."""
    for override in parsed:
        key, value = override.key_or_group, override.value()
        group = key.replace(".", "/")
        values = value.list if isinstance(value, ChoiceSweep) else [value]
        if all(isinstance(one, dict) for one in values):
            continue  # set key by key
        if "." in key and composer.is_group(group):
            choice = line_of(override).partition("=")[2]
            raise UserError(f"{line_of(override)}: a choice is made with a slash, {group}={choice}")
