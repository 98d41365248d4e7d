"""The composed configuration: building its parts, checking it early, and what identifies a study."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate, to_absolute_path
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from srste.curve import Line
from srste.curve.network.base import check_direction
from srste.errors import UserError, address_without_password, first_line
from srste.estimators import Estimator
from srste.launch.build_errors import why_not_built, why_not_run
from srste.launch.hints import nearest_of
from srste.launch.validation import Boolean, Device, Integer, Name, OneOf, Positive, Rule, Text
from srste.losses import Loss
from srste.problem.data import Data
from srste.problem.pretraining import Pretraining
from srste.problem.problem import Problem
from srste.sampling import Sampling

Plain = dict[str, Any]
"""A resolved configuration: nested dicts, lists, strings, numbers, booleans and None."""


_LABELS = frozenset({"name", "baseline", "control"})
"""Of a part's configuration, what tells others of it: what it is called, what it is set beside, and
whether it is there to be compared with."""


def build(node: Mapping[str, Any]) -> Any:
    """The object that a configuration node describes; its labels are no arguments."""
    return instantiate({k: v for k, v in node.items() if k not in _LABELS})


def building_once() -> Callable[[Mapping[str, Any]], Any]:
    """A :func:`build` that gives equal nodes the same object: for checks, which use parts in no job."""
    built: dict[str, Any] = {}

    def build_once(node: Mapping[str, Any]) -> Any:
        if (key := repr(node)) not in built:
            built[key] = build(node)
        return built[key]

    return build_once


RULES: dict[str, Rule] = {
    "samples": Integer(1),
    "seed": Integer(0),
    "batches": Integer(1),
    "batch_size": Integer(1),
    "draws": OneOf(("nested", "independent")),
    "heldout": Integer(0),
    "device": Device(),
    "resume": Boolean(),
    "report": Boolean(),
    "data.features": Integer(1),
    "model.width": Integer(1),
    "model.depth": Integer(1),
    "model.out_features": Integer(1),
    "model.bias": Boolean(),
    "pretraining.steps": Integer(1),
    "pretraining.batch_size": Integer(1),
    "pretraining.lr": Positive(),
    "sampling.lr_max": Positive(),
    "sampling.lr_min": Positive(),
    "sampling.step": Positive(),
    "sampling.n_trials": Integer(1),
    "sampling.log": Boolean(),
    "tracking.uri": Text(),
    "tracking.experiment": Name(),
    "tracking.granularity": OneOf(("study", "job")),
    "model.name": Name(),
    "data.name": Name(),
    "loss.name": Name(),
    "estimator.name": Name(),
    "pretraining.name": Name(),
    "sampling.name": Name(),
}
"""What is checked before anything is built; the parts check the rest of their arguments themselves."""


_GROUPS = frozenset({"model", "data", "loss", "estimator", "pretraining", "sampling", "tracking"})
_VALUES = frozenset(
    {
        "samples",
        "draws",
        "seed",
        "batches",
        "batch_size",
        "heldout",
        "device",
        "resume",
        "report",
        "cache",
    }
)
KEYS = _GROUPS | _VALUES
_DRAWN = {"batch_size": False, "pretraining.batch_size": False, "heldout": True}
"""How many examples are drawn at once, and whether they are held out."""

_CPU = torch.device("cpu")


class Job:
    """One job's configuration, resolved and checked: every part of it can be built.

    Args:
        elsewhere: whether the job runs on another machine, whose devices are not known here.
        build: makes the parts.
    Raises: UserError for a value that is not allowed.
    """

    def __init__(
        self,
        composed: DictConfig,
        elsewhere: bool = False,
        build: Callable[[Mapping[str, Any]], Any] = build,
    ) -> None:
        self._build = build
        # Without Hydra's, whose values resolve only while it runs the job.
        own = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
        try:
            plain = OmegaConf.to_container(own, resolve=True)
            missing = sorted(OmegaConf.missing_keys(own))
        except OmegaConfBaseException as error:
            raise UserError(f"{getattr(error, 'full_key', '')}: {first_line(error)}") from error
        if missing:
            raise UserError(f"{missing[0]}: must be given, as {missing[0]}=...")
        assert isinstance(plain, dict)
        self.config: Plain = {str(key): value for key, value in plain.items()}
        if unknown := sorted(self.config.keys() - KEYS):
            meant = nearest_of(unknown[0], sorted(KEYS)).strip()
            there = ", ".join(sorted(KEYS))
            raise UserError(f"{unknown[0]}: no such key; known are {there}{meant and f'; {meant}'}")
        rules = RULES | {"device": Device(elsewhere)}
        for key, rule in rules.items():
            value = self._at(key)
            if value is not None and (complaint := rule.broken_by(value)):
                raise UserError(f"{key}={value}: {complaint}")
        for key in sorted(KEYS):
            if self.config.get(key) is None:
                allowed = RULES[key].broken_by(None) if key in RULES else "must not be null"
                raise UserError(f"{key}=null: {allowed}")
        for key in ("experiment", "granularity"):
            if key in self.config["tracking"] and self.config["tracking"][key] is None:
                raise UserError(f"tracking.{key}=null: {RULES[f'tracking.{key}'].broken_by(None)}")

        if (uri := self._at("tracking.uri")) is not None:
            # The configuration goes into records and runs; what lets one in does not.
            self.config["tracking"]["uri"] = address_without_password(str(uri))
        self.tracking: Plain = dict(self.config["tracking"])
        self.samples: int = self.config["samples"]
        self.batches: int = self.config["batches"]
        self.resume: bool = self.config["resume"]
        self.cache = self._cache()
        self.estimator: Estimator = self._part("estimator")
        self.sampling: Sampling = self._part("sampling")
        self.pretraining: Pretraining = self._part("pretraining")
        self._data: Data = self._part("data")
        self._loss: Loss = self._part("loss")
        self._part("model")
        if self.baseline_config is not None:
            self._part("estimator.baseline")
        for key, heldout in _DRAWN.items():
            value, most = self._at(key), self._data.most(heldout)
            if value is not None and most is not None and value > most:
                raise UserError(f"{key}={value}: must be at most {most}, as the data has")

    def _at(self, key: str) -> Any:
        value: Any = self.config
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        return value

    def _cache(self) -> Path:
        """The folder of the pretrained networks: relative to where the launch was typed, wherever Hydra
        runs the job."""
        name = self.config["cache"]
        if isinstance(name, bool | list | dict) or not str(name).strip():
            raise UserError(f"cache={name}: must be the name of a folder")
        try:
            return Path(to_absolute_path(str(Path(str(name)).expanduser())))
        except RuntimeError as error:
            raise UserError(f"cache={name}: there is no user of that name") from error

    def _part(self, key: str) -> Any:
        try:
            return self._build(self._at(key))
        # Whatever a user's class raises; SystemExit too, of a module that was written as a script.
        except (Exception, SystemExit) as error:
            raise UserError(why_not_built(error, self._at(key), key)) from error

    def rehearse(self) -> None:
        """Runs everything once at the smallest size, so that parts which do not fit together, or take
        other arguments than they were given, are refused before any work. Raises: UserError."""
        model = partial(build, self.config["model"])
        # Parts of its own: those of the job may be another's too.
        parts = ("data", "estimator", "sampling", "loss")
        data, estimator, sampling, loss = (build(self.config[part]) for part in parts)
        try:
            small = Problem(model, data, seed=0, batch_size=2, device=_CPU, loss=loss)
            batch = small.batch(1)
            _ = estimator.stochastic
            weights = dict(small.model.named_parameters())
            if self.baseline_config is not None:
                check_direction(weights, build(self.baseline_config).direction(small, batch, 1))
            direction = estimator.direction(small, batch, 1)
            line = Line(small.model, direction)
            line.loss(batch.inputs, batch.targets, loss, sampling.lr_max)
            sampling.rehearse()
        except Exception as error:  # whatever a user's class raises
            why = why_not_run(error, self.config)
            raise UserError(f"the configuration does not run: {why}") from error

    @property
    def baseline_config(self) -> Plain | None:
        """The configuration of the estimator that this one is compared with, if it has one."""
        node: Plain | None = self.config["estimator"].get("baseline")
        return node

    @cached_property
    def baseline(self) -> Estimator:
        """The estimator that this one is compared with, if it has one."""
        estimator: Estimator = self._build(self.baseline_config or {})
        return estimator

    def problem(self) -> Problem:
        """The problem, with the raw network."""
        return Problem(
            partial(build, self.config["model"]),
            self._data,
            seed=self.config["seed"],
            batch_size=self.config["batch_size"],
            device=torch.device(self.config["device"]),
            loss=self._loss,
        )

    def pretraining_identity(self) -> Plain:
        """Everything in the configuration that determines the pretrained weights."""
        keys = ("seed", "model", "data", "loss", "pretraining")
        identity = {key: self.config[key] for key in keys} | {"device": self._device_type()}
        if (content := getattr(self._data, "identity", None)) is not None:
            identity["data"] = identity["data"] | {"identity": content}
        return identity

    def study_identity(self, batch: int, estimator: Plain, stochastic: bool) -> Plain:
        """Everything in the configuration that determines one study's result."""
        unused = None if stochastic else "draws"
        # The angles to the baseline's direction are part of the result of what is set beside it.
        beside = {"beside": estimator["baseline"]} if estimator.get("baseline") else {}
        return (
            beside
            | self.pretraining_identity()
            | {
                "batch_size": self.config["batch_size"],
                "heldout": self.config["heldout"],
                "batch": batch,
                "sampling": self.config["sampling"],
                # Where nothing is drawn, how it would be drawn is no part of the result.
                "estimator": {k: v for k, v in estimator.items() if k not in ("baseline", unused)},
                "samples": self.samples if stochastic else None,
            }
        )

    def identities(self) -> Iterator[Plain]:
        """The identity of every study of the job, baselines included."""
        estimators = [(self.config["estimator"], self.estimator.stochastic)]
        if self.baseline_config is not None:
            estimators.insert(0, (self.baseline_config, self.baseline.stochastic))
        for batch in range(1, self.batches + 1):
            for estimator, stochastic in estimators:
                yield self.study_identity(batch, estimator, stochastic)

    def _device_type(self) -> str:
        return torch.device(self.config["device"]).type
