"""Composes a configuration and runs it: `python train.py --help`."""

import signal

# The imports take seconds, in which Ctrl-C is to end the program without a traceback.
signal.signal(signal.SIGINT, signal.SIG_DFL)

import sys  # noqa: E402
from pathlib import Path  # noqa: E402

from srste.launch.streams import open_missing  # noqa: E402

open_missing()

from omegaconf import DictConfig  # noqa: E402

from srste.commands.train import main, train  # noqa: E402


def task(config: DictConfig) -> None:
    """Run one job."""
    train(config)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], Path(__file__), task))
