"""What an Optuna study says of the record that it is made of."""

from datetime import datetime, timedelta
from typing import Any

from srste.store.files import hash_of
from srste.store.quantities import chosen, quantity, row
from srste.store.records import Record

KEY, STUDY = "key", "study"
"""The user attributes with the record's key, and with a hash of its identity: a study that is computed
again by other code has the same identity and another key."""

_MORE = (
    "exact_loss", "exact_lr", "attained", "exact_error", "heldout_pre_loss", "heldout_post_loss",
    "heldout_best_loss", "heldout_best_lr", "heldout_zero_loss", "gain",
)  # fmt: skip
_FIRST = ("estimator", "samples", "batch", "seed", *_MORE)
"""A dashboard shows five at a time, in the order in which they were written."""


def attributes(record: Record) -> dict[str, Any]:
    """Return the user attributes of the study: its settings, its results as in the frame of
    :class:`srste.results.Results`, and the exact minimum. What the record has not is left out."""
    found = {
        **row(record),
        **{name: quantity(name, record) for name in _MORE},
        "batch_size": record.identity.get("batch_size"),
        "sampling": chosen(record, "sampling"),
        "created": record.created,
        "seconds": record.seconds,
        STUDY: identity_hash(record),
    }
    return {name: found[name] for name in (*_FIRST, *found) if found[name] not in (None, "")}


def identity_hash(record: Record) -> str:
    """Return a hash of the study's configuration, whatever code computed it."""
    return hash_of(record.identity)


def during(record: Record) -> tuple[datetime, datetime]:
    """Return when the study's trials began and ended, local times without a zone, as Optuna has them.

    They are those of the study: its trials are looked up on one loss curve, not timed one by one.
    """
    end = datetime.fromisoformat(record.created).astimezone().replace(tzinfo=None)
    return end - timedelta(seconds=record.seconds), end
