"""`a,b,...,z` in overrides."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srste.errors import UserError
from srste.launch.range_syntax import contract, expand


@pytest.mark.parametrize(
    ("typed", "written_out"),
    [
        ("samples=1,2,...,10", "samples=1,2,3,4,5,6,7,8,9,10"),
        ("samples=2,4,...,10", "samples=2,4,6,8,10"),
        ("samples=10,8,...,2", "samples=10,8,6,4,2"),
        ("seed=1,...,5", "seed=1,2,3,4,5"),
        ("seed=3,...,1", "seed=3,2,1"),
        ("seed=4,...,4", "seed=4"),
        ("seed=-2,-1,...,1", "seed=-2,-1,0,1"),
        ("x=0.1,0.2,...,0.5", "x=0.1,0.2,0.3,0.4,0.5"),
        ("x=1e-3,2e-3,...,5e-3", "x=0.001,0.002,0.003,0.004,0.005"),
        ("x=1, 2, ..., 4", "x=1,2,3,4"),
        ("x=1,2,\N{HORIZONTAL ELLIPSIS},4", "x=1,2,3,4"),
        ("x=1,2,3,...,6", "x=1,2,3,4,5,6"),
        ("+x=[1,2,...,4]", "+x=[1,2,3,4]"),
        ("estimator=ste,sr_ste", "estimator=ste,sr_ste"),
        ("hydra.run.dir=../x", "hydra.run.dir=../x"),
        ("x='1,2,...,4'", "x='1,2,...,4'"),
        ("x=a.../b", "x=a.../b"),
        ("noequals...", "noequals..."),
    ],
)
def test_written_out(typed, written_out):
    assert expand(typed) == written_out


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("samples=1,3,...,10", "steps of 2 from 1 do not end on 10"),
        ("samples=1,2,...,10.5", "do not end on 10.5"),
        ("samples=1,2,...,0", "lead away from 0"),
        ("samples=2,2,...,5", "are equal"),
        ("samples=1,2,...", "stands between numbers"),
        ("samples=1,2,...10", "stands between numbers"),
        ("samples=...,5", "stands between numbers"),
        ("samples=1,2...10", "dots stand between commas, as in samples=1,2,...,10"),
        ("samples=1...10", "as in samples=1,...,10"),
        ("x=[1, 2... 10]", "as in x=[1, 2,...,10]"),
        ("samples=a,b,...,z", "stands between numbers"),
        ("samples=1,2,...,x", "stands between numbers"),
        ("samples=1,2,4,...,16", "do not keep one step"),
        ("samples=7,1,2,...,4", "do not keep one step"),
        ("samples=1,2,...,4,9", "stands between numbers"),
        ("samples=1,2,...,1e99999999999999999999", "is too large to count to"),
        ("samples=1,2,...,...,5", "stands between numbers"),
        ("seed=0,...,1000000", "gives more than 100,000 values"),
    ],
)
def test_refused(typed, says):
    with pytest.raises(UserError) as caught:
        expand(typed)
    assert says in str(caught.value)
    assert str(caught.value).startswith(typed)
    assert "\n" not in str(caught.value)


@given(
    start=st.integers(-1000, 1000),
    step=st.integers(-50, 50).filter(bool),
    count=st.integers(2, 50),
    scale=st.integers(0, 4),
)
def test_an_arithmetic_sequence_in_exact_decimals(start, step, count, scale):
    def decimal(value):
        digits = f"{abs(value):0{scale + 1}d}"
        whole, part = digits[: len(digits) - scale], digits[len(digits) - scale :]
        return ("-" if value < 0 else "") + whole + (f".{part}" if part else "")

    values = [start + i * step for i in range(count)]
    typed = f"x={decimal(values[0])},{decimal(values[1])},...,{decimal(values[-1])}"
    found = expand(typed).removeprefix("x=").split(",")
    if count >= 4:
        assert contract(expand(typed)) == typed
    assert [Fraction(v) for v in found] == [Fraction(v, 10**scale) for v in values]


def test_contract_leaves_other_values_alone():
    for other in ("x=1,2,3", "x=1,2,4,8", "x=a,b,c,d", "x=1", "x"):
        assert contract(other) == other
