"""Sweeps on a real Slurm cluster, and what goes wrong on one: each ends with nothing lost or doubled."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from pathlib import Path

import mlflow
import pytest

from tests.support import (
    SMALL,
    eventually,
    only,
    same_results,
    start,
    studies,
    train,
    wait_for,
)

SLURM = ["-m", "hydra/launcher=slurm"]
VERBATIM = ["estimator=sr_ste", "samples=1,2,...,10"]
# Some seconds of work a task, so that there is time to do something to it.
SLOW = [
    "samples=1,2,...,4",
    "batches=8",
    "batch_size=8192",
    "tracking=none",
    "heldout=0",
    "report=false",
]
# And more of it where Slurm gives a cancelled task five seconds to end by itself.
SLOWER = [
    "samples=1,2,...,4",
    "batches=32",
    "batch_size=8192",
    "tracking=none",
    "heldout=0",
    "report=false",
]
TWO_TASKS = ["hydra.launcher.jobs_per_task=2"]

pytestmark = pytest.mark.slurm


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The results of SLOWER, and so of SLOW, computed in one process without interruption."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    done = train(folder, "-m", *SLOWER)
    assert done.returncode == 0, done.stderr
    return studies(folder)


@pytest.fixture
def settled(cluster):
    """The cluster, with nothing in its queue before and after."""
    cluster.settle()
    yield cluster
    cluster.settle()


def launched(cluster, folder, *more, arguments=SLOW):
    """A sweep that has begun: tasks run, and the first records are there."""
    process = start(folder, *SLURM, *TWO_TASKS, *arguments, *more, **cluster.environment)
    eventually(lambda: len(cluster.workers()) == 2, what="two tasks run")
    wait_for(process, folder, "record.json", 3)
    return process


def ended(process, code):
    """What the process printed, once it has ended with that exit code."""
    out, err = process.communicate(timeout=240)
    assert process.returncode == code, (out, err)
    assert "Traceback" not in out + err
    return out, err


def complete(folder, uninterrupted, count=40):
    """Whether all studies are there, with the results of an uninterrupted run."""
    found = studies(folder)
    assert len(found) == count
    same_results(found, {name: uninterrupted[name] for name in found})


def resumed(cluster, folder, uninterrupted, arguments=SLOW, count=40):
    """The same command again completes it, with the results of an uninterrupted run."""
    before = len(studies(folder))
    done = train(folder, *SLURM, *TWO_TASKS, *arguments, **cluster.environment)
    assert done.returncode == 0, done.stdout + done.stderr
    reused = int(re.search(rf"{count} studies, (\d+) reused", done.stdout)[1])
    assert before <= reused < count
    complete(folder, uninterrupted, count)


def test_the_verbatim_command(settled, tmp_path):
    done = train(tmp_path, *SLURM, *VERBATIM, **settled.environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "slurm: 10 jobs in 1 tasks" in done.stdout
    assert "110 studies, 5,500,000 trials" in done.stdout
    # Tracked by the launching process: no other one opened the store.
    runs = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db").search_runs(["1"], max_results=1000)
    assert len(runs) == 111
    job = only(tmp_path / "multirun") / "samples=3"
    assert (job / ".hydra" / "config.yaml").is_file()
    assert (job / "train.log").is_file()

    again = train(tmp_path, *SLURM, *VERBATIM, **settled.environment)
    assert again.returncode == 0, again.stderr
    assert "110 studies, 110 reused" in again.stdout
    assert "tasks" not in again.stdout  # nothing was submitted


def test_the_preset_reaches_slurm(settled, tmp_path):
    process = start(
        tmp_path, *SLURM, *SLOW, "hydra.launcher.jobs_per_task=1", "hydra.launcher.partition=debug",
        "hydra.launcher.time=7", "hydra.launcher.memory=300M", "hydra.launcher.cpus=2",
        "hydra.launcher.gpus=1", "hydra.launcher.array_parallelism=1",
        'hydra.launcher.sbatch=["--nice=3","--comment=hello"]',
        "hydra.launcher.setup=['export SRSTE_TEST=here']", **settled.environment,
    )  # fmt: skip
    task = eventually(lambda: settled.tasks("R"))[0]
    shown = settled.ask("scontrol", "show", "job", task)
    waiting = len(settled.tasks("PD"))
    worker = eventually(settled.workers)
    words = Path(f"/proc/{next(iter(worker.values()))}/environ").read_text().split("\0")
    process.send_signal(signal.SIGINT)
    ended(process, 130)
    for part in ("Partition=debug", "TimeLimit=00:07:00", "MinMemoryNode=300M", "CPUs/Task=2",
                 "Comment=hello", "gres:gpu:1", "Requeue=1"):  # fmt: skip
        assert part in shown, part
    assert waiting == 3  # array_parallelism
    assert "SRSTE_TEST=here" in words


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_cancels_what_it_started(settled, tmp_path, number, uninterrupted):
    process = launched(settled, tmp_path, arguments=SLOWER)
    process.send_signal(number)
    time.sleep(0.3)
    process.send_signal(number)  # as impatient people do
    _, err = ended(process, 128 + number)
    assert re.search(r"stopped after \d+ of 160 studies", err)
    eventually(lambda: not settled.tasks("PD", "R"), 20, "tasks are left")
    if number == signal.SIGINT:
        resumed(settled, tmp_path, uninterrupted, SLOWER, 160)


def test_a_cancelled_task_is_a_failed_job_and_not_the_end(settled, tmp_path, uninterrupted):
    process = launched(settled, tmp_path, arguments=SLOWER)
    first, second = sorted(settled.tasks("R"))
    settled.ask("scancel", first)
    out, _ = ended(process, 1)
    assert "2 of 4 jobs did not get through" in out
    assert re.search(rf"samples=1 .* Slurm job {first}: CANCELLED", out)
    assert re.search(rf"samples=2 .* Slurm job {first}: CANCELLED", out)
    assert f"Slurm job {second}" not in out
    assert "python train.py -m hydra/launcher=slurm" in out.split("The same command runs just those")[1]
    found = studies(tmp_path)
    assert all(f"sr_ste N={n} batch {b}" in found for n in (3, 4) for b in range(1, 33))
    resumed(settled, tmp_path, uninterrupted, SLOWER, 160)


def test_a_worker_killed_by_kill_9(settled, tmp_path, uninterrupted):
    process = launched(settled, tmp_path)
    workers = settled.workers()
    os.kill(workers[max(workers)], signal.SIGKILL)
    out, _ = ended(process, 1)
    assert "2 of 4 jobs did not get through" in out
    resumed(settled, tmp_path, uninterrupted)


def test_preempted_it_goes_on_in_the_same_launch(settled, tmp_path, uninterrupted):
    process = launched(settled, tmp_path)
    task = min(settled.tasks("R"))
    settled.ask("scancel", "--signal=USR2", task)
    out, _ = ended(process, 0)
    assert "did not get through" not in out
    logs = "".join(p.read_text() for p in tmp_path.rglob(f"{task}_0_log.*"))
    assert "this job is preempted" in logs
    assert "Requeued job" in logs
    complete(tmp_path, uninterrupted)


def test_put_back_by_hand_it_goes_on_too(settled, tmp_path, uninterrupted):
    process = launched(settled, tmp_path)
    settled.ask("scontrol", "requeue", min(settled.tasks("R")))
    ended(process, 0)
    complete(tmp_path, uninterrupted)


def test_out_of_time(settled, tmp_path, uninterrupted):
    # With so short a limit, submitit takes the signal for the end of the task's time.
    limits = ["hydra.launcher.time=1", "hydra.launcher.requeues=0"]
    process = launched(settled, tmp_path, *limits)
    settled.ask("scancel", "--signal=USR2", min(settled.tasks("R")))
    out, _ = ended(process, 1)
    assert re.search(r"[12] of 4 jobs did not get through", out)
    assert "ran out of time (hydra.launcher.time)" in out
    resumed(settled, tmp_path, uninterrupted)


def test_a_node_that_goes_down_is_no_loss(settled, tmp_path, uninterrupted):
    process = launched(settled, tmp_path)
    node = settled.node_of(min(settled.tasks("R")))
    try:
        settled.lose(node)
        out, _ = ended(process, 0)
    finally:
        settled.bring_back(node)
    assert "did not get through" not in out
    complete(tmp_path, uninterrupted)


def test_killed_itself_it_leaves_tasks_that_the_same_command_cancels(settled, tmp_path, uninterrupted):
    process = launched(settled, tmp_path, arguments=SLOWER)
    process.kill()
    process.communicate()
    assert settled.tasks("R", "PD")
    done = train(tmp_path, *SLURM, *TWO_TASKS, *SLOWER, **settled.environment)
    assert done.returncode == 0, done.stdout + done.stderr
    says = r"[12] Slurm tasks that an earlier run of this command had left: cancelled"
    assert re.search(says, done.stdout)
    complete(tmp_path, uninterrupted, 160)


class TestRefused:
    """Before anything is submitted, in one line, with exit code 2."""

    @pytest.mark.parametrize(
        ("typed", "says"),
        [
            ("hydra.launcher.partition=big", "hydra.launcher.partition=big: must be one of debug"),
            ("hydra.launcher.time=0", "hydra.launcher.time=0: must be a whole number >= 1"),
            ("hydra.launcher.memory=2X", "hydra.launcher.memory=2X: must be a number with K, M, G or T"),
            ("device=cuda", "hydra.launcher.gpus=0: must be at least 1 for device=cuda"),
        ],
    )
    def test_by_the_check(self, cluster, tmp_path, typed, says):
        done = train(tmp_path, *SLURM, *SLOW, typed, **cluster.environment)
        assert done.returncode == 2
        assert says in done.stderr
        assert done.stderr.count("\n") == 1

    def test_by_sbatch(self, settled, tmp_path):
        done = train(tmp_path, *SLURM, *SLOW, "hydra.launcher.cpus=64", **settled.environment)
        assert done.returncode == 2, done.stdout + done.stderr
        assert "hydra/launcher=slurm: sbatch says: " in done.stderr
        assert "More processors requested than permitted" in done.stderr
        assert done.stderr.count("\n") == 1


def test_a_job_that_raises_is_one_failed_job(settled, tmp_path):
    # There is no GPU, only its node in the cluster's configuration.
    done = train(
        tmp_path, *SLURM, "device=cpu,cuda", "hydra.launcher.gpus=1", "tracking=none", *SMALL,
        **settled.environment,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 of 2 jobs did not get through" in done.stdout
    assert re.search(r"device=cuda +4 of 4 +UserError: device=cuda: must be a device", done.stdout)
    assert len(studies(tmp_path)) == 4


def test_a_partition_that_takes_no_more_for_a_while(bare_cluster, tmp_path):
    """The second array is refused at first: what was collected is kept, and it is tried again."""
    arguments = [
        "samples=1,2,...,5",
        "hydra.launcher.jobs_per_task=1",
        "batches=20",
        "tracking=none",
        "report=false",
    ]
    process = start(tmp_path, *SLURM, *arguments, **bare_cluster.environment)
    eventually(bare_cluster.workers)
    bare_cluster.ask("scontrol", "update", "PartitionName=debug", "State=DRAIN")
    eventually(lambda: not bare_cluster.tasks())
    time.sleep(2)
    bare_cluster.ask("scontrol", "update", "PartitionName=debug", "State=UP")
    out, _ = ended(process, 0)
    assert "sbatch says: Batch job submission failed: Required partition not available" in out
    assert len(studies(tmp_path)) == 5 * 20 + 20


def test_without_accounting_and_in_pieces(bare_cluster, tmp_path):
    """Eight tasks where the cluster takes three in an array; one of them is lost, and no sacct there
    to tell of it."""
    arguments = [
        "samples=1,2,...,8",
        "hydra.launcher.jobs_per_task=1",
        "batches=20",
        "tracking=none",
        "report=false",
    ]
    process = start(tmp_path, *SLURM, *arguments, **bare_cluster.environment)
    workers = eventually(bare_cluster.workers)
    task, pid = min(workers.items())
    os.kill(pid, signal.SIGKILL)
    out, _ = ended(process, 1)
    assert "1 of 8 jobs did not get through" in out
    assert f"Slurm job {task} ended without its records" in out
    scripts = [p for p in tmp_path.rglob("*_submission.sh") if not p.is_symlink()]
    arrays = sorted(re.search(r"--array=(\S+)", p.read_text())[1] for p in scripts)
    assert arrays == ["0-1%2", "0-2%3", "0-2%3"]
    again = train(tmp_path, *SLURM, *arguments, **bare_cluster.environment)
    assert again.returncode == 0, again.stdout + again.stderr
    assert json.loads(next(tmp_path.rglob("launch.json")).read_text())["multirun"]
