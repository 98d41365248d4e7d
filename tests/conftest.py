"""What every test runs under: fixed hypothesis seeds, quiet Optuna, one thread."""

from __future__ import annotations

import optuna
import pytest
import torch
from hypothesis import HealthCheck, settings

from tests.support import started

# Machines are shared and noisy, so no deadline; the same examples every time.
settings.register_profile(
    "srste", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("srste")


def pytest_collection_modifyitems(items):
    """Files of few, long tests first, so that no worker is left with one of them at the end."""
    items.sort(key=lambda item: item.path.name != "test_readme.py")


@pytest.fixture(autouse=True)
def _nothing_left_running():
    yield
    while started:
        process = started.pop()
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture(autouse=True, scope="session")
def _quiet_and_single_threaded():
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    torch.set_num_threads(1)
