"""Errors as a user sees them."""


class UserError(Exception):
    """Bad input: one line that names the key, the value and what is allowed. Exit code 2."""


def first_line(error: BaseException, longest: int = 200) -> str:
    """What the error says, short enough for one line of a terminal."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:longest]
