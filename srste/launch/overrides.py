"""Overrides in Hydra's grammar: read, written, and told from one another."""

from __future__ import annotations

import re
from collections.abc import Sequence

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException

from srste.errors import UserError, in_one_line

_OF_HYDRA = re.compile(r"[+~]*hydra([./]|$)")


def parse(overrides: Sequence[str], loader: ConfigLoader | None = None) -> list[Override]:
    """Reads overrides. loader: knows the choices that a `glob` selects from.

    Raises: UserError for what is none.
    """
    parser = OverridesParser.create(loader)
    parsed = []
    for line in overrides:
        try:
            override = parser.parse_override(line)
        # Beside HydraException what its grammar lets through and its visitor does not expect.
        except Exception as error:
            raise UserError(_complaint(line, error)) from error
        if not override.key_or_group or line.startswith("="):
            raise UserError(f"{line or repr(line)}: not an override, which is written key=value")
        override.config_loader = loader
        parsed.append(override)
    return parsed


def _complaint(line: str, error: Exception) -> str:
    if " while evaluating " in str(error):  # a function of the grammar, and what is wrong with its use
        return f"{line}: {in_one_line(error)}"
    hint = "quote a value that holds spaces or signs"
    key, equals, value = line.partition("=")
    try:
        OverridesParser.create().parse_override(f"{key}={quoted(value)}")
    except HydraException:
        equals = ""
    if equals and key:
        hint += f', as in "{key}={quoted(value)}"'
    return f"{line or repr(line)}: not an override, which is written key=value; {hint}"


def line_of(override: Override) -> str:
    """The override as it was given."""
    return override.input_line or ""


def key_of_line(line: str) -> str:
    """The key of an override, without what says whether it is added or removed."""
    return line.partition("=")[0].lstrip("+~")


def is_of_hydra(line: str) -> bool:
    """Whether an override sets something of Hydra's own."""
    return _OF_HYDRA.match(line) is not None


def quoted(text: str) -> str:
    """The text as a value in Hydra's grammar, whatever it is made of."""
    return QuotedString(text, Quote.single).with_quotes()
