"""The command that runs studies: `python train.py`, or `srste run`."""

import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import hydra
from omegaconf import DictConfig

from srste.launch.clock import process_start
from srste.launch.command_line import config_dir
from srste.launch.launch import launch
from srste.launch.libraries import ending, importing


def train(config: DictConfig) -> None:
    """Run one job."""
    with importing():
        from srste.launch.hydra_job import job
    job(config)


def main(
    argv: Sequence[str], script: Path | None = None, task: Callable[[DictConfig], None] = train
) -> int:
    """Run a command line.

    Args: script: that was run, beside which the configurations are; None: use the package's.
        task: runs one job; Hydra names jobs and their logs after the file that defines it.
    Returns: the exit code, see `srste.launch.launch.launch`.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if script is None:
        with suppress(OSError):  # a working folder that does not exist is refused later
            sys.path.insert(0, str(Path.cwd()))  # for the user's packages
    conf = config_dir(script)
    run = hydra.main(version_base="1.3", config_path=str(conf), config_name="config")(task)
    # The wall time of the command counts from the start of its process.
    code = launch(run, list(argv), conf, process_start())
    ending()
    return code
