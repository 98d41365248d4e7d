"""Parses the command line: Hydra's options, in any place, and the overrides between them."""

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
from srste.launch.folders import affects_results
from srste.launch.range_syntax import expand

_CONFIGURATIONS = ("config_dir", "config_name", "config_path")
_COMMANDS = ("run", "multirun", "cfg", "info", "shell_completion")


@dataclass(frozen=True)
class CommandLine:
    """A parsed command line. options: as Hydra's own parser returns them. typed: the overrides as
    they were typed; overrides: the same with ellipses written out."""

    options: Namespace
    typed: list[str]
    overrides: list[str]

    @property
    def only_shows(self) -> bool:
        """Whether Hydra shows something rather than runs jobs."""
        given = self.options
        helping = given.help or given.hydra_help
        return bool(helping or given.info or given.shell_completion or given.cfg)

    @property
    def composes(self) -> bool:
        """Whether Hydra composes the overrides with the primary configuration."""
        return not (self.options.hydra_help or self.options.shell_completion)

    @property
    def result_settings(self) -> list[str]:
        """The overrides and options that determine the results, sorted."""
        given = vars(self.options)
        files = [f"{name}={given[name]}" for name in _CONFIGURATIONS if given[name] is not None]
        return sorted([*files, *(o.lstrip("+") for o in self.overrides if affects_results(o))])

    def argv(self, overrides: Sequence[str]) -> list[str]:
        """Return the same options with other overrides, in an order that Hydra accepts."""
        words = []
        for name, value in vars(self.options).items():
            option = f"--{name.replace('_', '-')}"
            if value is True:
                words.append(option)
            elif isinstance(value, str):
                words.append(f"{option}={value}")
        return [*words, *overrides]


def program() -> str:
    """Return the name of this program for messages: "train.py", or "srste run"."""
    return Path(sys.argv[0]).name


def program_command() -> str:
    """Return the command that runs this program, without arguments."""
    return f"python {program()}" if program().endswith(".py") else program()


def job_name() -> str:
    """Return Hydra's name of a job: after the file of its function, a script or
    `srste.commands.train`."""
    return get_valid_filename(Path(program()).stem) if program().endswith(".py") else "train"


def config_dir(script: Path | None) -> Path:
    """Return the folder of the configurations: beside the script (which may be a link), otherwise
    the package's. Raises: SystemExit if there is none."""
    of_script = [] if script is None else [script.parent / "conf", script.resolve().parent / "conf"]
    candidates = [*of_script, conf_folder()]
    for folder in candidates:
        if (folder / "config.yaml").is_file():
            return folder.resolve()
    parents = " or ".join(dict.fromkeys(str(folder.parent) for folder in candidates))
    print(f"{program()}: there is no conf/config.yaml in {parents}", file=sys.stderr)
    raise SystemExit(2)


def read(argv: Sequence[str], config_dir: Path) -> CommandLine:
    """Parse a command line; options may stand before, between and after the overrides.

    config_dir: the default folder of the configurations; `--config-path` is relative to its parent.
    Raises: UserError for what Hydra does not accept, and for `--experimental-rerun`.
    """
    for word in argv:
        try:
            word.encode()
        except UnicodeEncodeError as error:
            raise UserError(f"{word}: must be in UTF-8") from error
    options = _parsed(argv)
    if options.experimental_rerun is not None:
        raise UserError(
            f"--experimental-rerun={options.experimental_rerun}: not taken here, since it opens a "
            "pickle; the overrides of a job are in its .hydra/overrides.yaml"
        )
    helping = options.help or options.hydra_help
    if options.resolve and not (options.cfg or options.help):
        raise UserError("--resolve: only together with --cfg or --help")
    if sum(bool(getattr(options, name)) for name in _COMMANDS) > 1 and not helping:
        raise UserError(
            "only one of --run, --multirun, --cfg, --info and --shell-completion can be given"
        )
    if options.config_dir is not None and not Path(options.config_dir).is_dir():
        raise UserError(f"--config-dir={options.config_dir}: must be a folder")
    if options.config_path is not None and not options.config_path.startswith("pkg://"):
        folder = config_dir.parent / options.config_path
        if not folder.is_dir():
            raise UserError(f"--config-path={options.config_path}: must be a folder")
        options.config_path = str(folder)
    typed: list[str] = options.overrides
    return CommandLine(options, typed, list(map(expand, typed)))


def _parsed(argv: Sequence[str]) -> Namespace:
    with redirect_stderr(io.StringIO()) as output:
        try:
            # Not `parse_args`, which accepts the overrides only as one block.
            return get_args_parser().parse_intermixed_args(list(argv))
        except SystemExit as error:
            if not error.code:  # --version
                raise
            why = " ".join(output.getvalue().rpartition("error: ")[2].split())
    raise UserError(f"{why}; --hydra-help lists the options")
