"""Composes and checks every job of a command line, so that bad input is refused before any work."""

import json
import os
import shlex
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from hydra._internal.utils import _locate
from hydra.core.override_parser.types import ChoiceSweep, Override
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from srste.errors import UserError, address_without_password, in_one_line
from srste.launch import folders
from srste.launch.cluster.options import Options, SlurmOptions, options_of
from srste.launch.command_line import CommandLine, program_command, read
from srste.launch.composer import Composer
from srste.launch.job_config import KEYS, Job
from srste.launch.job_runner import Folders, group_of
from srste.launch.overrides import key_of_line, line_of, parse, quoted
from srste.launch.sweep import CHECKED_SWEEPER, hand_over, job_lines, parameters
from srste.launch.validation import plain
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
    passwords left out; secret_uri: of the store, with its password; None if it has none.
    """

    root: Path
    folder_key: str
    launch: Launch
    jobs: list[Job]
    contents: Contents
    argv: list[str]
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


@dataclass(frozen=True)
class _Composed:
    """The jobs of a command line. subdirs: their folders, below the root. master: the configuration
    that they share; overrides: those of master. lines: of a sweep, each job's overrides."""

    root: Path
    jobs: list[Job]
    subdirs: list[str]
    master: DictConfig
    launcher: Options | None
    overrides: list[str]
    lines: list[list[str]]


def check(argv: Sequence[str], config_dir: Path) -> Plan | list[str]:
    """Compose and check every job of this command line, and hand those of a sweep to the sweeper.

    Returns: the plan; where Hydra only shows something (`--help`, `--cfg`, ...), its checked
        arguments.
    Raises: UserError for whatever is not allowed.
    """
    command = read(argv, config_dir)
    folders.check_path("the working folder", Path.cwd())
    folders.register_resolvers(folders.folder_name(command.result_settings))
    if not command.composes:
        return command.argv(command.overrides)
    parsed = parse(command.overrides)
    composer = Composer(command, config_dir)
    _check_overrides(parsed, composer)
    multirun = command.options.multirun or _asks_for_multirun(parsed, composer)
    if not multirun or command.only_shows:
        _refuse_sweeps(parsed)
    if command.only_shows:
        config = composer.compose(command.overrides)
        if command.options.resolve:
            with folders.hydra_config(config):
                Job(config)
        return command.argv(command.overrides)

    composed = _sweep(command, parsed, composer) if multirun else _single(command, composer)
    for job in {_rehearsal_key(job): job for job in composed.jobs}.values():
        job.rehearse()
    if isinstance(composed.launcher, SlurmOptions):
        composed.launcher.check([job.config["device"] for job in composed.jobs])
    folder_key = "hydra.sweep.dir" if multirun else "hydra.run.dir"
    folders.make_writable(composed.root, folder_key)
    folders.make_writable(composed.jobs[0].cache, "cache")

    # Hydra gets the folders as they are now: their names may contain the time of day.
    overrides = [*composed.overrides, f"{folder_key}={quoted(str(composed.root.resolve()))}"]
    lines = []
    if multirun:
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
    hand_over(lines)
    contents = _contents(composed.jobs, composed.subdirs)
    tracking = _UNTRACKED | composed.jobs[0].config["tracking"]  # which all jobs share
    if tracking["granularity"] == "auto":
        tracking["granularity"] = "study" if len(contents.studies) <= RUN_A_STUDY else "job"
    return Plan(
        root=composed.root,
        folder_key=folder_key,
        launch=Launch(
            id=uuid.uuid4().hex,
            name=" ".join(filter(folders.affects_results, command.typed)) or folders.DEFAULTS,
            overrides=list(map(address_without_password, command.result_settings)),
            multirun=multirun,
            command=f"{program_command()} {shlex.join(map(address_without_password, argv))}".strip(),
            created=now(),
            tracking=tracking,
        ),
        jobs=composed.jobs,
        contents=contents,
        argv=hydra_argv,
        secret_uri=secret_uri,
    )


def _single(command: CommandLine, composer: Composer) -> _Composed:
    """Compose the one job of a command line."""
    config = composer.compose(command.overrides)
    config.hydra.mode = RunMode.RUN
    launcher = _launcher(config)
    if launcher is not None:
        raise UserError(f"hydra/launcher={launcher.name}: needs -m (--multirun)")
    with folders.hydra_config(config):
        root = folders.folder_named("hydra.run.dir", folders.resolved(config, "hydra.run.dir"))
        _set_output_folder(config, root)
        _check_logging(config)
        job = Job(config)
    return _Composed(root, [job], ["."], config, launcher, command.overrides, [])


def _sweep(command: CommandLine, parsed: list[Override], composer: Composer) -> _Composed:
    """Compose the jobs of a sweep."""
    _refuse_sweeps_of_the_launch(parsed)
    multirun = f"hydra.mode={RunMode.MULTIRUN.name}"
    loosened, master = composer.compose_loosely([*command.overrides, multirun], RunMode.MULTIRUN)
    launcher = _launcher(master)
    folders.resolved(master, "hydra.sweep.dir")  # Hydra resolves it before there are jobs
    of_hydra = [line_of(o) for o in parsed if o.is_hydra_override()]
    of_jobs = [line_of(o) for o in parsed if not o.is_hydra_override()]
    lines = job_lines(master, of_jobs, composer.loader)
    swept = [line_of(o) for o in parsed if o.is_sweep_override()] + parameters(master)
    folders.register_resolvers(
        folders.folder_name(command.result_settings), frozenset(map(key_of_line, swept))
    )
    given = set(map(key_of_line, of_jobs))
    of_launch = _settings_of_the_launch(master, given)
    jobs, roots, subdirs = [], [], []
    built: dict[str, Any] = {}
    for number, line in enumerate(lines):
        config = composer.compose([*of_hydra, multirun, *line])  # 200 kB, of which none is kept
        _check_same(of_launch, _settings_of_the_launch(config, given), line)
        OmegaConf.copy_cache(master, config)
        with folders.hydra_config(config, number):
            roots.append(folders.resolved(config, "hydra.sweep.dir"))
            subdirs.append(folders.resolved(config, "hydra.sweep.subdir"))
            _set_output_folder(config, Path(roots[-1], subdirs[-1]))
            if number == 0:
                _check_logging(config)
            jobs.append(Job(config, isinstance(launcher, SlurmOptions), built))
    root = folders.common_folder(roots)
    if len(set(roots)) > 1:
        subdirs = [os.path.relpath(Path(*both), root) for both in zip(roots, subdirs, strict=True)]
    subdirs = [str(PurePath(subdir)) for subdir in subdirs]
    folders.check_subfolders(subdirs)
    root = folders.folder_named("hydra.sweep.dir", str(root))
    return _Composed(root, jobs, subdirs, master, launcher, loosened[:-1], lines)


def _set_output_folder(config: DictConfig, folder: Path) -> None:
    """Set a job's folder, and check the names that Hydra uses there. Raises: UserError."""
    config.hydra.runtime.output_dir = str(folder.absolute())
    folders.check_relative("hydra.job.name", folders.resolved(config, "hydra.job.name"))
    folders.check_relative(
        "hydra.output_subdir", folders.resolved(config, "hydra.output_subdir", null="none")
    )


def _check_logging(config: DictConfig) -> None:
    """Refuse (UserError) a setting of a job's logging that does not resolve."""
    plain(config.hydra.job_logging)
    plain(config.hydra.hydra_logging)


def _settings_of_the_launch(config: DictConfig, given: set[str]) -> dict[str, Any]:
    """Return the settings of Hydra that a launch has once, but for the parameters of the sweep that
    the command overrides (their keys are in ``given``)."""
    settings: dict[str, Any] = {
        name: OmegaConf.to_container(config.hydra[name], resolve=False)
        for name in ("launcher", "sweeper", "callbacks")
    }
    params = settings["sweeper"].get("params") or {}
    settings["sweeper"]["params"] = {k: v for k, v in params.items() if k not in given}
    return settings


def _check_same(of_launch: dict[str, Any], of_job: dict[str, Any], line: list[str]) -> None:
    """Refuse (UserError) a job whose choices change these settings, which would be ignored."""
    for key, value in of_job.items():
        if value != of_launch[key]:
            chosen = next((o for o in line if o.startswith("experiment=")), " ".join(line))
            what = "sweeper.params" if key == "sweeper" else key
            raise UserError(
                f"{chosen}: sets hydra.{what}, which has no effect where jobs differ in that; "
                "give it on the command line, or run one after the other"
            )


def _launcher(master: DictConfig) -> Options | None:
    """Return the options of the launcher; None for one of Hydra's. Raises: UserError for an option
    that is not allowed, and for a launcher or callback whose class does not exist."""
    launcher = options_of(master.hydra.launcher)
    for key in ("hydra.launcher", *(f"hydra.callbacks.{name}" for name in master.hydra.callbacks)):
        node = OmegaConf.select(master, key)
        target = node.get("_target_") if OmegaConf.is_dict(node) else None
        try:
            _locate(str(target))
        except (Exception, SystemExit) as error:
            cause = error.__cause__ or error
            why = f"{type(cause).__name__}: {in_one_line(cause)}"
            raise UserError(f"{key}._target_={target}: must be a class ({why})") from error
    return launcher


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
    parts = {key: job.config[key] for key in ("model", "data", "loss", "estimator", "sampling")}
    return json.dumps(parts, sort_keys=True)


def _asks_for_multirun(parsed: list[Override], composer: Composer) -> bool:
    """Return whether the configuration sets `hydra.mode` to a multirun."""
    fixed = [line_of(o) for o in parsed if not o.is_sweep_override()]
    mode = composer.compose_loosely(fixed, RunMode.RUN)[1].hydra.mode
    return bool(mode == RunMode.MULTIRUN)


def _refuse_sweeps(parsed: list[Override]) -> None:
    for override in parsed:
        if override.is_sweep_override():
            raise UserError(f"{line_of(override)}: several values need -m (--multirun)")


def _refuse_sweeps_of_the_launch(parsed: list[Override]) -> None:
    for override in parsed:
        if override.is_sweep_override() and override.is_hydra_override():
            raise UserError(f"{line_of(override)}: what is Hydra's own cannot be swept")
        if override.is_sweep_override() and override.key_or_group.partition(".")[0] == "tracking":
            raise UserError("tracking: cannot be swept; one launch has one store")


def _check_overrides(parsed: list[Override], composer: Composer) -> None:
    """Refuse (UserError) the removal of a key that every job has, and a choice made with a dot
    rather than a slash, which would replace the part by a word."""
    for override in parsed:
        key, value, line = override.key_or_group, override.value(), line_of(override)
        if override.is_delete() and key in KEYS:
            raise UserError(f"{line}: not an override that is taken here; every job has that key")
        values = value.list if isinstance(value, ChoiceSweep) else [value]
        if all(isinstance(one, dict) for one in values):
            continue  # set key by key
        if "." in key and (group := composer.as_typed(key)) != key:
            choice = line.partition("=")[2]
            raise UserError(f"{line}: a choice is made with a slash, {group}={choice}")
