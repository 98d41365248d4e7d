"""A job's configuration as plain values, and the checks of them before anything is built."""

from typing import Any

from omegaconf import DictConfig, OmegaConf

from srste.errors import UserError, address_without_password
from srste.launch.hints import nearest_of
from srste.launch.validation import (
    BOOLEAN,
    NAME,
    POSITIVE,
    TEXT,
    Plain,
    Rule,
    device,
    integer,
    one_of,
    plain,
)

_PARTS = (
    "model", "data", "loss", "estimator", "pretraining", "sampling", "evaluation", "diagnostics"
)  # fmt: skip
KEYS = frozenset({
    *_PARTS, "tracking", "samples", "draws", "seed", "batches", "batch_size", "heldout", "device",
    "resume", "report", "cache",
})  # fmt: skip

_COUNTS = (
    "samples", "batches", "batch_size", "data.features", "model.width", "model.depth",
    "model.out_features", "pretraining.steps", "pretraining.batch_size", "sampling.n_trials",
)  # fmt: skip
RULES: dict[str, Rule] = {
    **dict.fromkeys(_COUNTS, integer(1)),
    **dict.fromkeys(("seed", "heldout"), integer(0)),
    **dict.fromkeys(("resume", "report", "model.bias", "sampling.log"), BOOLEAN),
    **dict.fromkeys(("pretraining.lr", "sampling.lr_max", "sampling.lr_min", "sampling.step"), POSITIVE),
    **dict.fromkeys([f"{part}.name" for part in _PARTS], NAME),
    "draws": one_of("nested", "independent"),
    "tracking.uri": TEXT,
    "tracking.experiment": NAME,
    "tracking.granularity": one_of("auto", "study", "job"),
}
"""The checks before anything is built; the parts check the rest of their arguments themselves."""


def job_values(composed: DictConfig, elsewhere: bool = False) -> Plain:
    """Return a job's configuration, resolved, without the password of its store.

    Args: elsewhere: whether the job runs on another machine, with devices of its own.
    Raises: UserError for a value that is not allowed.
    """
    config = _resolved(composed)
    _check(config, elsewhere)
    if (uri := at(config, "tracking.uri")) is not None:
        # The configuration is written into records and runs, where no password may be.
        config["tracking"]["uri"] = address_without_password(str(uri))
    return config


def at(config: Plain, key: str) -> Any:
    """Return the value at that dotted key; None without one."""
    value: Any = config
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _check(config: Plain, elsewhere: bool) -> None:
    if unknown := sorted(config.keys() - KEYS):
        meant = nearest_of(unknown[0], sorted(KEYS)).strip()
        keys = ", ".join(sorted(KEYS))
        raise UserError(f"{unknown[0]}: no such key; known are {keys}{meant and f'; {meant}'}")
    rules = RULES | {"device": device(elsewhere)}
    for key, rule in rules.items():
        value = at(config, key)
        if value is not None and (complaint := rule(value)):
            raise UserError(f"{key}={value}: {complaint}")
    tracking = config.get("tracking") or {}
    in_tracking = [f"tracking.{k}" for k in ("experiment", "granularity") if k in tracking]
    for key in [*sorted(KEYS), *in_tracking]:
        if at(config, key) is None:
            complaint = rules[key](None) if key in rules else "must not be null"
            raise UserError(f"{key}=null: {complaint}")


def _resolved(composed: DictConfig) -> Plain:
    """Return the plain configuration. Raises: UserError for unresolved or missing values."""
    # Hydra's part resolves only while Hydra runs the job.
    config = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
    values = plain(config)
    if missing := sorted(OmegaConf.missing_keys(config)):
        raise UserError(f"{missing[0]}: must be given, as {missing[0]}=...")
    return values
