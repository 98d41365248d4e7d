"""Checks of arguments that several parts share."""

import math
from collections.abc import Collection


def positive(owner: object, name: str, value: float) -> float:
    """The value, if it is a finite number > 0."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (number and 0 < value < math.inf):
        raise ValueError(f"`{type(owner).__name__}({name}={value})` must be > 0")
    return float(value)


def fraction(owner: object, name: str, value: float) -> float:
    """The value, if it is a number in [0, 1]."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (number and 0 <= value <= 1):
        raise ValueError(f"`{type(owner).__name__}({name}={value})` must be in [0, 1]")
    return float(value)


def integer(owner: object, name: str, value: int, least: int = 1) -> int:
    """The value, if it is an integer >= ``least``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"`{type(owner).__name__}({name}={value})` must be an integer >= {least}")
    return value


def one_of(owner: object, name: str, value: str, allowed: Collection[str]) -> str:
    """The value, if it is one of those that are allowed."""
    if value not in allowed:
        words = ", ".join(allowed)
        raise ValueError(f"`{type(owner).__name__}({name}={value})` must be one of {words}")
    return value
