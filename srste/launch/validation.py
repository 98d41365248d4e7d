"""Rules for single values of a configuration, and what is said of one that breaks them."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Protocol

import torch


class Rule(Protocol):
    """``broken_by`` says what is allowed if the value is not; otherwise it returns None."""

    def broken_by(self, value: object) -> str | None: ...


@dataclass(frozen=True)
class Integer:
    """A rule: a whole number of at least ``least``."""

    least: int

    def broken_by(self, value: object) -> str | None:
        fits = isinstance(value, int) and not isinstance(value, bool) and value >= self.least
        return None if fits else f"must be a whole number >= {self.least}"


@dataclass(frozen=True)
class Positive:
    """A rule: a finite number above 0."""

    def broken_by(self, value: object) -> str | None:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        fits = number and 0 < float(str(value)) < math.inf
        return None if fits else "must be a number > 0"


@dataclass(frozen=True)
class Boolean:
    """A rule: true or false."""

    def broken_by(self, value: object) -> str | None:
        return None if isinstance(value, bool) else "must be true or false"


@dataclass(frozen=True)
class OneOf:
    """A rule: one of some words."""

    words: tuple[str, ...]

    def broken_by(self, value: object) -> str | None:
        return None if value in self.words else f"must be one of {', '.join(self.words)}"


@dataclass(frozen=True)
class Text:
    """A rule: a text that is not empty."""

    def broken_by(self, value: object) -> str | None:
        return None if isinstance(value, str) and value.strip() else "must be a text, not empty"


class Name:
    """A rule: a text in one line, as tables, figures and files show it."""

    def broken_by(self, value: object) -> str | None:
        fits = isinstance(value, str) and value.strip() and value.isprintable()
        return None if fits else "must be a text in one line, not empty, without control characters"


@dataclass(frozen=True)
class Device:
    """A rule: a PyTorch device, one that is here unless the job runs elsewhere."""

    elsewhere: bool = False

    def broken_by(self, value: object) -> str | None:
        if self.elsewhere:
            fits = re.fullmatch(r"cpu|cuda(:\d+)?", str(value))
            return None if fits else "must be cpu, cuda, cuda:1, ..."
        here = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        if torch.cuda.is_available():
            here.append("cuda")
        return None if value in here else f"must be a device of this machine: {', '.join(here)}"


@dataclass(frozen=True)
class Pattern:
    """A rule: a text of that form, which ``words`` describe."""

    regex: str
    words: str

    def broken_by(self, value: object) -> str | None:
        return None if re.fullmatch(self.regex, str(value)) else f"must be {self.words}"


@dataclass(frozen=True)
class EachOf:
    """A rule: a list of what another rule allows."""

    rule: Rule

    def broken_by(self, value: object) -> str | None:
        if not isinstance(value, list):
            return "must be a list"
        return next((said for one in value if (said := self.rule.broken_by(one))), None)


@dataclass(frozen=True)
class Or:
    """A rule: null, or what another rule allows."""

    rule: Rule

    def broken_by(self, value: object) -> str | None:
        complaint = None if value is None else self.rule.broken_by(value)
        return f"{complaint}, or null" if complaint else None
