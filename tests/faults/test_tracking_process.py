"""The process that writes to MLflow, killed at any moment: no run is lost, and none is there twice."""

import random
import signal
import time
from contextlib import suppress

import psutil
import pytest

from tests.support import SMALL, eventually, same_results, start, studies, tracked_once, train

SWEEP = ["-m", "samples=1,2,3", *SMALL]


def writer_of(launch):
    """The process that writes the runs of a launch; None while there is none."""
    with suppress(psutil.NoSuchProcess):
        # Git, which tells the commit, is a child for a moment, too.
        children = [c for c in psutil.Process(launch.pid).children() if c.name().startswith("python")]
        return children[0] if children else None
    return None


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    assert train(folder, *SWEEP, "tracking=none", "hydra.sweep.dir=o").returncode == 0
    return studies(folder / "o")


def check(folder, undisturbed):
    """The results are those of a launch that was left alone, and each has one run."""
    results = studies(folder / "o")
    same_results(undisturbed, results)
    tracked_once(f"sqlite:///{folder / 'mlflow.db'}", results)


@pytest.mark.parametrize("seed", range(4))
def test_killed_at_random_moments(tmp_path, undisturbed, seed):
    dice = random.Random(seed)
    launch = start(tmp_path, *SWEEP, "hydra.sweep.dir=o")
    killed = 0
    while launch.poll() is None and killed < 3:
        time.sleep(dice.uniform(0.05, 1.0))
        if (writer := writer_of(launch)) is not None:
            with suppress(psutil.NoSuchProcess):
                writer.kill()
                killed += 1
    out, err = launch.communicate()
    assert launch.returncode == 0, err
    assert killed
    assert "MLflow's process has ended (signal 9); another one takes its place" in out + err
    check(tmp_path, undisturbed)


def test_given_up_after_several_and_made_good_by_the_same_command(tmp_path, undisturbed):
    launch = start(tmp_path, *SWEEP, "hydra.sweep.dir=o")
    while launch.poll() is None:
        if (writer := writer_of(launch)) is not None:
            with suppress(psutil.NoSuchProcess):
                writer.kill()
        time.sleep(0.02)
    _, err = launch.communicate()
    assert launch.returncode == 2
    assert "its process has ended 5 times, at last by signal 9" in err
    assert "Traceback" not in err
    assert train(tmp_path, *SWEEP, "hydra.sweep.dir=o").returncode == 0
    check(tmp_path, undisturbed)


def test_it_ends_with_a_launch_that_is_killed(tmp_path, undisturbed):
    launch = start(tmp_path, *SWEEP, "hydra.sweep.dir=o")
    eventually(lambda: writer_of(launch) is not None, what="the writer")
    writer = writer_of(launch)
    eventually(lambda: list((tmp_path / "o").glob("*/studies/*/record.json")), what="a record")
    launch.send_signal(signal.SIGKILL)
    eventually(lambda: not writer.is_running() or writer.status() == "zombie", what="the writer's end")
    assert train(tmp_path, *SWEEP, "hydra.sweep.dir=o").returncode == 0
    check(tmp_path, undisturbed)
