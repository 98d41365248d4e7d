"""Builds parts by their names in conf/, for the functions of the public face."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import srste
from srste.errors import first_line
from srste.launch.hints import nearest_of


def conf_folder() -> Path:
    """Return the folder of the configurations, in the package or beside it in a checkout."""
    package = Path(srste.__file__).resolve().parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def part(group: str, given: Any, overrides: Sequence[str] = ()) -> Any:
    """Return the part of that name, or ``given`` itself if it is not a name.

    Args:
        group: "estimator", "loss", "sampling", ...
        given: the name of a choice, or an object.
        overrides: of a name, as on the command line, such as ``["estimator/surrogate=tanh"]``.
    Raises: ValueError that names what is not allowed.
    """
    if not isinstance(given, str):
        if overrides:
            raise ValueError(f"overrides={list(overrides)}: only with the name of a choice of {group}")
        return given
    names = sorted(path.stem for path in (conf_folder() / group).glob("*.yaml"))
    if given not in names:
        meant = nearest_of(given, names)
        raise ValueError(f"{group}={given!r}: {meant}must be one of {', '.join(names)}")
    # Imported only for names: the import takes long.
    from hydra.errors import HydraException

    from srste.launch.job_config import build

    lines = (f"{group}={given}", *overrides)
    try:
        return build(_composed(lines)[group])
    except HydraException as error:
        raise ValueError(f"{', '.join(lines)}: {first_line(error.__cause__ or error)}") from error


@cache
def _composed(overrides: tuple[str, ...]) -> dict[str, Any]:
    from hydra import version
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra._internal.utils import create_config_search_path
    from hydra.types import RunMode

    from srste.launch.validation import plain

    version.setbase("1.3")
    loader = ConfigLoaderImpl(create_config_search_path(str(conf_folder())))
    config = loader.load_configuration("config", list(overrides), RunMode.RUN)
    del config.hydra
    return plain(config)
