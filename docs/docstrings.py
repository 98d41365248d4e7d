"""The docstrings of srste, taken apart: prose, and labelled parts such as `Args:` and `References:`.

    Forward:   q(a) = +1 if a >= 0 else -1
    Args: c: half-width, > 0.
    Raises: ValueError for another one.

A part goes on as long as lines are indented more than its label.
"""

import inspect
import re
from collections.abc import Iterator
from typing import NamedTuple

LABEL = re.compile(
    r"(Args|Columns|Returns|Raises|Properties|References|Forward|Backward|Direction): *(.*)"
)
EQUATIONS = ("Forward", "Backward", "Direction")


class Part(NamedTuple):
    """label: "" for prose. lines: without the label's indentation."""

    label: str
    lines: list[str]


def parts(docstring: str) -> Iterator[Part]:
    """Yield the parts of a docstring in their order."""
    label, lines = "", []
    for line in inspect.cleandoc(docstring).splitlines():
        began = LABEL.fullmatch(line)
        ends = label and line and not line.startswith(" ")
        if began or ends:
            yield Part(label, lines)
            label, lines = "", []
        if began:
            label, lines = began[1], [began[2]] if began[2] else []
        else:
            lines.append(line)
    yield Part(label, lines)


def part(of: object, label: str) -> str:
    """Return a labelled part of an object's docstring, "" if it has none."""
    every = parts(inspect.getdoc(of) or "")
    return next((dedented(p.lines) for p in every if p.label == label), "")


def dedented(lines: list[str]) -> str:
    """Return a part whose first line stood behind its label and whose others are indented."""
    first, rest = lines[:1], inspect.cleandoc("\n" + "\n".join(lines[1:])) if lines[1:] else ""
    return "\n".join([*first, *([rest] if rest else [])]).strip()


def sentence(of: object) -> str:
    """Return the first paragraph of an object's docstring, in one line."""
    return " ".join((inspect.getdoc(of) or "").split("\n\n")[0].split())
