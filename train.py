"""Composes a configuration and runs it: `python train.py --help`."""

import signal

# The imports take seconds: until they are through, Ctrl-C ends the program without a traceback of them.
signal.signal(signal.SIGINT, signal.SIG_DFL)

import sys  # noqa: E402
import warnings  # noqa: E402
from pathlib import Path  # noqa: E402

from srste.streams import open_missing  # noqa: E402

open_missing()

import hydra  # noqa: E402
from omegaconf import DictConfig  # noqa: E402

from srste.command_line import config_dir  # noqa: E402

with warnings.catch_warnings():
    # In a notebook without its widgets, of which no use is made.
    warnings.filterwarnings("ignore", "IProgress not found")
    from srste.job import job
from srste.launch import launch  # noqa: E402

CONF = config_dir(Path(__file__))


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def train(config: DictConfig) -> None:
    """One job."""
    job(config)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(launch(train, sys.argv[1:], CONF))
