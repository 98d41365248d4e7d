"""Composes a configuration and runs it: `python train.py --help`."""

import sys
from pathlib import Path

import hydra
from omegaconf import DictConfig

from srste.launch import job, launch


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def train(config: DictConfig) -> None:
    """One job."""
    job(config)


if __name__ == "__main__":
    sys.exit(launch(train, sys.argv[1:], Path(__file__).parent.resolve() / "conf"))
