"""`make soak` for a moment, rather than for ten minutes."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.support import ROOT


def test_a_soak_of_some_seconds():
    done = subprocess.run(
        [sys.executable, "-m", "tests.soak"],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=280,
        env=os.environ | {"SOAK_SECONDS": "1", "SOAK_SEED": "1", "SOAK_SLURM": "0"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 sweeps completed" in done.stdout
    assert "nothing lost, nothing doubled" in done.stdout
    assert "$(BIN)/python -m tests.soak" in (ROOT / "Makefile").read_text()
