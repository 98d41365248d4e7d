"""Messages on parts of a configuration that cannot be built or run, with the typed keys."""

import re
from collections.abc import Iterator
from traceback import walk_tb
from typing import Any

from hydra.errors import InstantiationException

from srste.errors import NotApplicableError, in_one_line
from srste.launch.choices import conf_folder

_LOCATING = re.compile(r"Error locating target '(?P<target>[^']*)'")
_CALLING = re.compile(r"Error in (?:call to target|creating partial\()\W*(?P<target>[\w.]+)")
_ARGUMENT_ERROR = re.compile(r"`(?P<part>\w+)\((?P<argument>\w+)=[^`]*\)` (?P<rest>.*)", re.DOTALL)


def why_not_built(error: BaseException, node: Any, key: str) -> str:
    """Return one line on what building the node at ``key`` raised.

    It names key and value where the part says what is wrong with an argument, otherwise the class,
    the exception's type and its message.
    """
    message, cause = str(error), error.__cause__
    if isinstance(error, InstantiationException) and (match := _LOCATING.search(message)):
        # Hydra's exception is about its search; the one that was raised there is the reason.
        reason = (cause.__cause__ or cause) if cause is not None else error
        return f"{_target_key(node, key, match['target'])}: {_with_type(reason)}"
    if cause is None and isinstance(error, InstantiationException):
        return f"{key}: {in_one_line(error)}"
    if cause is None:
        return f"{key}: {node.get('_target_')}: {_with_type(error)}"
    line = in_one_line(cause)
    if (match := _ARGUMENT_ERROR.match(line)) is not None:
        return _argument_error(match, node, key) or f"{key}: {line}"
    if isinstance(cause, TypeError) and "__init__()" in line:  # names the arguments
        return f"{key}: {line}"
    target = match["target"] if (match := _CALLING.search(message)) else node.get("_target_")
    return f"{key}: {target}: {_with_type(cause)}"


def why_not_run(error: Exception, config: dict[str, Any]) -> str:
    """Return one line on what the parts of a configuration raised when they were used; it names the
    innermost part on the stack."""
    if isinstance(error, NotApplicableError):
        names = (f"{part}={config[part].get('name')}" for part in ("estimator", "model", "loss"))
        return f"{', '.join(names)}: {in_one_line(error)}"
    frames = [frame for frame, _ in walk_tb(error.__traceback__)]
    targets = {str(node["_target_"]) for _, node in _nodes(config, "") if "_target_" in node}
    by_name = {target.rpartition(".")[2]: target for target in targets}
    for frame in reversed(frames):
        for name in (frame.f_code.co_name, type(frame.f_locals.get("self")).__name__):
            if name in by_name:
                return f"{in_one_line(error)} ({type(error).__name__} in {by_name[name]})"
    # No part is on the stack: what the estimator returned does not fit.
    estimator = config["estimator"].get("_target_")
    return f"{in_one_line(error)} ({type(error).__name__} of what {estimator} gives)"


def _with_type(error: BaseException) -> str:
    return f"{type(error).__name__}: {in_one_line(error)}"


def _target_key(node: Any, key: str, target: str) -> str:
    """Return ``KEY._target_=TARGET`` of the node that names the target."""
    for name, value in _nodes(node, key):
        if value.get("_target_") == target:
            return f"{name}._target_={target}"
    return f"{key}: {target}"


def _argument_error(match: re.Match[str], node: Any, key: str) -> str | None:
    """Return a part's message, "`Part(argument=value)` must be ...", with the typed key."""
    for name, value in _nodes(node, key):
        target = str(value.get("_target_", "")).rsplit(".", 1)[-1]
        if target == match["part"] and match["argument"] in value:
            argument, given = match["argument"], value[match["argument"]]
            if isinstance(given, dict) and "_target_" in given:
                group = f"{name}.{argument}".replace(".", "/")
                return f"{group}={_choice(group, given['_target_'])}: {match['rest']}"
            return f"{name}.{argument}={given}: {match['rest']}"
    return None


def _choice(group: str, target: str) -> str:
    """Return the name of the choice of that class, or the class's name."""
    for file in sorted((conf_folder() / group).glob("*.yaml")):
        if f"_target_: {target}\n" in file.read_text(encoding="utf-8"):
            return file.stem
    return target.rpartition(".")[2]


def _nodes(node: Any, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield a node and the nodes below it, each with its key."""
    if isinstance(node, dict):
        yield name, node
        for key, value in node.items():
            yield from _nodes(value, f"{name}.{key}")
