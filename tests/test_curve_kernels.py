"""Parts of the loss curve that are wrong in ways its values seldom show."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import numba
import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from srste.curve.engine.kernels.follow import follow_kernel
from srste.curve.engine.kernels.lanes import load, store
from srste.curve.engine.kernels.piecewise import add_up
from srste.curve.engine.kernels.positions import position_of_flip, positions_of_flips
from srste.curve.engine.threads import one_blas_thread

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
@pytest.mark.parametrize("in_place", [False, True])
def test_events_added_up_with_nothing_lost(size, spread, lr_max, in_place):
    rng = np.random.default_rng(size)
    events = rng.integers(-1000, 1000, (size, 4)).astype(float)  # whose sums are exact
    just_after = rng.integers(0, 2, size).astype(np.uint64)
    positions = 2 * SPREADS[spread](rng.random(size)).view(np.uint64) + just_after
    events.view(np.uint64)[:, 0] = positions
    order = np.argsort(positions, kind="stable")
    starts, first = np.unique(positions[order], return_index=True)
    sums = np.cumsum(events[order, 1:], axis=0)[np.append(first[1:], size)[: len(first)] - 1]
    pieces = events if in_place else np.empty(events.shape)
    found = pieces[: add_up(events, lr_max, pieces, in_place)]
    assert (found.view(np.uint64)[:, 0] == starts).all()
    assert (found[:, 1:] == sums).all()


def test_sums_keep_what_they_have_lost():
    events = np.array([[0.0, 1.0, 1.0, 1.0], [0.1, 1e30, 0.0, -1e30], [0.2, -1e30, 2.0, 1e30]])
    events[:, 0] = (2 * events[:, 0].view(np.uint64)).view(float)
    pieces = np.empty(events.shape)
    assert add_up(events, 0.5, pieces, False) == 3
    assert (pieces[2, 1:] == [1.0, 3.0, 1.0]).all()


@numba.njit(error_model="numpy")
def flips_of_eight(a, d, flips):
    store(flips, 0, positions_of_flips(load(a, 0), load(d, 0)))


@numba.njit(error_model="numpy")
def flips_of_each(a, d, flips):
    for k in range(len(a)):
        flips[k] = position_of_flip(a[k], d[k])


EDGES = [0.0, -0.0, 5e-324, -5e-324, 1.0, -1.0, 0.3, -0.3, 1e308, -1e308]


def is_up(a, d, t):
    return Fraction(a) - Fraction(float(t)) * Fraction(d) >= 0


@pytest.mark.parametrize("flips_of", [flips_of_eight, flips_of_each])
def test_a_unit_is_up_where_its_pre_activation_is_not_negative(flips_of):
    pairs = [*product(EDGES, EDGES)]
    for begin in range(0, len(pairs) - 7, 4):
        eight = pairs[begin : begin + 8]
        flips = np.empty(8, np.uint64)
        flips_of(*np.array(eight).T.copy(), flips)
        for (a, d), flip in zip(eight, map(int, flips), strict=True):
            falls, at = flip & 1, np.uint64(flip >> 1).view(np.float64)
            if not np.isfinite(at):  # never, or beyond all floats
                assert is_up(a, d, 0.0) == falls
                continue
            # The quotient is rounded, to within half an ulp.
            assert is_up(a, d, np.nextafter(at, np.inf)) != falls
            if at > 0:
                assert is_up(a, d, np.nextafter(at, -np.inf)) == falls
                is_exact = Fraction(float(at)) * Fraction(d) == Fraction(a)
                assert not is_exact or is_up(a, d, at)


def test_kernels_of_one_source_have_each_a_place_in_the_cache():
    places = {follow_kernel(chain)._cache._cache_file._index_path for chain in (False, True)}
    assert len(places) == 2


def blas_threads():
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


def test_blas_gets_its_threads_back():
    with threadpool_limits(2, user_api="blas"):
        with one_blas_thread():
            with one_blas_thread():  # as another thread's curve that ends first
                assert blas_threads() == {1}
            assert blas_threads() == {1}
        assert blas_threads() == {2}
