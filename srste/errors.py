"""Errors as a user sees them, and what they must not show."""

import re


class UserError(Exception):
    """Bad input: one line that names the key, the value and what is allowed. Exit code 2."""


def without_password(text: str) -> str:
    """The text with ``user:password@`` taken out of every address in it."""
    return re.sub(r"(?<=://)[^/@\s]+@", "", text)


def first_line(error: BaseException, longest: int = 200) -> str:
    """What the error says, short enough for one line of a terminal."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:longest]
