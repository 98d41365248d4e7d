"""Which losses have an exact curve: those of `srste.losses`, and PyTorch's that are the same."""

import functools
import inspect

from torch import nn

from srste.curve.network.base import NotExactError
from srste.curve.network.sequential import is_plain
from srste.losses import EXACT, ExactLoss, LossFunction

_EQUALS = {theirs: ours for ours in EXACT for theirs in ours.equals}
_AS_BY_DEFAULT = {"reduction": "mean", "weight": None, "ignore_index": -100, "label_smoothing": 0.0}
"""The settings of PyTorch's losses with which they are those of `srste.losses`."""


def exact_form(loss: LossFunction) -> ExactLoss:
    """The loss with an exact form that a loss is.

    One of `srste.losses` is told by the class whose formula it has, so that a subclass which puts
    another in its place is none; PyTorch's by their settings.

    Raises: NotExactError that names it, and what can be passed in its place.
    """
    for kind in EXACT:
        if isinstance(loss, kind) and _formula(type(loss)) == _formula(kind):
            return loss
    function = loss.func if isinstance(loss, functools.partial) else loss
    if isinstance(function, nn.Module):
        same_as = _EQUALS.get(type(function)) if is_plain(function) else None
        settings = {n: getattr(function, n) for n in _AS_BY_DEFAULT if hasattr(function, n)}
    else:
        same_as, settings = _EQUALS.get(function) if inspect.isroutine(function) else None, {}
        if isinstance(loss, functools.partial):
            settings = {str(n): a for n, a in enumerate(loss.args)} | loss.keywords
    name = getattr(function, "__name__", type(function).__name__)
    if same_as is None:
        raise NotExactError(f"{name} has no exact form")
    other = {n: v for n, v in settings.items() if n not in _AS_BY_DEFAULT or v != _AS_BY_DEFAULT[n]}
    if other:
        said = ", ".join(f"{n}={'...' if hasattr(v, 'shape') else repr(v)}" for n, v in other.items())
        raise NotExactError(
            f"{name}({said}) has no exact form; where the plain mean will do, pass "
            f"srste.losses.{same_as.__name__}()"
        )
    return same_as()


def _formula(kind: type[ExactLoss]) -> tuple[object, object]:
    """The methods in which one of ours states it."""
    return kind.__call__, getattr(kind, "_each", None)
