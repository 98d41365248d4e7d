"""Why a part of a configuration could not be built, or used, with the keys that the user typed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from traceback import walk_tb
from typing import Any

from hydra.errors import InstantiationException

from srste.errors import in_one_line

_LOCATING = re.compile(r"Error locating target '(?P<target>[^']*)'")
_CALLING = re.compile(r"Error in (?:call to target|creating partial\()\W*(?P<target>[\w.]+)")
_SENTENCE_OF_A_PART = re.compile(r"`(?P<part>\w+)\((?P<argument>\w+)=[^`]*\)` (?P<rest>.*)", re.DOTALL)


def why_not_built(error: BaseException, node: Any, key: str) -> str:
    """One line on what building the node at that key raised.

    It names key and value where the part says what is wrong with an argument; otherwise the class, the
    exception's type and what it says.
    """
    said, cause = str(error), error.__cause__
    if isinstance(error, InstantiationException) and (match := _LOCATING.search(said)):
        # Hydra tells of its own search; what was raised there is the reason.
        reason = (cause.__cause__ or cause) if cause is not None else error
        return f"{_target_key(node, key, match['target'])}: {_of(reason)}"
    if cause is None and isinstance(error, InstantiationException):
        return f"{key}: {in_one_line(error)}"
    if cause is None:
        return f"{key}: {node.get('_target_')}: {_of(error)}"
    sentence = in_one_line(cause)
    if (match := _SENTENCE_OF_A_PART.match(sentence)) is not None:
        return _of_an_argument(match, node, key) or f"{key}: {sentence}"
    if isinstance(cause, TypeError) and "__init__()" in sentence:  # of the arguments, and by name
        return f"{key}: {sentence}"
    target = match["target"] if (match := _CALLING.search(said)) else node.get("_target_")
    return f"{key}: {target}: {_of(cause)}"


def why_not_run(error: Exception, config: dict[str, Any]) -> str:
    """One line on what the parts of a configuration raised when they were used: it names the innermost
    part that was at work."""
    frames = [frame for frame, _ in walk_tb(error.__traceback__)]
    targets = {str(node["_target_"]) for _, node in _nodes(config, "") if "_target_" in node}
    by_word = {target.rpartition(".")[2]: target for target in targets}
    for frame in reversed(frames):
        for word in (frame.f_code.co_name, type(frame.f_locals.get("self")).__name__):
            if word in by_word:
                return f"{in_one_line(error)} ({type(error).__name__} in {by_word[word]})"
    of = config["estimator"].get("_target_")  # in what all of them are for: its direction
    return f"{in_one_line(error)} ({type(error).__name__} of what {of} gives)"


def _of(error: BaseException) -> str:
    return f"{type(error).__name__}: {in_one_line(error)}"


def _target_key(node: Any, key: str, target: str) -> str:
    """The key that names that target, with it."""
    for name, value in _nodes(node, key):
        if value.get("_target_") == target:
            return f"{name}._target_={target}"
    return f"{key}: {target}"


def _of_an_argument(match: re.Match[str], node: Any, key: str) -> str | None:
    """A part's complaint, "`Part(argument=value)` must be ...", with the key that the user typed."""
    for name, value in _nodes(node, key):
        target = str(value.get("_target_", "")).rsplit(".", 1)[-1]
        if target == match["part"] and match["argument"] in value:
            argument = match["argument"]
            return f"{name}.{argument}={value[argument]}: {match['rest']}"
    return None


def _nodes(node: Any, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """A node and those below it, each with its key."""
    if isinstance(node, dict):
        yield name, node
        for key, value in node.items():
            yield from _nodes(value, f"{name}.{key}")
