"""kill -9 at random moments, full disks, damaged files, clocks that go backwards: the same command again
ends with nothing lost, nothing doubled, and the results of an uninterrupted run, bit by bit."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import time
import traceback
from pathlib import Path

import psutil
import pytest

from srste.launch.cluster.work import ProcessId, start_time
from srste.store import records
from srste.store.manifest import Launch
from srste.store.trial_tables import packed
from tests.support import (
    SLOWLY,
    SMALL,
    a_store,
    eventually,
    only,
    runs_in,
    same_results,
    skip,
    slowly,
    start,
    studies,
    tracked_once,
    train,
    wait_for,
)

SWEEP = ["-m", "samples=1,2,...,4", *SMALL]
LOCAL = ["hydra/launcher=local_parallel", "hydra.launcher.jobs_per_task=2"]
ONE_EACH = ["hydra/launcher=local_parallel", "hydra.launcher.jobs_per_task=1"]


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A folder in which SWEEP has run without interruption."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    assert train(folder, *SWEEP, "tracking=none").returncode == 0
    return folder


@pytest.fixture(scope="module")
def uninterrupted(swept):
    """Its results."""
    return studies(swept)


@pytest.fixture
def a_copy(swept, tmp_path):
    """That folder once more, to do something to."""
    return shutil.copytree(swept, tmp_path / "copy")


def workers_of(process):
    """The processes that run jobs for that launching process."""
    try:
        children = psutil.Process(process.pid).children(recursive=True)
        return [c for c in children if "submitit.core._submit" in c.cmdline()]
    except psutil.NoSuchProcess:
        return []


@pytest.mark.parametrize(
    ("launcher", "seconds"), [([], 2), (LOCAL, 5)], ids=["in one process", "local_parallel"]
)
def test_kill_9_of_the_sweep_at_random_moments(tmp_path, uninterrupted, launcher, seconds):
    """seconds: that a sweep takes at least; it checks, computes and tracks."""
    moments = random.Random(20261124)
    killed = 0
    a_store(tmp_path)  # for what becomes of a half-made one, see below
    for _ in range(4):
        process = start(tmp_path, *SWEEP, *launcher)
        try:
            process.communicate(timeout=moments.uniform(0.3, seconds))
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            killed += 1
    assert killed >= 2
    done = train(tmp_path, *SWEEP, *launcher)
    assert done.returncode == 0, done.stdout + done.stderr
    found = studies(tmp_path / "multirun")
    same_results(found, uninterrupted)
    tracked_once(f"sqlite:///{tmp_path}/mlflow.db", found)
    assert not [p for p in tmp_path.rglob("*.srste.tmp") if ".submitit" not in p.parts]


def test_kill_9_of_a_worker_is_one_failed_job(tmp_path, uninterrupted):
    slower = ["-m", "samples=1,2,3", "batches=4", *SLOWLY]
    process = start(tmp_path, *slower, *ONE_EACH, "hydra.launcher.workers=2", **slowly(0.3))
    wait_for(process, tmp_path, "record.json", 2)
    workers_of(process)[0].kill()
    out, err = process.communicate(timeout=240)
    assert process.returncode == 1, out + err
    assert "1 of 3 jobs did not get through" in out
    assert "its process ended, as if killed (log: " in out
    assert "hydra/launcher=local_parallel" in out.split("The same command runs just those")[1]
    done = train(tmp_path, *slower, *ONE_EACH, **slowly(0))
    assert done.returncode == 0, done.stderr
    assert "local_parallel: 1 jobs in 1 tasks" in done.stdout
    assert len(studies(tmp_path)) == 16


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_workers_do_not_outlive_the_launching_process(tmp_path, number):
    process = start(tmp_path, "-m", "samples=1,2,...,8", "batches=20", *SLOWLY, *LOCAL, **slowly(0.5))
    wait_for(process, tmp_path, "record.json", 1)
    workers = eventually(lambda: workers_of(process))
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == (-number if number == signal.SIGKILL else 128 + number)
    if number != signal.SIGKILL:
        assert re.search(r"stopped after \d+ of 180 studies", err), err
        assert "Traceback" not in err
    _, alive = psutil.wait_procs(workers, timeout=15)
    assert not alive


def test_a_job_that_raises_is_one_failed_job_in_one_process_too(tmp_path):
    (tmp_path / "failing.py").write_text(
        "class Failing:\n"
        "    stochastic = False\n"
        "    def direction(self, problem, batch, samples):\n"
        "        if problem.batch_size > 2:  # not in the rehearsal\n"
        "            raise RuntimeError('boom')\n"
        "        return {n: p.detach() * 0 for n, p in problem.model.named_parameters()}\n"
    )
    (tmp_path / "own" / "estimator").mkdir(parents=True)
    (tmp_path / "own" / "estimator" / "failing.yaml").write_text(
        "name: failing\n_target_: failing.Failing\n"
    )
    for launcher in ([], LOCAL):
        done = train(
            tmp_path, "-m", f"--config-dir={tmp_path}/own", "estimator=failing,ste", "tracking=none",
            *SMALL, *launcher, PYTHONPATH=str(tmp_path),
        )  # fmt: skip
        assert done.returncode == 1, done.stdout + done.stderr
        assert "1 of 2 jobs did not get through" in done.stdout
        assert re.search(r"estimator=failing +2 of 2 +RuntimeError: boom", done.stdout)
        assert len(studies(tmp_path)) == 2


def damage(path, how):
    content = bytearray(path.read_bytes())
    if how == "truncated":
        content = content[: len(content) // 2]
    else:
        content[len(content) // 2] ^= 0x10
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(("how", "name"), [("truncated", records.RECORD), ("flipped", records.TRIALS)])
def test_a_damaged_record_is_set_aside_and_run_again(a_copy, uninterrupted, how, name):
    folder = only(a_copy / "multirun") / "samples=3" / "studies" / "batch-02"
    damage(folder / name, how)
    damaged = (folder / name).read_bytes()
    launcher = LOCAL if how == "flipped" else []
    done = train(a_copy, *SWEEP, *launcher, "tracking=none")
    assert done.returncode == 0, done.stderr
    assert "10 studies, 9 reused" in done.stdout
    (kept,) = (folder.parent / ".set-aside").iterdir()
    assert (kept / name).read_bytes() == damaged
    same_results(studies(a_copy), uninterrupted)


@pytest.mark.parametrize(
    ("launcher", "size"), [([], "236k"), (LOCAL, "330k")], ids=["in one process", "local_parallel"]
)
def test_a_full_disk(tmp_path, uninterrupted, launcher, size):
    """A file system of its own that has room for some of the records."""
    if os.geteuid() != 0:
        skip("mounting a small file system needs root")
    disk = tmp_path / "multirun"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        skip("no file system can be mounted here")
    try:
        done = train(tmp_path, *SWEEP, *launcher, "tracking=none")
        assert done.returncode == 1, done.stdout + done.stderr
        assert "No space left on device" in done.stdout + done.stderr
        assert "Traceback" not in done.stdout + done.stderr
        assert "jobs did not get through" in done.stdout
        kept = studies(disk)
        assert 0 < len(kept) < 10
        same_results(kept, {name: uninterrupted[name] for name in kept})
        grow = ["mount", "-o", "remount,size=64m", str(disk)]
        subprocess.run(grow, check=True)
        again = train(tmp_path, *SWEEP, "tracking=none")
        assert again.returncode == 0, again.stderr
        assert f"10 studies, {len(kept)} reused" in again.stdout
        same_results(studies(disk), uninterrupted)
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def faketime():
    """The library that shows a process another time; the test is skipped where there is none."""
    found = sorted(Path("/usr/lib").rglob("libfaketime.so.1"))
    if not found:
        skip("libfaketime is not installed (Debian: libfaketime)")
    return str(found[0])


def test_a_clock_that_goes_backwards(tmp_path, uninterrupted):
    """Two hours back in mid-run, and a day back for the next run."""
    clock = tmp_path / "clock"
    clock.write_text("+0")
    fake = {"LD_PRELOAD": faketime(), "FAKETIME_TIMESTAMP_FILE": str(clock), "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1", "FAKETIME_XRESET": "1"}  # fmt: skip
    a_store(tmp_path)
    process = start(tmp_path, *SWEEP, **fake)
    wait_for(process, tmp_path, "record.json", 3)
    clock.write_text("-2h")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, out + err
    created = sorted(record.created for record, _ in studies(tmp_path / "multirun").values())
    hours = [int(when[11:13]) for when in (created[0], created[-1])]
    assert (hours[1] - hours[0]) % 24 == 2, "the clock did not go back"
    clock.write_text("-1d")
    again = train(tmp_path, *SWEEP, **fake)
    assert again.returncode == 0, again.stderr
    assert "10 studies, 10 reused" in again.stdout
    found = studies(tmp_path / "multirun")
    same_results(found, uninterrupted)
    tracked_once(f"sqlite:///{tmp_path}/mlflow.db", found)


def test_eight_processes_at_once_on_a_fresh_store_and_eight_writers_on_one(tmp_path, monkeypatch):
    """Each opens the store, which none has made yet, and logs a study."""
    from srste.tracking import entries, open_store

    assert train(tmp_path, "batches=8", "samples=1", *SMALL[1:], "tracking=none").returncode == 0
    monkeypatch.chdir(tmp_path)
    found = [(f, r) for f, r in records.find(tmp_path) if r.samples]
    tracking = {"uri": f"sqlite:///{tmp_path}/fresh.db", "experiment": "srste"}
    launch = Launch("1" * 32, "eight", [], False, "", found[0][1].created, tracking)

    def writer(study):
        open_store(tracking).add(launch, entries([study], [], "study"))

    assert at_once(writer, found) == [0] * 8
    runs = runs_in(tracking["uri"])
    assert {r.info.status for r in runs} == {"FINISHED"}
    keys = sorted(r.data.tags["mlflow.srste.key"] for r in runs)
    assert keys == sorted(record.key for _, record in found)


def at_once(work, arguments):
    """Runs the work in as many processes at once, one for each argument; returns their exit codes, 1
    where the work raised."""
    children = []
    for argument in arguments:
        if (pid := os.fork()) == 0:
            try:
                os._exit(work(argument) or 0)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
        children.append(pid)
    return sorted(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children)


def test_kill_9_while_a_new_store_is_made(tmp_path):
    """MLflow migrates a new database table by table; half of one could never be opened again."""
    for moment in (0.2, 0.5, 0.8):
        process = start(tmp_path, "batches=1", *SMALL[1:])
        made = tmp_path / ".mlflow.db.srste.lock"
        eventually(made.exists)
        time.sleep(moment)
        process.kill()
        process.communicate()
        made.unlink()
        if not (tmp_path / "mlflow.db").exists():  # it was killed in time
            assert list(tmp_path.glob(".mlflow.db.*.srste.new*"))
    done = train(tmp_path, "batches=1", *SMALL[1:])
    assert done.returncode == 0, done.stderr
    assert len(runs_in(f"sqlite:///{tmp_path}/mlflow.db")) == 2 + 1 + 2
    assert not list(tmp_path.glob(".mlflow.db.*.srste.new*"))


def test_eight_writers_of_one_record(tmp_path):
    """One of them succeeds, the others see that it did, and what is read is whole at every moment."""
    from tests.test_records import record, trials

    table = packed(trials())

    def writer(_):
        return 0 if records.write(tmp_path / "r", record(table), table) else 3

    assert at_once(writer, range(8)) == [0] + [3] * 7
    assert records.read(tmp_path / "r") == record(table)
    assert [p.name for p in tmp_path.iterdir()] == ["r"]


def test_a_damaged_note_of_a_pretraining_is_made_again(tmp_path):
    arguments = ["-m", "samples=1,2", "pretraining=adam", "pretraining.steps=20",
                 "pretraining.batch_size=50", *SMALL]  # fmt: skip
    a_store(tmp_path)
    assert train(tmp_path, *arguments).returncode == 0
    (note,) = tmp_path.rglob("pretraining/*.json")
    before = json.loads(note.read_text())
    for how, launcher in (("truncated", []), ("flipped", LOCAL)):
        damage(note, how)
        done = train(tmp_path, *arguments, *launcher)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "6 studies, 6 reused" in done.stdout
        assert json.loads(note.read_text())["losses"] == before["losses"]
    kinds = [r.data.tags["kind"] for r in runs_in(f"sqlite:///{tmp_path}/mlflow.db")]
    assert sorted(kinds) == ["launch", "pretraining"] + ["study"] * 6 + ["summary"] * 2


def test_the_launching_process_is_told_from_others():
    this = ProcessId.current()
    assert this.is_running()
    assert not ProcessId(this.pid, this.started + "0").is_running()  # another one, later, of that number
    child = subprocess.Popen(["sleep", "0.5"])
    started = ProcessId(child.pid, start_time(child.pid))
    eventually(lambda: psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE)
    assert not started.is_running()
    child.wait()
    assert not started.is_running()


def test_records_that_are_not_to_be_reused_are_kept_aside(a_copy, uninterrupted):
    done = train(a_copy, *SWEEP, "resume=false", "tracking=none")
    assert done.returncode == 0
    assert "reused" not in done.stdout
    same_results(studies(a_copy), uninterrupted)
    kept = [p for p in a_copy.rglob("record.json") if ".set-aside" in p.parts]
    assert len(kept) == 10
