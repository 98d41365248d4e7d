"""Plain values of a configuration, and rules for them."""

import math
import re
from collections.abc import Callable
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from srste.errors import UserError, first_line

Plain = dict[str, Any]
"""A resolved configuration: nested dicts, lists, strings, numbers, booleans and None."""

Rule = Callable[[Any], str | None]
"""Returns what is allowed if the value is not ("must be ..."), otherwise None."""


def plain(config: DictConfig) -> Plain:
    """Resolve a configuration. Raises: UserError for a value that does not resolve."""
    try:
        container = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise UserError(f"{getattr(error, 'full_key', '')}: {first_line(error)}") from error
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}


def _rule(is_allowed: Callable[[Any], bool], allowed: str) -> Rule:
    return lambda value: None if is_allowed(value) else allowed


def integer(least: int) -> Rule:
    """Allow integers of at least ``least``."""
    return _rule(
        lambda value: type(value) is int and value >= least, f"must be a whole number >= {least}"
    )


def one_of(*words: str) -> Rule:
    """Allow these words."""
    return _rule(lambda value: value in words, f"must be one of {', '.join(words)}")


POSITIVE = _rule(
    lambda value: type(value) in (int, float) and 0 < float(str(value)) < math.inf,
    "must be a number > 0",
)
BOOLEAN = _rule(lambda value: isinstance(value, bool), "must be true or false")
TEXT = _rule(lambda value: isinstance(value, str) and bool(value.strip()), "must be a text, not empty")
NAME = _rule(
    lambda value: TEXT(value) is None and value.isprintable(),
    "must be a text in one line, not empty, without control characters",
)


def device(elsewhere: bool) -> Rule:
    """Allow the PyTorch devices of this machine; elsewhere: any, for a job on another machine."""
    if elsewhere:
        return matching(r"cpu|cuda(:\d+)?", "cpu, cuda, cuda:1, ...")

    def complaint(value: Any) -> str | None:
        if value == "cpu":
            return None
        import torch  # which takes a second

        devices = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        if torch.cuda.is_available():
            devices.append("cuda")
        allowed = f"must be a device of this machine: {', '.join(devices)}"
        return None if value in devices else allowed

    return complaint


def matching(regex: str, description: str) -> Rule:
    """Allow texts that match the whole regular expression."""
    return _rule(lambda value: re.fullmatch(regex, str(value)) is not None, f"must be {description}")


def each(rule: Rule) -> Rule:
    """Allow lists of values that the rule allows."""

    def complaint(value: Any) -> str | None:
        if not isinstance(value, list):
            return "must be a list"
        return next(filter(None, map(rule, value)), None)

    return complaint


def nullable(rule: Rule) -> Rule:
    """Allow null, and what the rule allows."""

    def complaint(value: Any) -> str | None:
        said = None if value is None else rule(value)
        return said and f"{said}, or null"

    return complaint
