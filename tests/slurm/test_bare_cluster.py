"""Sweeps on a Slurm cluster without accounting, hence without sacct, that takes short arrays only."""

from __future__ import annotations

import json
import os
import re
import signal
import time

import pytest

from tests.slurm.test_slurm import SLURM, SOME, ended
from tests.support import SLOWLY, eventually, slowly, start, studies, train

pytestmark = pytest.mark.slurm


def test_a_partition_that_takes_no_more_for_a_while(bare_cluster, tmp_path):
    """The second array is refused at first: what was collected is kept, and it is tried again."""
    arguments = ["samples=1,2,3", "hydra.launcher.jobs_per_task=1", "batches=4", *SLOWLY]
    process = start(tmp_path, *SLURM, *arguments, **bare_cluster.environment | slowly(SOME))
    eventually(bare_cluster.workers)
    bare_cluster.ask("scontrol", "update", "PartitionName=debug", "State=DRAIN")
    eventually(lambda: not bare_cluster.tasks())
    time.sleep(2)
    bare_cluster.ask("scontrol", "update", "PartitionName=debug", "State=UP")
    out, _ = ended(process, 0)
    assert "sbatch says: Batch job submission failed: Required partition not available" in out
    assert len(studies(tmp_path)) == 3 * 4 + 4


def test_without_accounting_and_in_pieces(bare_cluster, tmp_path):
    """Five tasks where the cluster takes two in an array; one of them is lost, and no sacct there
    to tell of it."""
    arguments = ["samples=1,2,...,5", "hydra.launcher.jobs_per_task=1", "batches=4", *SLOWLY]
    process = start(tmp_path, *SLURM, *arguments, **bare_cluster.environment | slowly(SOME))
    workers = eventually(bare_cluster.workers)
    task, pid = min(workers.items())
    os.kill(pid, signal.SIGKILL)
    out, _ = ended(process, 1)
    assert "1 of 5 jobs did not get through" in out
    assert f"Slurm job {task} ended without its records" in out
    scripts = [p for p in tmp_path.rglob("*_submission.sh") if not p.is_symlink()]
    arrays = sorted(re.findall(r"--array=(\S+)", p.read_text()) for p in scripts)
    assert arrays == [[], ["0-1%2"], ["0-1%2"]]  # the fifth is no array
    again = train(tmp_path, *SLURM, *arguments, **bare_cluster.environment | slowly(0))
    assert again.returncode == 0, again.stdout + again.stderr
    assert json.loads(next(tmp_path.rglob("launch.json")).read_text())["multirun"]
