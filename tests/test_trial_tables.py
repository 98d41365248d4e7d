"""Trials as Parquet: what is packed comes back bit for bit, and the table for people is what it says."""

import io

import numpy as np
import optuna
import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from srste.sampling import Trials
from srste.sampling.grid import Grid
from srste.store.trial_tables import as_table, packed, unpacked

DISTRIBUTION = optuna.distributions.FloatDistribution(0.0, 0.5, step=0.01)
ANY_BITS = arrays(np.uint64, st.integers(1, 300), elements=st.integers(0, 2**64 - 1))


@given(bits=ANY_BITS, pre_loss=st.floats(allow_nan=False))
def test_any_bits_come_back(bits, pre_loss):
    values = bits.view(np.float64)  # among them infinities, and nan of every kind
    back = unpacked(packed(Trials(values, values[::-1], pre_loss, DISTRIBUTION)))
    assert back.lr.tobytes() == values.tobytes()
    assert back.post_loss.tobytes() == values[::-1].tobytes()
    assert back.pre_loss == pre_loss
    assert back.distribution == DISTRIBUTION


def test_a_grid_takes_a_quarter_of_its_table():
    def piecewise(lr):
        middles = np.linspace(0, 0.5, 4_000)
        nearest = np.abs(lr[:, None] - middles[None, :: len(middles) // 40]).min(axis=1)
        return 0.5 + (lr - 0.3) ** 2 + 0.1 * nearest

    trials = Grid().run(piecewise, 0.5, 0)
    assert len(packed(trials)) < len(as_table(trials)) / 3


def test_the_table_for_people():
    trials = Trials(np.array([0.1, 0.2]), np.array([0.5, np.nan]), 0.75, DISTRIBUTION)
    table = pq.read_table(io.BytesIO(as_table(trials))).to_pydict()
    assert table["number"] == [0, 1]
    assert table["lr"] == [0.1, 0.2]
    assert table["pre_loss"] == [0.75, 0.75]
    assert table["post_loss"][0] == 0.5 and np.isnan(table["post_loss"][1])
    assert table["failed"] == [False, True]
