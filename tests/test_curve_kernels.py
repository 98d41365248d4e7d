"""Parts of the loss curve that are wrong in ways its values seldom show."""

from __future__ import annotations

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from srste.curve.following import one_blas_thread
from srste.curve.kernels.pieces import put_in_order

SPREADS = {
    "even": lambda u: u * 0.5,
    "near zero": lambda u: u**40,
    "all at one place": lambda u: np.full_like(u, 0.1),
    "few places": lambda u: np.floor(u * 50) / 100,
    "subnormal": lambda u: u * 1e-308,
    "beyond": lambda u: u * 1e300,  # as far as the largest learning rate may lie
}


@pytest.mark.parametrize("size", [0, 1, 25, 32_768, 100_000])  # in one run and in several
@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("lr_max", [0.5, 5e-324, 1e300])
def test_events_in_order_with_nothing_lost(size, spread, lr_max):
    rng = np.random.default_rng(size)
    events = rng.random((size, 4))
    just_after = rng.integers(0, 2, size).astype(np.uint64)
    events.view(np.uint64)[:, 0] = 2 * SPREADS[spread](rng.random(size)).view(np.uint64) + just_after
    given = events.view(np.uint64).copy()
    put_in_order(events, lr_max)
    found = events.view(np.uint64)
    assert (found[:, 0] == np.sort(given[:, 0])).all()
    # The coefficients are all different, so that they name the events.
    assert (found[np.argsort(found[:, 1])] == given[np.argsort(given[:, 1])]).all()


def blas_threads():
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


def test_blas_gets_its_threads_back():
    with threadpool_limits(2, user_api="blas"):
        with one_blas_thread():
            with one_blas_thread():  # as another thread's curve that ends first
                assert blas_threads() == {1}
            assert blas_threads() == {1}
        assert blas_threads() == {2}
