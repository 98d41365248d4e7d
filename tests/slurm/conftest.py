"""The cluster that these tests share; without Slurm they are skipped, or with REQUIRE_SLURM=1 fail."""

from __future__ import annotations

import pytest

from tests.slurm import cluster as clusters
from tests.support import skip


@pytest.fixture(scope="module")
def cluster():
    """A cluster with accounting."""
    yield from _running()


@pytest.fixture(scope="module")
def bare_cluster():
    """A cluster without accounting, hence without sacct, that takes arrays of two jobs at most."""
    yield from _running(accounting=False, longest_array=2)


def _running(**options):
    if why := clusters.missing():
        skip(why)
    with clusters.running(**options) as found:
        yield found
