"""A real Slurm cluster of two nodes on this machine, started and stopped by `cluster.sh`."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from tests.support import eventually

SCRIPT = Path(__file__).parent / "cluster.sh"
NEEDED = ["munged", "slurmctld", "slurmd", "slurmdbd", "sbatch", "mariadbd"]


def missing():
    """Why no cluster can be started here; empty if one can."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    lacking = [name for name in NEEDED if shutil.which(name, path=path) is None]
    if lacking:
        return f"not installed: {', '.join(lacking)} (Debian's packages are in .ci/run)"
    return "" if os.geteuid() == 0 else "starting Slurm's daemons needs root"


class Cluster:
    """A running cluster. environment: what its commands need."""

    def __init__(self, folder, environment):
        self.folder = folder
        self.environment = environment

    def ask(self, *command):
        """What one of Slurm's commands answers."""
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, env=os.environ | self.environment
        )
        return done.stdout

    def tasks(self, *states):
        """The ids of the tasks in the queue in those states; in any if none is given."""
        only = [f"--states={','.join(states)}"] if states else []
        return self.ask("squeue", "--noheader", "--array", "--format=%i", *only).split()

    def node_of(self, task):
        """The node that runs it."""
        return self.ask("squeue", "--noheader", "--array", f"--jobs={task}", "--format=%N").strip()

    def workers(self):
        """The process ids of the tasks' Python, by their task."""
        found = {}
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                if b"submitit.core._submit" in path.read_bytes() and (env := _environ(path.parent)):
                    job, array = env.get("SLURM_JOB_ID"), env.get("SLURM_ARRAY_JOB_ID")
                    comm = (path.parent / "comm").read_text()
                    if job and self._is_ours(env) and "py" in comm:
                        task = f"{array}_{env['SLURM_ARRAY_TASK_ID']}" if array else job
                        found[task] = int(path.parent.name)
        return found

    def lose(self, node):
        """The node loses its power: its daemon and everything that it runs are gone at once."""
        daemon = int((self.folder / f"slurmd-{node}.pid").read_text())
        jobs = {
            p.name.split("_")[-1].split(".")[0] for p in (self.folder / "spool" / node).glob("n*_*.*")
        }
        keepers, others = [daemon], []
        for path in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                title = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                step = re.match(r"slurmstepd: \[(\d+)\.", title)
                environ = _environ(path)
                if step and step[1] in jobs:
                    keepers.append(int(path.name))
                elif environ.get("SLURMD_NODENAME") == node and self._is_ours(environ):
                    others.append(int(path.name))
        # Those that would tell the controller first, or it hears of a job that failed.
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in keepers + others:
                with suppress(ProcessLookupError):
                    os.kill(pid, number)

    def _is_ours(self, environ):
        return environ.get("SLURM_CONF") == self.environment["SLURM_CONF"]

    def bring_back(self, node):
        """The node starts again."""
        pidfile = self.folder / f"slurmd-{node}.pidfile"
        pidfile.unlink(missing_ok=True)  # of the daemon that was killed
        subprocess.run(["slurmd", "-N", node], env=os.environ | self.environment, check=True)
        pid = eventually(lambda: _text(pidfile))
        (self.folder / f"slurmd-{node}.pid").write_text(pid)
        eventually(lambda: self.idle(node), 60, f"{node} does not come back")

    def idle(self, node):
        return "idle" in self.ask("sinfo", "--noheader", f"--nodes={node}", "--format=%T").split()

    def settle(self):
        """Waits until nothing is queued or running."""
        eventually(lambda: not self.tasks(), 90, "the queue does not empty")


def _text(path):
    return path.read_text().strip() if path.exists() else ""


def _environ(path):
    try:
        pairs = (path / "environ").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return {}
    return dict(pair.split("=", 1) for pair in pairs if "=" in pair)


@contextmanager
def running(accounting=True, longest_array=1001):
    """A cluster while it lasts."""
    folder = Path(tempfile.mkdtemp(prefix="sl", dir="/tmp"))  # Unix sockets stop at 108 characters
    port, ports = reserved_ports(4)
    environment = {
        "SLURM_TEST_PORT": str(port), "ACCT": str(int(accounting)),
        "MAX_ARRAY": str(longest_array), "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin",
    }  # fmt: skip

    def script(word):
        done = subprocess.run(
            ["bash", str(SCRIPT), word, str(folder), "2", "2"], env=os.environ | environment,
            capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr + done.stdout

    try:
        script("start")
        yield Cluster(folder, {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": environment["PATH"]})
    finally:
        script("stop")
        ports.release()
        shutil.rmtree(folder, ignore_errors=True)


def reserved_ports(count):
    """(the first of that many free ports in a row, a lock on them).

    They lie below those that clients are given, and no other cluster of these tests takes them while the
    lock is held: daemons bind their ports one after the other, long after these were seen to be free.
    """
    for first in range(16_800, 32_000, 16):
        lock = FileLock(Path(tempfile.gettempdir()) / f"srste-test-ports-{first}.lock")
        with suppress(Timeout):
            lock.acquire(timeout=0)
            if all(_free(first + i) for i in range(count)):
                return first, lock
            lock.release()
    raise AssertionError("no ports are free")


def _free(port):
    import socket

    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
