"""What every test runs under: fixed hypothesis seeds, quiet Optuna, one thread."""

from __future__ import annotations

import runpy
import subprocess
import sys

import optuna
import pytest
import torch
from hypothesis import HealthCheck, settings

from tests.shapes import check_all
from tests.support import ROOT, started

# Machines are shared and noisy, so no deadline; the same examples every time.
settings.register_profile(
    "srste", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("srste")


LONGEST = [
    "test_slurm.py", "test_readme.py", "test_crashes.py", "test_cluster_page.py", "test_servers.py",
    "test_benchmarks.py", "test_notebook.py", "test_plain_hydra.py", "test_foreign_files.py",
    "test_safety.py", "test_composing.py", "test_main_job.py", "test_faults.py", "test_streams.py",
    "test_folders.py", "test_bare_cluster.py", "test_soak.py", "test_browser.py",
    "test_optuna_command.py", "test_wheel.py",
]  # fmt: skip
"""The files that take half a minute and more, in the order in which they are begun."""


def pytest_collection_modifyitems(items):
    """The longest files first, so that no worker is left with one of them at the end."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(LONGEST)))


_compiling = []


def pytest_sessionstart(session):
    """Compiles the kernels before several processes at once would each find that they are not. What most
    runs need is waited for, the rest is there soon."""
    several = getattr(session.config.option, "numprocesses", None)
    if several and not hasattr(session.config, "workerinput"):
        steps = runpy.run_path(str(ROOT / "benchmarks/start_up.py"))["STEPS"]
        _, chains, *others = (f"{before}\n{wanted}\n" for wanted, before in steps.values())
        _compiling.extend(
            subprocess.Popen([sys.executable, "-c", code]) for code in (chains, "".join(others))
        )
        assert _compiling[0].wait() == 0


def pytest_sessionfinish():
    for process in _compiling:
        assert process.wait() == 0


@pytest.fixture(autouse=True)
def _nothing_left_running():
    yield
    while started:
        process = started.pop()
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture(autouse=True)
def _as_the_script(monkeypatch):
    """What is called in this process speaks in the script's name."""
    monkeypatch.setattr(sys, "argv", ["train.py"])


@pytest.fixture(autouse=True, scope="session")
def _quiet_and_single_threaded():
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _shapes_are_checked():
    assert check_all()
