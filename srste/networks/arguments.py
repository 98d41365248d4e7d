"""Checks of arguments that several parts share."""

import math


def positive(owner: object, name: str, value: float) -> float:
    """The value, if it is a finite number > 0."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (number and 0 < value < math.inf):
        raise ValueError(f"`{type(owner).__name__}({name}={value})` must be > 0")
    return float(value)
