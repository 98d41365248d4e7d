"""Composes every job of a command line and checks its values: all that is refused without building
anything, and so without PyTorch, which takes a second to import."""

import os
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from hydra._internal.utils import _locate
from hydra.core.override_parser.types import ChoiceSweep, Override
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from srste.errors import UserError, in_one_line
from srste.launch import folders
from srste.launch.cluster.options import Options, SlurmOptions, options_of
from srste.launch.command_line import CommandLine, read
from srste.launch.composer import Composer
from srste.launch.hydra_cache import CachingLoader
from srste.launch.job_values import KEYS, job_values
from srste.launch.overrides import key_of_line, line_of, parse
from srste.launch.progress import doing_for_long
from srste.launch.sweep import job_lines, parameters
from srste.launch.validation import Plain, plain

_MANY_JOBS = 50
"""Fewer are composed in well under a second."""


@dataclass(frozen=True)
class Composed:
    """The jobs of a command line.

    root: the launch's folder; jobs: their values, in Hydra's order; subdirs: their folders, below the
    root. master: the configuration that they share; overrides: those of master. lines: of a sweep, each
    job's overrides. loader: that composed them.
    """

    command: CommandLine
    multirun: bool
    root: Path
    jobs: list[Plain]
    subdirs: list[str]
    master: DictConfig
    launcher: Options | None
    overrides: list[str]
    lines: list[list[str]]
    loader: CachingLoader

    @property
    def folder_key(self) -> str:
        """The setting that names the launch's folder."""
        return "hydra.sweep.dir" if self.multirun else "hydra.run.dir"


def compose(argv: Sequence[str], config_dir: Path) -> Composed | list[str]:
    """Compose every job of this command line and check its values.

    Returns: the jobs; where Hydra only shows something (`--help`, `--cfg`, ...), its checked
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
                values = job_values(config)
            from srste.launch.job_config import Job

            Job(values)
        return command.argv(command.overrides)
    return _sweep(command, parsed, composer) if multirun else _single(command, composer)


def _single(command: CommandLine, composer: Composer) -> Composed:
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
        values = job_values(config)
    return Composed(command, False, root, [values], ["."], config, launcher, command.overrides, [],
                    composer.loader)  # fmt: skip


def _sweep(command: CommandLine, parsed: list[Override], composer: Composer) -> Composed:
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
    many = len(lines) > _MANY_JOBS
    with doing_for_long(f"Composing {len(lines):,} jobs") if many else nullcontext():
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
                jobs.append(job_values(config, elsewhere=isinstance(launcher, SlurmOptions)))
    root = folders.common_folder(roots)
    if len(set(roots)) > 1:
        subdirs = [os.path.relpath(Path(*both), root) for both in zip(roots, subdirs, strict=True)]
    subdirs = [str(PurePath(subdir)) for subdir in subdirs]
    folders.check_subfolders(subdirs)
    root = folders.folder_named("hydra.sweep.dir", str(root))
    return Composed(command, True, root, jobs, subdirs, master, launcher, loosened, lines,
                    composer.loader)  # fmt: skip


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
