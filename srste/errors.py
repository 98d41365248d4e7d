"""Errors as a user sees them, and what they must not show."""

import re


class UserError(Exception):
    """Bad input: one line that names the key, the value and what is allowed. Exit code 2."""


_USER = re.compile(r"(?<=://)[^\s'\"]*@")
_SECRET = re.compile(r"(?i)([?&](?:ssl)?(?:pass(?:word|wd)?|pwd|token|secret|api_?key)=)[^&\s'\"]*")


def without_password(text: str) -> str:
    """The text without what lets someone in: in every address in it, what stands before an ``@``, and
    the value of ``password=...`` and the like after a ``?``."""
    return _SECRET.sub(r"\1***", _USER.sub("", text))


def first_line(error: BaseException, longest: int = 200) -> str:
    """What the error says, without passwords, short enough for one line of a terminal."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return without_password(lines[0])[:longest]
