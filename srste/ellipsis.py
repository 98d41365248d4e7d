"""`1,2,...,10` in an override, written out before Hydra sees it, and back for people."""

from __future__ import annotations

import re
from decimal import Decimal
from itertools import pairwise

from srste.errors import UserError

MOST_VALUES = 100_000

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_DOTS = r"(?:\.\.\.|\N{HORIZONTAL ELLIPSIS})"
_PATTERN = re.compile(
    rf"(?<![^,\[\s])(?:(?P<first>{_NUMBER})\s*,\s*)?(?P<second>{_NUMBER})\s*,\s*{_DOTS}\s*,"
    rf"\s*(?P<last>{_NUMBER})(?![^,\]\s])"
)
_LEFT_OVER = re.compile(rf"(?<![^,\[\s]){_DOTS}(?![^,\]\s\d+-])")


def expand(override: str) -> str:
    """The override with every ``a,b,...,z`` in its value written out; others are left alone.

    Counts from a to z in steps of b - a, up or down, in decimal arithmetic; ``a,...,z`` in steps of
    one. Raises: UserError for a sequence that does not end on its last value, does not move, is too
    long, or has something else than numbers beside its dots.
    """
    key, equals, value = override.partition("=")
    if not equals or value[:1] in ("'", '"'):
        return override

    def written_out(match: re.Match[str]) -> str:
        return ",".join(_sequence(override, match["first"], match["second"], match["last"]))

    value = _PATTERN.sub(written_out, value)
    if _LEFT_OVER.search(value):
        raise UserError(
            f"{override}: `...` stands between numbers, as in {key}=1,2,...,10 or {key}=1,...,10"
        )
    return key + equals + value


def contract(override: str) -> str:
    """The override with a value of four or more evenly spaced numbers written as ``a,b,...,z``."""
    key, _, value = override.partition("=")
    words = value.split(",")
    if len(words) < 4 or not all(re.fullmatch(_NUMBER, word) for word in words):
        return override
    numbers = [Decimal(word) for word in words]
    if len({after - before for before, after in pairwise(numbers)}) > 1:
        return override
    return f"{key}={words[0]},{words[1]},...,{words[-1]}"


def _sequence(override: str, first: str | None, second: str, last: str) -> list[str]:
    end, start = Decimal(last), Decimal(first or second)
    step = Decimal(second) - start if first else Decimal(1 if end >= start else -1)
    if step == 0:
        raise UserError(f"{override}: the two values before `...` are equal, so it never moves")
    steps = (end - start) / step
    if steps < 0 or (first and steps < 1):
        raise UserError(f"{override}: steps of {step} from {start} lead away from {last}")
    if steps != steps.to_integral_value():
        raise UserError(f"{override}: steps of {step} from {start} do not end on {last}")
    if steps >= MOST_VALUES:
        raise UserError(f"{override}: gives {steps + 1:f} values, more than {MOST_VALUES:,}")
    return [f"{start + i * step:f}" for i in range(int(steps) + 1)]
