"""A process that has imported the libraries and what does a study; each run of train.py is a fork of it.

Imports are most of what a small run costs, and after them reading the sources that are in a study's key.
Its environment, folder and output are its own. Another script, beside which other code may lie, finds
none of the project's modules imported.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import math
import os
import random
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

LIBRARIES = [
    "hydra", "jinja2", "matplotlib.backends.backend_agg", "matplotlib.backends.backend_svg",
    "matplotlib.figure", "mlflow.store.tracking.sqlalchemy_store", "numba", "optuna", "pandas",
    "psutil", "pyarrow.parquet", "rich.progress", "rich.table", "scipy.stats", "sqlalchemy",
    "statsmodels.stats.multitest", "statsmodels.stats.power", "submitit", "threadpoolctl", "torch",
    "yaml",
]  # fmt: skip
ROOT = Path(__file__).parent.parent
OWN = [str(ROOT / "train.py"), str(ROOT / "srste" / "__main__.py")]
"""The scripts that have nothing but the project beside them; the second is `python -m srste`."""
BEFORE_IMPORTS = ("LD_PRELOAD", "PYTHONHASHSEED")
"""Variables that a process reads as it starts."""


class Prepared:
    """That process, seen from the tests; started when it is first needed."""

    def __init__(self):
        self._process = self._folders = None

    def run(self, script, arguments, cwd, environment, timeout):
        """As subprocess.run of Python with that script does."""
        forked = self.start(script, arguments, cwd, environment)
        try:
            out, err = forked.communicate(timeout)
        except subprocess.TimeoutExpired:
            forked.kill()
            out, err = forked.communicate()
            raise subprocess.TimeoutExpired(forked.args, timeout, out, err) from None
        return subprocess.CompletedProcess(forked.args, forked.returncode, out, err)

    def start(self, script, arguments, cwd, environment):
        """As subprocess.Popen of Python with that script does."""
        if self._process is None:
            self._start()
        folder = Path(tempfile.mkdtemp(dir=self._folders.name))
        wanted = {"argv": [str(script), *arguments], "cwd": str(cwd), "environment": environment,
                  "folder": str(folder)}  # fmt: skip
        self._process.stdin.write(json.dumps(wanted).encode() + b"\n")
        self._process.stdin.flush()
        return Forked(int(self._process.stdout.readline()), wanted["argv"], folder)

    def _start(self):
        self._folders = tempfile.TemporaryDirectory()
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0,
            env=os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"},
        )  # fmt: skip
        atexit.register(self._end)

    def _end(self):
        self._process.stdin.close()  # at which it ends
        self._process.wait()
        self._process.stdout.close()


class Forked:
    """A run, as subprocess.Popen has it."""

    def __init__(self, pid, args, folder):
        self.pid, self.args, self.returncode = pid, args, None
        self._folder = folder

    def poll(self):
        if self.returncode is None and (self._folder / "code").exists():
            self.returncode = int((self._folder / "code").read_text())
        return self.returncode

    def send_signal(self, number):
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self):
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout=math.inf):
        """(standard output, standard error) once it has ended."""
        deadline = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(self.args, timeout)
            time.sleep(0.01)
        return tuple((self._folder / name).read_text() for name in ("out", "err"))


def serve():
    """A run for each line on standard input, beside one another. Answers: its number."""
    for name in LIBRARIES:
        importlib.import_module(name)
    sys.modules["numba"].njit("f8(f8)")(lambda x: x)  # at its first function it imports the rest of it
    import_project()
    gc.freeze()  # else the first collection of every run copies all that was imported
    for line in sys.stdin:
        wanted = json.loads(line)
        keeper = os.fork()
        if keeper == 0:
            pid = os.fork()
            if pid == 0:
                become(wanted)
                runpy.run_path(wanted["argv"][0], run_name="__main__")
                return
            print(pid, flush=True)
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            written = Path(wanted["folder"]) / "code.tmp"
            written.write_text(str(code))
            written.rename(written.with_suffix(""))
            os._exit(0)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:  # keepers that have ended
                pass


def import_project():
    """What does a study, and the sources of all that may be in its key. What launches, tracks and
    reports looks at its environment as it is imported, so every run imports that itself."""
    sys.path.insert(0, str(ROOT))
    importlib.import_module("srste.launch.job_runner")
    importlib.import_module("srste.curve.engine.kernels.loading").load_kernels(lambda: None)
    paths = [path.relative_to(ROOT) for path in (ROOT / "srste").rglob("*.py")]
    names = {".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in paths}
    importlib.import_module("srste.store.provenance").code_modules(frozenset(names))
    del sys.path[0]


def forget_project():
    for name in list(sys.modules):
        if name.partition(".")[0] == "srste":
            del sys.modules[name]


def become(wanted):
    """This process is as if it had been started for that."""
    folder = Path(wanted["folder"])
    for number, name, mode in ((0, Path(os.devnull), os.O_RDONLY), (1, folder / "out", os.O_WRONLY),
                               (2, folder / "err", os.O_WRONLY)):  # fmt: skip
        opened = os.open(name, mode | os.O_CREAT)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdin = open(0)  # noqa: SIM115 - the old one has read ahead
    os.chdir(wanted["cwd"])
    os.environ.clear()
    os.environ.update(wanted["environment"])
    sys.argv = wanted["argv"]
    first = wanted["environment"].get("PYTHONPATH", "").split(os.pathsep)
    script = Path(wanted["argv"][0])
    script_folder = wanted["cwd"] if script.name == "__main__.py" else str(script.parent)
    sys.path[:1] = [script_folder, *filter(None, first)]
    if str(script) not in OWN:
        forget_project()
    random.seed()
    sys.modules["numpy"].random.seed()


prepared = Prepared()

if __name__ == "__main__":
    serve()
