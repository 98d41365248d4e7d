"""Errors as a user sees them, and what they must not show."""

import re


class UserError(Exception):
    """Bad input: one line that names the key, the value and what is allowed. Exit code 2."""


_SECRET = re.compile(r"(?i)([?&;]\w*(?:pass|pwd|token|secret|key)\w*=)[^&;\s]*")
_QUERY = re.compile(r"\?\S*")
_OF_A_HOST = r"(?<=://)(?<!sqlite://)(?<!file://)"  # after these comes a path, in which an @ may be


def without_password(text: str) -> str:
    """The text without what lets someone in: in every address in it, what stands before an ``@``, and
    the value of ``password=...`` and the like after a ``?``."""
    return _QUERY.sub(_masked, re.sub(_OF_A_HOST + r"\S*@", "", text))


def address_without_password(uri: str) -> str:
    """The same of a text that is one address, or ends with one, whatever the password is made of."""
    return _QUERY.sub(_masked, re.sub(_OF_A_HOST + ".*@", "", uri, flags=re.DOTALL))


def _masked(query: re.Match[str]) -> str:
    return _SECRET.sub(r"\1***", query[0])


def printable(text: str) -> str:
    """The text, with what would break a line of a terminal or give it colours written as escapes."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text
    )


def first_line(error: BaseException, longest: int = 200) -> str:
    """What the error says, without passwords, short enough for one line of a terminal."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return printable(without_password(lines[0]))[:longest]


def in_one_line(error: BaseException, longest: int = 300) -> str:
    """All that the error says, without passwords, in one line; not where OmegaConf met it."""
    said = re.split(r"\n\s*(?:full_key:|See https?:)", str(error))[0].strip()
    return printable(without_password(" ".join(said.split()) or type(error).__name__))[:longest]
