"""A process in which the libraries are imported already, and of which each run of train.py is a fork.

Their imports are most of what a small run costs. The project's own modules are not among them: every run
imports those itself, and its environment, folder and output are its own.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import random
import runpy
import select
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

LIBRARIES = [
    "hydra", "jinja2", "matplotlib.backends.backend_agg", "matplotlib.backends.backend_svg",
    "matplotlib.figure", "mlflow.store.tracking.sqlalchemy_store", "numba", "optuna", "pandas",
    "psutil", "pyarrow.parquet", "rich.progress", "rich.table", "scipy.stats", "sqlalchemy",
    "statsmodels.stats.multitest", "statsmodels.stats.power", "submitit", "threadpoolctl", "torch",
    "yaml",
]  # fmt: skip
BEFORE_IMPORTS = ("LD_PRELOAD", "PYTHONHASHSEED")
"""Variables that a process reads as it starts."""


class Prepared:
    """That process, seen from the tests; started when it is first needed."""

    def __init__(self):
        self._process = None

    def run(self, script, arguments, cwd, environment, timeout):
        """As subprocess.run of Python with that script does."""
        if self._process is None:
            self._start()
        with tempfile.TemporaryDirectory() as folder:
            out, err = Path(folder) / "out", Path(folder) / "err"
            wanted = {"argv": [str(script), *arguments], "cwd": str(cwd), "environment": environment,
                      "out": str(out), "err": str(err)}  # fmt: skip
            self._process.stdin.write(json.dumps(wanted).encode() + b"\n")
            self._process.stdin.flush()
            pid = int(self._process.stdout.readline())
            if not select.select([self._process.stdout], [], [], timeout)[0]:
                os.kill(pid, signal.SIGKILL)
                self._process.stdout.readline()
                raise subprocess.TimeoutExpired(
                    wanted["argv"], timeout, out.read_text(), err.read_text()
                )
            code = int(self._process.stdout.readline())
            return subprocess.CompletedProcess(wanted["argv"], code, out.read_text(), err.read_text())

    def _start(self):
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0,
            env=os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"},
        )  # fmt: skip
        atexit.register(self._end)

    def _end(self):
        self._process.stdin.close()  # at which it ends
        self._process.wait()
        self._process.stdout.close()


def serve():
    """One run after the other, as the lines on standard input ask for them. Answers: its number, and
    when it has ended its exit code."""
    for name in LIBRARIES:
        importlib.import_module(name)
    sys.modules["numba"].njit("f8(f8)")(lambda x: x)  # at its first function it imports the rest of it
    gc.freeze()  # else the first collection of every run copies all that was imported
    for line in sys.stdin:
        wanted = json.loads(line)
        pid = os.fork()
        if pid == 0:
            become(wanted)
            runpy.run_path(wanted["argv"][0], run_name="__main__")
            return
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


def become(wanted):
    """This process is as if it had been started for that."""
    for number, name, mode in ((0, os.devnull, os.O_RDONLY), (1, wanted["out"], os.O_WRONLY),
                               (2, wanted["err"], os.O_WRONLY)):  # fmt: skip
        opened = os.open(name, mode | os.O_CREAT)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdin = open(0)  # noqa: SIM115 - the old one has read ahead
    os.chdir(wanted["cwd"])
    os.environ.clear()
    os.environ.update(wanted["environment"])
    sys.argv = wanted["argv"]
    first = wanted["environment"].get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:1] = [str(Path(wanted["argv"][0]).parent), *filter(None, first)]
    random.seed()
    sys.modules["numpy"].random.seed()


prepared = Prepared()

if __name__ == "__main__":
    serve()
