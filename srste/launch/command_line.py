"""The command line: the options of Hydra, wherever they stand, and the overrides between them."""

from __future__ import annotations

import io
import sys
from argparse import Namespace
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path

from hydra._internal.utils import get_args_parser
from hydra.core.utils import get_valid_filename

from srste.errors import UserError
from srste.launch.choices import conf_folder
from srste.launch.folders import is_of_the_result
from srste.launch.range_syntax import expand

_FLAGS = ("help", "hydra_help", "resolve", "run", "multirun", "shell_completion")
_WITH_VALUE = ("cfg", "package", "config_path", "config_name", "config_dir", "info")
_CONFIGURATIONS = ("config_dir", "config_name", "config_path")
_COMMANDS = ("run", "multirun", "cfg", "info", "shell_completion")


@dataclass(frozen=True)
class CommandLine:
    """What Hydra's own parser makes of a command line. options: those that were given. typed: the
    overrides as they were typed; overrides: the same with ellipses written out."""

    options: Namespace
    typed: list[str]
    overrides: list[str]

    @property
    def only_shows(self) -> bool:
        """Whether Hydra is to show something rather than to run jobs."""
        given = self.options
        helping = given.help or given.hydra_help
        return bool(helping or given.info or given.shell_completion or given.cfg)

    @property
    def composes(self) -> bool:
        """Whether Hydra composes the overrides with the primary configuration."""
        return not (self.options.hydra_help or self.options.shell_completion)

    @property
    def of_the_result(self) -> list[str]:
        """What determines the results, in an order of its own, so that it is the same in any order."""
        given = vars(self.options)
        files = [f"{name}={given[name]}" for name in _CONFIGURATIONS if given[name] is not None]
        return sorted([*files, *(o.lstrip("+") for o in self.overrides if is_of_the_result(o))])

    def argv(self, overrides: Sequence[str]) -> list[str]:
        """The same options with other overrides, in an order that Hydra takes."""
        given = vars(self.options)
        words = [f"--{name.replace('_', '-')}" for name in _FLAGS if given[name]]
        for name in _WITH_VALUE:
            if given[name] is not None:
                words.append(f"--{name.replace('_', '-')}={given[name]}")
        return [*words, *overrides]


def program() -> str:
    """What was typed to run this process, for messages: "train.py", or "srste run"."""
    return Path(sys.argv[0]).name


def command_of_program() -> str:
    """The same, as it is typed."""
    return f"python {program()}" if program().endswith(".py") else program()


def job_name() -> str:
    """What Hydra calls a job: after the file of its function, a script or `srste.commands.train`."""
    return get_valid_filename(Path(program()).stem) if program().endswith(".py") else "train"


def config_dir(script: Path | None) -> Path:
    """The folder of the configurations: beside the script, or, where that is a link or a copy elsewhere
    or there is none, the package's. Raises: SystemExit where there is none."""
    of_script = [] if script is None else [script.parent / "conf", script.resolve().parent / "conf"]
    places = [*of_script, conf_folder()]
    for place in places:
        if (place / "config.yaml").is_file():
            return place.resolve()
    looked = " or ".join(dict.fromkeys(str(place.parent) for place in places))
    print(f"{program()}: there is no conf/config.yaml in {looked}", file=sys.stderr)
    raise SystemExit(2)


def read(argv: Sequence[str], config_dir: Path) -> CommandLine:
    """Reads a command line; options may stand before, between and after the overrides.

    config_dir: the folder of the configurations that `train.py` names; `--config-path` is relative to
    where it lies.
    Raises: UserError for what Hydra does not take, and for `--experimental-rerun`.
    """
    for word in argv:
        try:
            word.encode()
        except UnicodeEncodeError as error:
            raise UserError(f"{word}: must be in UTF-8") from error
    options = _parsed(argv)
    given = vars(options)
    if options.experimental_rerun is not None:
        raise UserError(
            f"--experimental-rerun={options.experimental_rerun}: not taken here, since it opens a "
            "pickle; the overrides of a job are in its .hydra/overrides.yaml"
        )
    helping = options.help or options.hydra_help
    if options.resolve and not (options.cfg or options.help):
        raise UserError("--resolve: only together with --cfg or --help")
    if sum(bool(given[name]) for name in _COMMANDS) > 1 and not helping:
        raise UserError(
            "only one of --run, --multirun, --cfg, --info and --shell-completion can be given"
        )
    if options.config_dir is not None and not Path(options.config_dir).is_dir():
        raise UserError(f"--config-dir={options.config_dir}: must be a folder")
    if options.config_path is not None and not options.config_path.startswith("pkg://"):
        named = config_dir.parent / options.config_path
        if not named.is_dir():
            raise UserError(f"--config-path={options.config_path}: must be a folder")
        options.config_path = str(named)
    typed: list[str] = options.overrides
    return CommandLine(options, typed, [expand(override) for override in typed])


def _parsed(argv: Sequence[str]) -> Namespace:
    with redirect_stderr(io.StringIO()) as said:
        try:
            # Not `parse_args`, which takes overrides in one block only.
            return get_args_parser().parse_intermixed_args(list(argv))
        except SystemExit as error:
            if not error.code:  # --version
                raise
            why = " ".join(said.getvalue().rpartition("error: ")[2].split())
    raise UserError(f"{why}; --hydra-help lists the options")
