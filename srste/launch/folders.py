"""The folders of a launch and of its jobs: their names and the checks of them."""

import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path, PurePath
from typing import Any, cast

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from srste.errors import UserError, in_one_line
from srste.launch.choices_help import choices_help
from srste.launch.overrides import key_of_line
from srste.launch.range_syntax import contract
from srste.store.files import slug

DEFAULTS = "defaults"
"""The name of a launch without overrides."""

_WITHOUT_EFFECT = ("tracking", "resume", "report", "cache", "hydra.", "hydra/")
"""Settings that do not change the results; launches that differ only in them share a folder."""

_LONGEST_NAME = 255
"""Bytes of a name within a folder, on all common file systems."""


def register_resolvers(command: str = "", swept: frozenset[str] = frozenset()) -> None:
    """Register the resolvers with which `conf/config.yaml` names its folders, and `--help` its choices.

    command: the name of the launch's folder. swept: the keys that differ between jobs and name
    their folders; if empty, all of a job's overrides do.
    """

    def job_name(overrides: ListConfig) -> str:
        differing = [line for line in overrides if key_of_line(line) in swept]
        return slug(",".join(differing or overrides) or "job", 120)

    OmegaConf.register_new_resolver("srste_command", lambda: command or "unnamed", replace=True)
    OmegaConf.register_new_resolver("srste_job", job_name, replace=True)
    OmegaConf.register_new_resolver("srste_choices", choices_help, replace=True)


def affects_results(override: str) -> bool:
    """Return whether an override may change the results of studies."""
    return not override.lstrip("+~").startswith(_WITHOUT_EFFECT)


def folder_name(settings: Sequence[str]) -> str:
    """Return a readable folder name for what determines a command's results."""
    digest = sha256("\n".join(settings).encode("utf-8", "surrogateescape")).hexdigest()
    return f"{slug(' '.join(map(contract, settings)) or DEFAULTS, 100)}_{digest[:8]}"


@contextmanager
def hydra_config(config: DictConfig, number: int | None = None) -> Iterator[None]:
    """Resolve `${hydra:...}` within the block as in the job. number: of a sweep's job, which is set
    as Hydra's launchers do."""
    if number is not None:
        config.hydra.job.id = str(number)
        config.hydra.job.num = number
    holder = HydraConfig.instance()
    before, holder.cfg = holder.cfg, cast(Any, config)
    try:
        yield
    finally:
        holder.cfg = before


def resolved(config: DictConfig, key: str, null: str | None = None) -> str:
    """Return the text at that key. null: what null stands for, if it is allowed. Raises: UserError
    for what does not resolve, or is missing."""
    try:
        value = OmegaConf.select(config, key, throw_on_missing=True)
    except OmegaConfBaseException as error:
        parent, _, name = key.rpartition(".")
        node: Any = OmegaConf.to_container(OmegaConf.select(config, parent), resolve=False)
        raise UserError(f"{key}={node[name]}: {in_one_line(error)}") from error
    except Exception as error:  # of a resolver, not wrapped by OmegaConf
        raise UserError(f"{key}: {type(error).__name__}: {in_one_line(error)}") from error
    if value is None and null is not None:
        return null
    if value is None or OmegaConf.is_config(value):
        raise UserError(f"{key}={value}: must be the name of a folder")
    return str(value)


def folder_named(key: str, name: str) -> Path:
    """Return the folder of that name, `~` and `~user` expanded. Raises: UserError for a user that
    does not exist, and for a path that Hydra cannot use."""
    try:
        folder = Path(name).expanduser()
    except RuntimeError as error:
        why = f"there is no user of that name; write ./{name} for such a folder"
        raise UserError(f"{key}={name}: {why}") from error
    check_path(f"{key}={name}", folder.absolute())
    return folder


def check_path(named: str, folder: Path) -> None:
    """Refuse (UserError) a path that Hydra cannot use. Hydra keeps the path in its configuration,
    where `${` begins an interpolation, and writes it into files, in UTF-8."""
    path = str(folder)
    if "${" in path:
        raise UserError(f"{named}: the path must not hold `${{`, which to Hydra begins an interpolation")
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{named}: the path must be in UTF-8") from error


def make_writable(folder: Path, key: str) -> None:
    """Make the folder. Raises: UserError if nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise UserError(f"{key}={folder}: must be a folder that can be written ({why})") from error


def check_subfolders(folders: list[str]) -> None:
    """Refuse (UserError) jobs' folders that are equal, lead out of the launch's folder, or are
    hidden, where records are not searched for."""
    for folder, count in Counter(folders).items():
        if count > 1:
            raise UserError(f"hydra.sweep.subdir={folder}: must differ from job to job")
        check_relative("hydra.sweep.subdir", folder)
        parts = PurePath(folder).parts
        if any(part.startswith(".") for part in parts):
            raise UserError(f"hydra.sweep.subdir={folder}: must not be hidden")
        if any(len(os.fsencode(part)) > _LONGEST_NAME for part in parts):
            raise UserError(f"hydra.sweep.subdir={folder}: is too long for the name of a folder")


def check_relative(key: str, name: str) -> None:
    """Refuse (UserError) a name that leads out of the launch's folder."""
    path = Path(name)
    if not path.parts or path.is_absolute() or ".." in path.parts:
        raise UserError(f"{key}={name}: must be a name within the launch's folder")


def common_folder(folders: Sequence[str]) -> Path:
    """Return the lowest folder that contains all of these; relative if one of them is."""
    distinct = set(folders)
    if len(distinct) == 1:
        return Path(distinct.pop())
    if all(map(os.path.isabs, distinct)):
        return Path(os.path.commonpath(distinct))
    return Path(os.path.relpath(os.path.commonpath(list(map(os.path.abspath, distinct)))))
