"""Expands `1,2,...,10` in overrides, which Hydra does not know, and contracts it for people."""

import re
from decimal import Decimal
from itertools import pairwise

from srste.errors import UserError

MOST_VALUES = 100_000

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_DOTS = r"(?:\.\.\.|\N{HORIZONTAL ELLIPSIS})"
_PATTERN = re.compile(rf"(?P<head>(?:{_NUMBER}\s*,\s*)+){_DOTS}\s*,\s*(?P<last>{_NUMBER})")
# Dots that are, begin or end one of the values; elsewhere they are part of a word.
_BETWEEN = re.compile(rf"(?:^|[,\[\s]){_DOTS}(?:$|[,\]\s\d+-])")

# Dots that lack their commas.
_STUCK = re.compile(rf"(?<=\d)\s*,?\s*{_DOTS}\s*,?\s*(?=[+-]?\d)")

_QUOTED = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""")


def expand(override: str) -> str:
    """Write out ``a,b,...,z`` in the value of an override, alone or within brackets.

    Counts from a to z in steps of b - a, up or down, in decimal arithmetic; ``a,...,z`` in steps of
    one; more values before the dots must keep the step. Other overrides are returned unchanged.
    Raises: UserError for a sequence that does not end on its last value, has a step of zero, does
    not keep its step, is too long, or has something else than numbers beside its dots, or no commas.
    """
    key, equals, value = override.partition("=")
    plain = _QUOTED.sub("''", value)
    if equals and not _BETWEEN.search(plain) and _STUCK.search(plain):
        meant = _STUCK.sub(",...,", value)
        raise UserError(f"{override}: dots stand between commas, as in {key}={meant}")
    if not equals or not _BETWEEN.search(plain):
        return override
    opening, inner, closing = re.fullmatch(r"(\[?)(.*?)(\]?)", value.strip()).groups()  # type: ignore[union-attr]
    if (match := _PATTERN.fullmatch(inner.strip())) is None:
        raise UserError(
            f"{override}: `...` stands between numbers, as in {key}=1,2,...,10 or {key}=1,...,10"
        )
    head = [word.strip() for word in match["head"].strip(" ,").split(",")]
    try:
        written_out = _sequence(override, head, match["last"])
    except ArithmeticError as error:
        raise UserError(f"{override}: {match['last']} is too large to count to") from error
    return f"{key}={opening}{','.join(written_out)}{closing}"


def contract(override: str) -> str:
    """Write a value of four or more evenly spaced numbers as ``a,b,...,z``."""
    key, _, value = override.partition("=")
    words = value.split(",")
    if len(words) < 4 or not all(re.fullmatch(_NUMBER, word) for word in words):
        return override
    numbers = [Decimal(word) for word in words]
    if len({after - before for before, after in pairwise(numbers)}) > 1:
        return override
    return f"{key}={words[0]},{words[1]},...,{words[-1]}"


def _sequence(override: str, head: list[str], last: str) -> list[str]:
    first, end = Decimal(head[0]), Decimal(last)
    steps_given = {Decimal(after) - Decimal(before) for before, after in pairwise(head)}
    if len(steps_given) > 1:
        raise UserError(f"{override}: the values before `...` do not keep one step")
    step = steps_given.pop() if steps_given else Decimal(1 if end >= first else -1)
    if step == 0:
        raise UserError(f"{override}: the values before `...` are equal, so it never moves")
    steps = (end - first) / step
    if steps < len(head) - 1:
        raise UserError(f"{override}: steps of {step} from {first} lead away from {last}")
    if steps >= MOST_VALUES:
        raise UserError(f"{override}: gives more than {MOST_VALUES:,} values")
    if steps != steps.to_integral_value():
        raise UserError(f"{override}: steps of {step} from {first} do not end on {last}")
    return [f"{first + i * step:f}" for i in range(int(steps) + 1)]
