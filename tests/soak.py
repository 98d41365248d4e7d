"""Faults at random, for ten minutes: `make soak`, or `SOAK_SECONDS=60 SOAK_SEED=7 python -m tests.soak`.

One sweep after the other is hit by some faults, each while it runs, then completed by the same command
without any; its results must be those of an uninterrupted sweep bit by bit, and its runs in MLflow each
there once. Prints what was tried and how often; exit code 1 if anything was lost or doubled.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack, suppress
from pathlib import Path

from srste.store import records
from tests.faults.test_crashes import LOCAL, damage, workers_of
from tests.slurm import cluster as clusters
from tests.support import (
    SMALL,
    free_port,
    mlflow_server,
    same_results,
    start,
    studies,
    tracked_once,
    train,
)

SWEEP = ["-m", "samples=1,2,...,8", *SMALL]
SLURM = ["hydra/launcher=slurm", "hydra.launcher.jobs_per_task=1"]


class Soak:
    """One soak. count: faults by name; lives: sweeps that were completed."""

    def __init__(self, folder, dice, cluster):
        self.folder = folder
        self.dice = dice
        self.cluster = cluster
        self.count = Counter()
        self.lives = 0
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.server = None
        (folder / "clock").write_text("+0")

    # What runs, and the moment at which something happens to it.

    def sweep(self, *launcher):
        """The sweep, begun with one of the launchers."""
        more = launcher or self.dice.choice([[], LOCAL, *([SLURM] if self.cluster else [])])
        environment = self.cluster.environment if self.cluster else {}
        return start(self.life, *SWEEP, *more, f"tracking.uri={self.uri}", **environment)

    def a_moment(self, process, least=1.5, most=6.0):
        """Waits for a random moment. Returns whether the process still runs."""
        with suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=self.dice.uniform(least, most))
        return process.poll() is None

    def strike(self, name, process, number):
        """A signal to the launching process, if it still runs."""
        if self.a_moment(process):
            process.send_signal(number)
            self.count[name] += 1
        process.communicate(timeout=120)

    # The faults.

    def kill_the_sweep(self):
        self.strike("kill -9 of the sweep", self.sweep(), signal.SIGKILL)

    def end_the_sweep(self):
        number = self.dice.choice([signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
        self.strike(f"{number.name} to the sweep", self.sweep(), number)

    def kill_a_worker(self):
        process = self.sweep(*LOCAL)
        if self.a_moment(process, 2.5, 5) and (workers := workers_of(process)):
            with suppress(Exception):
                self.dice.choice(workers).kill()
                self.count["kill -9 of a worker"] += 1
        process.communicate(timeout=240)

    def restart_the_server(self):
        process = self.sweep()
        if self.a_moment(process):
            os.killpg(self.server.pid, signal.SIGKILL)
            self.server.wait()
            self.count["kill -9 of the MLflow server"] += 1
            self.start_server()
        process.communicate(timeout=240)

    def damage_a_record(self):
        found = sorted(self.life.rglob("record.json"))
        found = [path for path in found if ".set-aside" not in path.parts]
        if found:
            how = self.dice.choice(["truncated", "flipped"])
            name = self.dice.choice([records.RECORD, records.TRIALS])
            damage(self.dice.choice(found).parent / name, how)
            self.count[f"record {how}"] += 1

    def turn_the_clock(self):
        libraries = sorted(Path("/usr/lib").rglob("libfaketime.so.1"))
        if not libraries:
            return
        clock = self.folder / "clock"
        fake = {"LD_PRELOAD": str(libraries[0]), "FAKETIME_TIMESTAMP_FILE": str(clock),
                "FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}  # fmt: skip
        clock.write_text("+0")
        process = start(self.life, *SWEEP, f"tracking.uri={self.uri}", **fake)
        if self.a_moment(process):
            clock.write_text(f"-{self.dice.randint(1, 48)}h")
            self.count["clock turned back"] += 1
        process.communicate(timeout=240)

    def cancel_a_task(self):
        process = self.sweep(*SLURM)
        if self.a_moment(process, 3, 6) and (tasks := self.cluster.tasks("R")):
            with suppress(subprocess.CalledProcessError):
                kind = self.dice.choice(["scancel", "scontrol requeue", "scancel --signal=USR2"])
                self.cluster.ask(*kind.split(), self.dice.choice(tasks))
                self.count[f"{kind} of a task"] += 1
        process.communicate(timeout=240)

    # The course of it.

    def start_server(self):
        manager = mlflow_server(self.folder / "server", self.port)
        self.server = manager.__enter__()
        self.stop_server = lambda: manager.__exit__(None, None, None)

    def run(self, seconds):
        """Lives until the time is up."""
        reference = self.folder / "reference"
        reference.mkdir()
        assert train(reference, *SWEEP, "tracking=none").returncode == 0
        expected = studies(reference)
        faults = [self.kill_the_sweep] * 12 + [
            self.end_the_sweep, self.kill_a_worker, self.restart_the_server, self.damage_a_record,
            self.turn_the_clock,
        ]  # fmt: skip
        if self.cluster:
            faults.append(self.cancel_a_task)
        self.start_server()
        try:
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                self.life = self.folder / f"life-{self.lives}"
                self.life.mkdir()
                for fault in self.dice.choices(faults, k=self.dice.randint(5, 12)):
                    fault()
                    if time.monotonic() > end:
                        break
                self.complete(expected)
                self.lives += 1
                print(f"{self.lives} sweeps completed, {sum(self.count.values())} faults", flush=True)
        finally:
            self.stop_server()

    def complete(self, expected):
        """The same command without a fault; then everything must be there, once."""
        launcher = self.dice.choice([[], LOCAL])
        done = train(self.life, *SWEEP, *launcher, f"tracking.uri={self.uri}")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Traceback" not in done.stdout + done.stderr
        found = studies(self.life / "multirun")
        same_results(found, expected)
        launch = next(self.life.rglob("launch.json"))
        tracked_once(self.uri, found, launch)
        shutil.rmtree(self.life)


def main():
    seconds = float(os.environ.get("SOAK_SECONDS", "600"))
    seed = int(os.environ.get("SOAK_SEED", str(time.time_ns() % 1_000_000)))
    print(f"SOAK_SEED={seed}, {seconds:.0f} s", flush=True)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="soak")))
        asked = os.environ.get("SOAK_SLURM", "1") == "1"
        why = clusters.missing() if asked else "SOAK_SLURM=0"
        cluster = None if why else stack.enter_context(clusters.running())
        print("with a Slurm cluster" if cluster else f"without Slurm: {why}", flush=True)
        soak = Soak(folder, random.Random(seed), cluster)
        failed = None
        try:
            soak.run(seconds)
        except AssertionError as error:
            failed = error
    for name, count in sorted(soak.count.items()):
        print(f"{count:6d}  {name}")
    print(f"{sum(soak.count.values()):6d}  faults in {soak.lives} sweeps, all completed: "
          f"{'NO' if failed else 'nothing lost, nothing doubled'}")  # fmt: skip
    if failed:
        sys.exit(f"life {soak.lives}: {failed}")


if __name__ == "__main__":
    main()
