"""What is imported when: what a user waits for."""

import gc
import subprocess
import sys
import time

import psutil
import pytest

from srste.launch import clock
from srste.launch.libraries import importing
from tests.support import CONF, ROOT

SLOW = ("torch", "mlflow", "scipy", "matplotlib", "numba", "pandas", "pyarrow", "optuna", "sqlalchemy")


def imported(code, *arguments):
    """The slow libraries that a new process has imported after running code."""
    told = f"{code}\nimport sys\nprint(*(name for name in {SLOW} if name in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", told, *arguments], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("typed", ["-m samples=1,2,...,10", "--help", "batches=3 seed=4"])
def test_a_command_line_is_composed_and_checked_without_libraries(typed):
    code = "import sys, pathlib, srste.launch.launch as one\n"
    code += f"one.compose(sys.argv[1:], pathlib.Path({str(CONF)!r}))"
    assert imported(code, *typed.split()) == set()


def test_records_are_read_without_pytorch_and_mlflow():
    assert imported("import srste.store.records") <= {"optuna", "pyarrow"}
    assert not imported("import srste.launch.results") & {"torch", "mlflow", "numba", "scipy"}


def test_mlflow_s_process_needs_no_pytorch():
    assert not imported("import srste.launch.tracking_requests") & {"torch", "numba"}


def test_the_collector_is_back_after_imports():
    frozen = gc.get_freeze_count()
    with importing():
        assert not gc.isenabled()
    assert gc.isenabled()
    assert gc.get_freeze_count() == frozen  # nothing was imported
    with pytest.raises(ImportError), importing():
        import no_such_library  # noqa: F401
    assert gc.isenabled()


def test_when_this_process_started():
    ours = time.time() - (time.perf_counter() - clock.process_start())
    assert abs(ours - psutil.Process().create_time()) <= 1.1  # psutil's is of whole seconds' boot time
