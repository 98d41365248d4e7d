"""Everything that can be refused before any work is: the whole sweep is composed and checked first."""

from __future__ import annotations

import difflib
import itertools
import json
import re
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from hydra import initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from srste.cluster.options import Options, SlurmOptions, options_of
from srste.composing import RememberingLoader
from srste.config import Job, building_once
from srste.ellipsis import contract, expand
from srste.errors import UserError, address_without_password, first_line
from srste.files import slug
from srste.manifest import Contents, JobContents
from srste.provenance import key_of
from srste.run import Folders, group_of

DEFAULTS = "defaults"
"""The name of a launch without overrides."""

# Settings of a launch that do not change what its studies find: the same folder serves them all.
_NOT_OF_THE_RESULT = ("tracking", "resume", "report", "cache", "hydra.", "hydra/")


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


def register_resolvers(command: str = "", swept: frozenset[str] = frozenset()) -> None:
    """The resolvers that `conf/config.yaml` uses for its folders.

    command: names the launch's folder. swept: the keys that differ between jobs and name theirs; with
    none given, all of a job's overrides do.
    """

    def job_name(overrides: ListConfig) -> str:
        telling = [o for o in overrides if o.lstrip("+").partition("=")[0] in swept]
        return slug(",".join(telling or overrides) or "job", 120)

    OmegaConf.register_new_resolver("srste_command", lambda: command or "unnamed", replace=True)
    OmegaConf.register_new_resolver("srste_job", job_name, replace=True)


def _is_of_the_result(override: str) -> bool:
    return not override.lstrip("+").startswith(_NOT_OF_THE_RESULT)


def _telling(overrides: Sequence[str]) -> list[str]:
    """What determines the results, in an order of its own."""
    return sorted(override.lstrip("+") for override in overrides if _is_of_the_result(override))


def folder_name(overrides: Sequence[str]) -> str:
    """A folder name from a command, ellipses written out: readable, and the same in any order."""

    telling = _telling(overrides)
    digest = sha256("\n".join(telling).encode()).hexdigest()
    return f"{slug(' '.join(map(contract, telling)) or DEFAULTS, 100)}_{digest[:8]}"


def check(argv: Sequence[str], config_dir: Path) -> Plan | None:
    """Composes and checks every job of this command line.

    Returns: the plan; None where Hydra is only asked to show something (`--help`, `--cfg`, ...),
        after checking the overrides of `--cfg`.
    Raises: UserError for whatever is not allowed.
    """
    arguments = get_args_parser().parse_args(list(argv))
    typed: list[str] = arguments.overrides
    overrides = [expand(override) for override in typed]
    written_out = dict(zip(typed, overrides, strict=True))
    passed_on = [written_out.get(argument, argument) for argument in argv]
    if arguments.help or arguments.hydra_help or arguments.info or arguments.shell_completion:
        register_resolvers()
        return None

    extra = []
    if arguments.config_dir:
        if not Path(arguments.config_dir).is_dir():
            raise UserError(f"--config-dir={arguments.config_dir}: must be a folder")
        extra = [f"hydra.searchpath=[file://{Path(arguments.config_dir).resolve()}]"]
    parsed = _parse(overrides)
    _slashes(parsed, config_dir)
    swept = frozenset(o.get_key_element() for o in parsed if o.is_sweep_override())
    register_resolvers(folder_name(overrides), swept)
    with initialize_config_dir(str(config_dir), version_base="1.3"):
        composer = _Composer(config_dir, arguments.config_name or "config", extra)
        # A key of a swept group need not be one of the group's default choice, which is what Hydra
        # composes the sweep itself with: ++ is taken there, and each job is held to the plain key.
        loose = {_line(o): f"++{_line(o)}" for o in parsed if _is_of_a_group_in(o, swept)}
        fixed = [_line(o) for o in parsed if not o.is_sweep_override() or o.is_hydra_override()]
        master = composer.compose([loose.get(line, line) for line in fixed])
        multirun = arguments.multirun or master.hydra.mode == RunMode.MULTIRUN
        if not multirun:
            for override in parsed:
                if override.is_sweep_override():
                    raise UserError(f"{_line(override)}: several values need -m (--multirun)")
        if arguments.cfg:
            return None
        if multirun and any(key.partition(".")[0] == "tracking" for key in swept):
            raise UserError("tracking: cannot be swept; one launch has one store")
        launcher = _launcher(master, multirun)
        lines = _job_lines(master, overrides) if multirun else [overrides]
        from_experiment = frozenset(map(str, master.hydra.sweeper.get("params") or {}))
        register_resolvers(folder_name(overrides), swept | from_experiment)
        jobs, folders, build = [], [], building_once()
        for line in lines:
            config = composer.compose(line)  # some 200 kB: none is kept
            jobs.append(Job(config, isinstance(launcher, SlurmOptions), build))
            folders.append(str(config.hydra.sweep.subdir) if multirun else ".")
        where = "hydra.sweep.dir" if multirun else "hydra.run.dir"
        root = Path(str(OmegaConf.select(master, where)))
        _below_and_apart(folders if multirun else [])
        for key in ("hydra.job.name", "hydra.output_subdir"):
            _below(key, str(OmegaConf.select(config, key) or "x"))
    _gpus(jobs, launcher)
    for job in {_parts(job): job for job in jobs}.values():
        job.rehearse()
    if launcher is not None:
        launcher.check()
    _writable(root, where)
    _writable(jobs[0].cache, "cache")
    # The folder goes to Hydra as it was found here: what it is made of may be the time of day.
    folder = str(root.resolve()).replace("'", "\\'")
    hydra_argv = [*(loose.get(word, word) for word in passed_on), f"{where}='{folder}'"]
    secret_uri = _secret_uri(config)
    if secret_uri is not None:
        # Hydra writes its overrides and its configurations to disk.
        hydra_argv = [address_without_password(word) for word in hydra_argv]
        hydra_argv.append(f"++tracking.uri='{address_without_password(secret_uri)}'")
    return Plan(
        root=root,
        name=" ".join(filter(_is_of_the_result, typed)) or DEFAULTS,
        overrides=list(map(address_without_password, _telling(overrides))),
        typed=list(argv),
        multirun=multirun,
        jobs=jobs,
        contents=_contents(jobs, folders),
        argv=hydra_argv,
        secret_uri=secret_uri,
    )


def _launcher(master: DictConfig, multirun: bool) -> Options | None:
    """The options of the launcher, if it is one of ours. Raises: UserError."""
    launcher = options_of(master.hydra.launcher)
    if launcher is not None and not multirun:
        raise UserError(f"hydra/launcher={launcher.name}: needs -m (--multirun)")
    return launcher


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


def _parse(overrides: list[str]) -> list[Override]:
    parser = OverridesParser.create()
    parsed: list[Override] = []
    for override in overrides:
        if override.startswith(("=", "~")):
            raise UserError(f"{override}: not an override that is taken here; write key=value")
        try:
            parsed += parser.parse_overrides([override])
        except (HydraException, KeyError) as error:
            raise UserError(
                f"{override}: not an override, which is written key=value; quote a value that holds "
                "spaces or signs"
            ) from error
    return parsed


def _parts(job: Job) -> str:
    """What a rehearsal depends on."""
    parts = {key: job.config[key] for key in ("model", "data", "loss", "estimator", "sampling")}
    return json.dumps(parts, sort_keys=True)


def _below_and_apart(folders: list[str]) -> None:
    """Raises: UserError when two jobs would write into one folder, or one outside the launch's."""
    for folder, count in Counter(folders).items():
        if count > 1:
            raise UserError(f"hydra.sweep.subdir={folder}: must differ from job to job")
        _below("hydra.sweep.subdir", folder)
        if folder.startswith("."):
            raise UserError(f"hydra.sweep.subdir={folder}: must not be hidden")


def _below(key: str, name: str) -> None:
    """Raises: UserError when a name would lead out of the launch's folder."""
    if not Path(name).parts or Path(name).is_absolute() or ".." in Path(name).parts:
        raise UserError(f"{key}={name}: must be a name within the launch's folder")


def _is_of_a_group_in(override: Override, swept: frozenset[str]) -> bool:
    """Whether the override sets a key within a group that is swept."""
    key = str(override.get_key_element())
    inside = any(key.startswith(f"{group.replace('/', '.')}.") for group in swept)
    return inside and not _line(override).startswith(("+", "~"))


def _line(override: Override) -> str:
    """The override as it was given."""
    return override.input_line or ""


def _slashes(parsed: Sequence[Override], config_dir: Path) -> None:
    """A choice within a group is made with a slash; a dot there would put a word in its place."""
    for override in parsed:
        key = str(override.get_key_element())
        group = key.lstrip("+").replace(".", "/")
        if "." in key and (config_dir / group).is_dir():
            choice = _line(override).partition("=")[2]
            raise UserError(f"{_line(override)}: a choice is made with a slash, {group}={choice}")


def _job_lines(master: DictConfig, overrides: list[str]) -> list[list[str]]:
    """Each job's overrides, as Hydra's own sweeper makes them of the command and of an experiment."""
    parameters = [f"{k}={v}" for k, v in (master.hydra.sweeper.get("params") or {}).items()]
    # As in Hydra's sweeper, the command comes last: of two overrides of a key the later one wins.
    parsed = _parse(parameters + overrides)
    batches = BasicSweeper.split_arguments(parsed, max_batch_size=None)
    return list(itertools.chain.from_iterable(batches))


class _Composer:
    """Hydra's compose, with its complaints put in one line that names key, value and what is allowed."""

    def __init__(self, config_dir: Path, config_name: str, extra: list[str]) -> None:
        self.config_dir = config_dir
        self.config_name = config_name
        self.extra = extra
        self.loader = RememberingLoader(GlobalHydra.instance().config_loader().get_search_path())

    def compose(self, overrides: list[str]) -> DictConfig:
        try:
            return self._compose(overrides)
        except MissingConfigException as error:
            raise UserError(self._no_such_choice(error, overrides)) from error
        except (ConfigCompositionException, OmegaConfBaseException, ValueError) as error:
            raise UserError(self._no_such_key(error, overrides)) from error
        except HydraException as error:
            raise UserError(first_line(error)) from error

    def _compose(self, overrides: list[str]) -> DictConfig:
        return self.loader.load_configuration(
            self.config_name, [*overrides, *self.extra], RunMode.RUN, from_shell=False
        )

    def _no_such_choice(self, error: MissingConfigException, overrides: list[str]) -> str:
        group, _, choice = (error.missing_cfg_file or "").rpartition("/")
        options = sorted(error.options or [])
        if not group:
            return f"--config-name={choice}: no such file in {self.config_dir.name}"
        shown = next((o for o in overrides if o.endswith(f"={choice}")), f"{group}={choice}")
        near = difflib.get_close_matches(choice, options, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        return f"{shown}: {hint}must be one of {', '.join(options)}"

    def _no_such_key(self, error: Exception, overrides: list[str]) -> str:
        """Finds the override that does not compose, and the key that was probably meant."""
        culprits = [o for o in overrides if not self._composes(o, overrides)]
        if not culprits:
            return first_line(error)
        culprit = culprits[0]
        key = re.split(r"=", culprit.lstrip("+~"), maxsplit=1)[0]
        known = _keys(self._compose([o for o in overrides if o not in culprits]), key)
        if key in known or culprit.startswith(("+", "~")):
            return f"{culprit}: {first_line(error)}"
        group = key.partition(".")[0]
        choice = next((o for o in overrides if o.startswith(f"{group}=") and o != culprit), "")
        chosen = f" with {choice}" if choice else ""
        return f"{culprit}: no such key{chosen}; {self._hint(key, known)}"

    def _hint(self, key: str, known: list[str]) -> str:
        """The key that was probably meant, compared among its siblings by its own word alone: a long
        common prefix makes any two keys look alike."""
        parent, _, word = key.rpartition(".")
        if parent and parent not in known:
            return self._hint(parent, known)
        siblings = [k for k in known if k.rpartition(".")[0] == parent and not k.endswith("_")]
        words = {k.rpartition(".")[2]: self._as_typed(k) for k in siblings}
        near = difflib.get_close_matches(word, words, n=1, cutoff=0.7)
        if near:
            return f"did you mean {words[near[0]]}?"
        return f"known here: {', '.join(words.values()) or f'none, {parent} takes no arguments'}"

    def _as_typed(self, key: str) -> str:
        """A key, with slashes where it is a group of choices."""
        group = key.replace(".", "/")
        return group if "/" in group and (self.config_dir / group).is_dir() else key

    def _composes(self, override: str, overrides: list[str]) -> bool:
        # With the group choices, since they decide which keys there are.
        choices = [o for o in overrides if o != override and "." not in o.split("=")[0]]
        try:
            self._compose([*choices, override])
        except (HydraException, OmegaConfBaseException, ValueError):
            return False
        return True


def _keys(config: DictConfig, near: str) -> list[str]:
    """Every dotted key of a configuration, parents before children; Hydra's own only if near one."""
    found: list[str] = []

    def walk(node: Any, prefix: str) -> None:
        for key, value in node.items():
            if prefix == "" and key == "hydra" and not near.startswith("hydra."):
                continue
            found.append(f"{prefix}{key}")
            if isinstance(value, dict):
                walk(value, f"{prefix}{key}.")

    walk(OmegaConf.to_container(config, resolve=False), "")
    return found


def _writable(root: Path, key: str) -> None:
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=root):
            pass
    except OSError as error:
        raise UserError(
            f"{key}={root}: must be a folder that can be written ({error.strerror})"
        ) from error
