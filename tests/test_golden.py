"""Small studies give the numbers that are stored in tests/golden: see there what this is for."""

from __future__ import annotations

import json
import math

import pytest

from tests.golden import make

STORED = json.loads(make.FILE.read_text())
SAME_ARITHMETIC = STORED["arithmetic"] == make.arithmetic()


def test_each_choice_has_its_job():
    assert STORED["jobs"].keys() == make.cases().keys()


@pytest.mark.parametrize("name", STORED["jobs"])
def test_numbers(name):
    """To the bit where the arithmetic is the same; elsewhere a float32 direction has other last bits."""
    stored = STORED["jobs"][name]
    numbers = json.loads(json.dumps(make.numbers_of(make.cases()[name])))
    if SAME_ARITHMETIC:
        assert numbers == stored
    else:
        assert numbers.keys() == stored.keys()
        for study, values in numbers.items():
            for path in make.LOSSES:
                one, other = (make.at(v, path) for v in (values, stored[study]))
                assert one is other is None or math.isclose(one, other, rel_tol=1e-3), (study, path)
