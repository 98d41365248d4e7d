"""Sweeps on a real Slurm cluster, and what goes wrong on one: each ends with nothing lost or doubled."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

import mlflow
import pytest

from tests.support import (
    SLOWLY,
    SMALL,
    eventually,
    only,
    said,
    same_results,
    slowly,
    start,
    studies,
    train,
    wait_for,
)

SLURM = ["-m", "hydra/launcher=slurm"]
OF_THE_README = ["estimator=sr_ste", "samples=1,2,...,10", "batches=2"]
SLOW = ["samples=1,2,...,4", "batches=8", *SLOWLY]
# Some seconds of work a task, so that there is time to do something to it.
SOME = 0.3
# And more of it where Slurm gives a cancelled task five seconds to end by itself.
MORE = 0.6
PAIRS = ["hydra.launcher.jobs_per_task=2"]

pytestmark = pytest.mark.slurm


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The results of SLOW, and of two more sample counts, computed in one process uninterrupted."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    done = train(folder, "-m", "samples=1,2,...,6", *SLOW[1:])
    assert done.returncode == 0, done.stderr
    return studies(folder)


@pytest.fixture
def settled(cluster):
    """The cluster, with nothing in its queue before and after."""
    cluster.settle()
    yield cluster
    cluster.settle()


def launched(cluster, folder, *more, seconds=SOME, tasks=2):
    """A sweep that has begun: its tasks run, and the first records are there."""
    environment = cluster.environment | slowly(seconds)
    process = start(folder, *SLURM, *PAIRS, *SLOW, *more, **environment)
    eventually(lambda: len(cluster.workers()) == tasks, what="the tasks run")
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


def resumed(cluster, folder, uninterrupted, *more, count=40, launcher=("-m",)):
    """The same sweep again completes it, with the results of an uninterrupted run; in one process, for
    starting another is most of what is left to do."""
    before = len(studies(folder))
    done = train(folder, *launcher, *SLOW, *more, **cluster.environment | slowly(0))
    assert done.returncode == 0, done.stdout + done.stderr
    reused = int(re.search(rf"{count} studies, (\d+) reused", done.stdout)[1])
    assert before <= reused < count
    complete(folder, uninterrupted, count)


def test_the_readme_s_command(settled, tmp_path):
    """On two batches; `make study` computes all ten."""
    done = train(tmp_path, *SLURM, *OF_THE_README, **settled.environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "slurm: 10 jobs in 1 tasks" in done.stdout
    assert "22 studies, 1,100,000 trials" in done.stdout
    # Tracked by the launching process: no other one opened the store.
    runs = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db").search_runs(["1"], max_results=1000)
    assert len(runs) == 22 + 1 + 2  # the launch's, and two summaries
    job = only(tmp_path / "multirun") / "samples=3"
    assert (job / ".hydra" / "config.yaml").is_file()
    assert (job / "train.log").is_file()

    again = train(tmp_path, *SLURM, *OF_THE_README, "report=false", **settled.environment)
    assert again.returncode == 0, again.stderr
    assert "22 studies, 22 reused" in again.stdout
    assert "tasks" not in again.stdout  # nothing was submitted


def test_the_preset_reaches_slurm(settled, tmp_path):
    process = start(
        tmp_path, *SLURM, *SLOW, "hydra.launcher.jobs_per_task=1", "hydra.launcher.partition=debug",
        "hydra.launcher.time=7", "hydra.launcher.memory=300M", "hydra.launcher.cpus=2",
        "hydra.launcher.gpus=1", "hydra.launcher.array_parallelism=1",
        'hydra.launcher.sbatch=["--nice=3","--comment=hello"]',
        "hydra.launcher.setup=['export SRSTE_TEST=here']", **settled.environment | slowly(SOME),
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
    process = launched(settled, tmp_path, seconds=MORE)
    process.send_signal(number)
    time.sleep(0.3)
    process.send_signal(number)  # as impatient people do
    _, err = ended(process, 128 + number)
    assert re.search(r"stopped after \d+ of 40 studies", err)
    eventually(lambda: not settled.tasks("PD", "R"), 20, "tasks are left")
    if number == signal.SIGINT:
        resumed(settled, tmp_path, uninterrupted, launcher=SLURM)


def test_a_cancelled_task_is_a_failed_job_and_not_the_end(settled, tmp_path, uninterrupted):
    process = launched(settled, tmp_path, seconds=MORE)
    first, second = sorted(settled.tasks("R"))
    settled.ask("scancel", first)
    out, _ = ended(process, 1)
    assert "2 of 4 jobs did not get through" in out
    assert re.search(rf"samples=1 .* Slurm job {first}: CANCELLED", out)
    assert re.search(rf"samples=2 .* Slurm job {first}: CANCELLED", out)
    assert f"Slurm job {second}" not in out
    assert "python train.py -m hydra/launcher=slurm" in out.split("The same command runs just those")[1]
    found = studies(tmp_path)
    assert all(f"sr_ste N={n} batch {b}" in found for n in (3, 4) for b in range(1, 9))
    resumed(settled, tmp_path, uninterrupted)


def test_of_three_tasks_one_is_preempted_one_put_back_and_one_killed(settled, tmp_path, uninterrupted):
    """The first two go on in the same launch; the third, by kill -9 of its worker, is lost."""
    six = "samples=1,2,...,6"
    process = launched(settled, tmp_path, six, tasks=3)
    preempted, put_back, killed = sorted(settled.tasks("R"))
    settled.ask("scancel", "--signal=USR2", preempted)
    settled.ask("scontrol", "requeue", put_back)
    os.kill(settled.workers()[killed], signal.SIGKILL)
    out, _ = ended(process, 1)
    assert "2 of 6 jobs did not get through" in out
    for n in (5, 6):
        assert re.search(rf"samples={n} .* Slurm job {killed}\b", out)
    assert f"Slurm job {preempted}" not in out
    assert f"Slurm job {put_back}" not in out
    logs = "".join(p.read_text() for p in tmp_path.rglob(f"{preempted}_0_log.*"))
    assert "this job is preempted" in logs
    assert "Requeued job" in logs
    found = studies(tmp_path)
    assert all(f"sr_ste N={n} batch {b}" in found for n in (1, 2, 3, 4) for b in range(1, 9))
    resumed(settled, tmp_path, uninterrupted, six, count=56)


def test_out_of_time(settled, tmp_path, uninterrupted):
    # With so short a limit, submitit takes the signal for the end of the task's time.
    limits = ["hydra.launcher.time=1", "hydra.launcher.requeues=0"]
    process = launched(settled, tmp_path, *limits)
    settled.ask("scancel", "--signal=USR2", min(settled.tasks("R")))
    out, _ = ended(process, 1)
    assert re.search(r"[1-4] of 4 jobs did not get through", out)  # a busy machine has more out of time
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
    process = launched(settled, tmp_path, seconds=MORE)
    process.kill()
    process.communicate()
    assert settled.tasks("R", "PD")
    done = train(tmp_path, *SLURM, *PAIRS, *SLOW, **settled.environment | slowly(0))
    assert done.returncode == 0, done.stdout + done.stderr
    says = r"[12] Slurm tasks that an earlier run of this command had left: cancelled"
    assert re.search(says, done.stdout)
    complete(tmp_path, uninterrupted)


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
        assert len(said(done.stderr)) == 1

    def test_by_sbatch(self, settled, tmp_path):
        done = train(tmp_path, *SLURM, *SLOW, "hydra.launcher.cpus=64", **settled.environment)
        assert done.returncode == 2, done.stdout + done.stderr
        assert "hydra/launcher=slurm: sbatch says: " in done.stderr
        assert "More processors requested than permitted" in done.stderr
        assert len(said(done.stderr)) == 1


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
