"""Parses and writes overrides in Hydra's grammar."""

from collections.abc import Sequence
from contextlib import suppress

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException

from srste.errors import UserError, in_one_line


def parse(overrides: Sequence[str], loader: ConfigLoader | None = None) -> list[Override]:
    """Parse overrides. loader: knows the choices that a `glob` selects from.

    Raises: UserError for what is not an override.
    """
    parser = OverridesParser.create(loader)
    parsed = []
    for line in overrides:
        try:
            override = parser.parse_override(line)
        # HydraException, or another one where Hydra's visitor does not expect what its grammar allows.
        except Exception as error:
            raise UserError(_complaint(line, error)) from error
        if not override.key_or_group or line.startswith("="):
            raise UserError(f"{line or repr(line)}: not an override, which is written key=value")
        override.config_loader = loader
        parsed.append(override)
    return parsed


def _complaint(line: str, error: Exception) -> str:
    if " while evaluating " in str(error):  # the wrong use of a function
        return f"{line}: {in_one_line(error)}"
    hint = "quote a value that holds spaces or signs"
    key, equals, value = line.partition("=")
    if equals and key:
        with suppress(HydraException):
            OverridesParser.create().parse_override(f"{key}={quoted(value)}")
            hint += f', as in "{key}={quoted(value)}"'
    return f"{line or repr(line)}: not an override, which is written key=value; {hint}"


def line_of(override: Override) -> str:
    """Return the override as it was given."""
    return override.input_line or ""


def key_of_line(line: str) -> str:
    """Return the key of an override, without `+` or `~`."""
    return line.partition("=")[0].lstrip("+~")


def quoted(text: str) -> str:
    """Return the text, of any characters, as a value in Hydra's grammar."""
    return QuotedString(text, Quote.single).with_quotes()
