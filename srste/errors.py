"""Error messages for users, without passwords."""

import re


class NotApplicableError(ValueError):
    """An estimator needs what the model, the units or the loss lack; it says what is allowed."""


class UserError(Exception):
    """Bad input: one line that names the key, the value and what is allowed. Exit code 2."""


_SECRET = re.compile(r"(?i)([?&;]\w*(?:pass|pwd|token|secret|key)\w*=)[^&;\s]*")
_QUERY = re.compile(r"\?\S*")
_HOST_FOLLOWS = r"(?<=://)(?<!sqlite://)(?<!file://)"  # after those comes a path, which may have an @


def without_password(text: str) -> str:
    """Return the text without credentials: of every address in it, what stands before an ``@`` and
    the values of ``password=...`` and the like after a ``?``."""
    return _QUERY.sub(_masked, re.sub(_HOST_FOLLOWS + r"\S*@", "", text))


def address_without_password(uri: str) -> str:
    """Likewise for a text that ends with its only address, whatever its password is made of."""
    return _QUERY.sub(_masked, re.sub(_HOST_FOLLOWS + ".*@", "", uri, flags=re.DOTALL))


def _masked(query: re.Match[str]) -> str:
    return _SECRET.sub(r"\1***", query[0])


def printable(text: str) -> str:
    """Return the text with line breaks and terminal control characters written as escapes."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text
    )


def first_line(error: BaseException, longest: int = 200) -> str:
    """Return the first line of the error's message, without passwords, cut to one terminal line."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return printable(without_password(lines[0]))[:longest]


def in_one_line(error: BaseException, longest: int = 300) -> str:
    """Return the error's message in one line, without passwords and OmegaConf's additions."""
    message = re.split(r"\n\s*(?:full_key:|See https?:)", str(error))[0]
    return printable(without_password(" ".join(message.split()) or type(error).__name__))[:longest]
