"""Where things are, and running the command line as a user does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
CONF = ROOT / "conf"


def choices(group):
    """The choices of a config group: the YAML files in its folder."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def train(cwd, *arguments, timeout=300, **environment):
    """Runs train.py in ``cwd``, warnings as errors where they are ours; returns the process."""
    return subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env=os.environ | {"COLUMNS": "200"} | environment,
    )
