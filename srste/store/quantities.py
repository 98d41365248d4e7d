"""Numbers and settings of a record by name, as tables and runs have them."""

from dataclasses import asdict
from typing import Any

from srste.store.records import Record

CERTIFIED = {
    "exact_lr": "certificate.lr",
    "exact_loss": "certificate.loss",
    "attained": "certificate.attained",
    "exact_error": "certificate.error",
    "regret": "certificate.regret",
    "regret_fraction": "certificate.regret_fraction",
    "descent_intervals": "certificate.intervals",
    "descent_total": "certificate.total",
} | {
    f"descent_{span}_{end}": f"certificate.{span}.{end}"
    for span in ("first", "smallest", "largest")
    for end in ("lo", "hi")
}
"""The attributes of a record that are of its certificate, by name, in the order of the tables."""

_ATTRIBUTES = {
    "post_loss": "best.post_loss",
    "lr": "best.lr",
    "replayed_post_loss": "best.replayed_post_loss",
    "heldout_pre_loss": "heldout.pre_loss",
    "heldout_post_loss": "heldout.post_loss",
    "heldout_best_lr": "heldout.best_lr",
    "heldout_best_loss": "heldout.best_loss",
    "heldout_zero_loss": "heldout.zero_loss",
    "drawn_pre_loss": "drawn.pre_loss",
    "drawn_post_loss": "drawn.post_loss",
    "drawn_lr": "drawn.lr",
    "descent_exists": "certificate.descends",
    **CERTIFIED,
}


def quantity(name: str, record: Record) -> float | None:
    """Return the number of that name, also an attribute's; None where the record has none."""
    value: Any = record
    for attribute in _ATTRIBUTES.get(name, name).split("."):
        if value is None:
            return None
        value = getattr(value, attribute)
    return int(value) if isinstance(value, bool) else value


def of_gradient(record: Record) -> dict[tuple[str, str], float]:
    """Return the numbers of the record's gradient diagnostics by layer, "" for all parameters, and
    name; empty without any."""
    numbers: dict[tuple[str, str], float] = {}
    if record.diagnosis is None:
        return numbers
    for layer in record.diagnosis.layers:
        (_, name), *values = asdict(layer).items()
        numbers |= {(name, key): value for key, value in values if value is not None}
    if record.diagnosis.heldout_gauge is not None:
        numbers["", "heldout_gauge"] = record.diagnosis.heldout_gauge
    return numbers


_ROW = (
    "pre_loss", "post_loss", "lr", "decrease", "regret", "heldout_pre_loss", "heldout_post_loss",
    "zero_loss", "angle", "forward_passes", "backward_passes",
)  # fmt: skip


def row(record: Record) -> dict[str, Any]:
    """Return what tells a study from others and its main results, by name; None where it has none."""
    return {
        "estimator": record.estimator,
        "samples": record.samples,
        "batch": record.batch,
        "seed": record.identity["seed"],
        **{part: chosen(record, part) for part in ("model", "data", "loss", "pretraining")},
        **{name: quantity(name, record) for name in _ROW},
        "exact": record.certificate is not None,
        "trials": record.trials,
        "failed": record.failed,
        "alarms": ", ".join(record.alarm_details),
        "key": record.key,
    }


def chosen(record: Record, part: str) -> str | None:
    """Return the name of the choice of a part of the configuration, as "model"."""
    name: str | None = record.identity.get(part, {}).get("name")
    return name


def flat(node: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return a nested configuration with dotted keys.

    What a group chose stands under the group's own key: its ``name``, or the last word of its
    ``_target_`` where it has none.
    """
    settings: dict[str, Any] = {}
    for key, value in node.items():
        if isinstance(value, dict):
            settings |= flat(value, f"{prefix}{key}.")
        elif key == "name" or (key == "_target_" and "name" not in node):
            settings[prefix.removesuffix(".") or key] = str(value).rsplit(".", 1)[-1]
        elif key not in ("_target_", "_partial_"):
            settings[f"{prefix}{key}"] = value
    return settings
