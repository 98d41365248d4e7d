"""Named streams: reproducible, apart from each other, and what they are documented to be."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from srste.randomness import integer_seed, normal, stream, uniform
from tests import oracle

CPU = torch.device("cpu")
names = st.lists(st.one_of(st.integers(0, 100), st.text(max_size=5)), max_size=4)


@given(seed=st.integers(0, 2**40), name=names)
def test_same_name_same_numbers(seed, name):
    np.testing.assert_array_equal(stream(seed, *name).random(3), stream(seed, *name).random(3))
    np.testing.assert_array_equal(
        stream(seed, *name).random(3), oracle.named_stream(seed, *name).random(3)
    )


@given(seed=st.integers(0, 2**40), one=names, other=names)
def test_other_name_other_numbers(seed, one, other):
    if one != other:
        assert stream(seed, *one).random() != stream(seed, *other).random()
        assert integer_seed(seed, *one) != integer_seed(seed, *other)
    assert stream(seed, *one).random() != stream(seed + 1, *one).random()


def test_one_and_the_word_one_are_told_apart():
    assert stream(0, 1).random() != stream(0, "1").random()
    assert stream(0, "ab").random() != stream(0, "a", "b").random()


def test_drawing_more_from_one_stream_changes_no_other():
    untouched = stream(0, "b").random(3)
    first, second = stream(0, "a"), stream(0, "b")
    first.random(1000)
    np.testing.assert_array_equal(second.random(3), untouched)


def test_uniforms_and_normals_have_their_moments():
    n = 200_000
    u, z = uniform(stream(0, "u"), (n,), CPU).double(), normal(stream(0, "z"), (n,), CPU).double()
    assert u.min() >= 0
    assert u.max() < 1
    assert abs(u.mean() - 0.5) < 5 * (1 / 12 / n) ** 0.5
    assert abs(z.mean()) < 5 / n**0.5
    assert abs(z.var() - 1) < 5 * (2 / n) ** 0.5
