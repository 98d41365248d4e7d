"""The folders of a launch and of its jobs: named by the command, settled before any work."""

from __future__ import annotations

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
from srste.launch.overrides import key_of_line
from srste.launch.range_syntax import contract
from srste.store.files import slug

DEFAULTS = "defaults"
"""The name of a launch without overrides."""

# Settings of a launch that do not change what its studies find: the same folder serves them all.
_NOT_OF_THE_RESULT = ("tracking", "resume", "report", "cache", "hydra.", "hydra/")

_LONGEST_NAME = 255
"""Bytes of a name within a folder, on all file systems that matter."""


def register_resolvers(command: str = "", swept: frozenset[str] = frozenset()) -> None:
    """The resolvers that `conf/config.yaml` uses for its folders.

    command: names the launch's folder. swept: the keys that differ between jobs and name theirs; with
    none given, all of a job's overrides do.
    """

    def job_name(overrides: ListConfig) -> str:
        telling = [line for line in overrides if key_of_line(line) in swept]
        return slug(",".join(telling or overrides) or "job", 120)

    OmegaConf.register_new_resolver("srste_command", lambda: command or "unnamed", replace=True)
    OmegaConf.register_new_resolver("srste_job", job_name, replace=True)


def is_of_the_result(override: str) -> bool:
    """Whether it may change what studies find."""
    return not override.lstrip("+~").startswith(_NOT_OF_THE_RESULT)


def folder_name(settings: Sequence[str]) -> str:
    """A folder name from what determines a command's results: readable."""
    digest = sha256("\n".join(settings).encode("utf-8", "surrogateescape")).hexdigest()
    return f"{slug(' '.join(map(contract, settings)) or DEFAULTS, 100)}_{digest[:8]}"


@contextmanager
def as_in_the_job(config: DictConfig, number: int | None = None) -> Iterator[None]:
    """While it lasts, `${hydra:...}` finds that configuration, as in the job. number: of the job in its
    sweep, which it is given as Hydra's launchers do."""
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
    """The text at that key. null: what stands for null where that is allowed. Raises: UserError for
    what does not resolve, or is not there."""
    try:
        value = OmegaConf.select(config, key, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise UserError(f"{key}={_as_written(config, key)}: {in_one_line(error)}") from error
    # Whatever a resolver raises that does not wrap it.
    except Exception as error:
        raise UserError(f"{key}: {type(error).__name__}: {in_one_line(error)}") from error
    if value is None and null is not None:
        return null
    if value is None or OmegaConf.is_config(value):
        raise UserError(f"{key}={value}: must be the name of a folder")
    return str(value)


def _as_written(config: DictConfig, key: str) -> Any:
    parent, _, word = key.rpartition(".")
    return OmegaConf.to_container(OmegaConf.select(config, parent), resolve=False)[word]  # type: ignore[index, call-overload]


def folder_of(key: str, name: str) -> Path:
    """The folder of that name, a leading `~` or `~user` being somebody's home. Raises: UserError for
    what is no name, and for what Hydra cannot bear."""
    try:
        folder = Path(name).expanduser()
    except RuntimeError as error:
        why = f"there is no user of that name; write ./{name} for such a folder"
        raise UserError(f"{key}={name}: {why}") from error
    bearable(f"{key}={name}", folder.absolute())
    return folder


def bearable(named: str, folder: Path) -> None:
    """Raises: UserError for a folder whose path Hydra would take for something else: it keeps it in its
    configuration, where `${` begins an interpolation, and writes it into files, in UTF-8."""
    path = str(folder)
    if "${" in path:
        raise UserError(f"{named}: the path must not hold `${{`, which to Hydra begins an interpolation")
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{named}: the path must be in UTF-8") from error


def writable(folder: Path, key: str) -> None:
    """Makes the folder. Raises: UserError if nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise UserError(f"{key}={folder}: must be a folder that can be written ({why})") from error


def below_and_apart(folders: list[str]) -> None:
    """Raises: UserError when two jobs would write into one folder, or one outside the launch's, or
    where it is not looked for."""
    for folder, count in Counter(folders).items():
        if count > 1:
            raise UserError(f"hydra.sweep.subdir={folder}: must differ from job to job")
        below("hydra.sweep.subdir", folder)
        parts = PurePath(folder).parts
        if any(part.startswith(".") for part in parts):
            raise UserError(f"hydra.sweep.subdir={folder}: must not be hidden")
        if any(len(os.fsencode(part)) > _LONGEST_NAME for part in parts):
            raise UserError(f"hydra.sweep.subdir={folder}: is too long for the name of a folder")


def below(key: str, name: str) -> None:
    """Raises: UserError when a name would lead out of the launch's folder."""
    if not Path(name).parts or Path(name).is_absolute() or ".." in Path(name).parts:
        raise UserError(f"{key}={name}: must be a name within the launch's folder")


def common_folder(folders: Sequence[str]) -> Path:
    """The one folder below which all of them are, or which they all are; relative if they are."""
    distinct = set(folders)
    if len(distinct) == 1:
        return Path(distinct.pop())
    if all(map(os.path.isabs, distinct)):
        return Path(os.path.commonpath(distinct))
    return Path(os.path.relpath(os.path.commonpath(list(map(os.path.abspath, distinct)))))
