"""Numbers and settings of a record by their names, as tables and runs have them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from srste.curve import Interval
from srste.store.records import Record
from srste.study.certificate import Certificate


def _end(name: str, end: str, certificate: Certificate) -> float | None:
    span: Interval | None = getattr(certificate, name)
    return None if span is None else float(getattr(span, end))


_OF_CERTIFICATES: dict[str, Callable[[Certificate], float | None]] = {
    "exact_lr": lambda c: c.lr,
    "exact_loss": lambda c: c.loss,
    "attained": lambda c: int(c.attained),
    "exact_error": lambda c: c.error,
    "regret": lambda c: c.regret,
    "regret_fraction": lambda c: c.regret_fraction,
    "descent_intervals": lambda c: c.intervals,
    "descent_total": lambda c: c.total,
} | {
    f"descent_{name}_{end}": partial(_end, name, end)
    for name in ("first", "smallest", "largest")
    for end in ("lo", "hi")
}

QUANTITIES = tuple(_OF_CERTIFICATES)
"""The names of a certificate's quantities, in the order of the tables."""


def quantity(name: str, record: Record) -> float | None:
    """One of them; None where there is none."""
    return None if record.certificate is None else _OF_CERTIFICATES[name](record.certificate)


def flat(node: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested configuration with dotted keys.

    What a group chose stands under the group's own key: its ``name``, or the last word of its
    ``_target_`` where it has none.
    """
    found: dict[str, Any] = {}
    for key, value in node.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{key}.")
        elif key == "name" or (key == "_target_" and "name" not in node):
            found[prefix.removesuffix(".") or key] = str(value).rsplit(".", 1)[-1]
        elif key not in ("_target_", "_partial_"):
            found[f"{prefix}{key}"] = value
    return found
