"""A job: building its parts from its configuration, and what identifies its studies."""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate, to_absolute_path

from srste.curve import Line
from srste.curve.network.base import check_direction
from srste.errors import UserError
from srste.estimators import Estimator
from srste.launch.build_errors import why_not_built, why_not_run
from srste.launch.job_values import at
from srste.launch.validation import Plain
from srste.losses import Loss
from srste.problem.data import Data
from srste.problem.pretraining import Pretraining
from srste.problem.problem import Problem
from srste.problem.task import Batch
from srste.sampling import Sampling
from srste.study.diagnosis import Diagnosed, GradientDiagnostics
from srste.study.evaluation import StochasticEvaluation

_LABELS = frozenset({"name", "baseline", "control"})
"""Keys of a part's configuration that are no arguments: its name, the estimator that it is compared
with, and whether it is a control."""

_NOT_NORMALISED = {"_target_": "srste.estimators.base.no_norm", "_partial_": True}

_DRAWN = {"batch_size": False, "pretraining.batch_size": False, "heldout": True}
"""Keys of numbers of examples that are drawn at once, and whether those are held out."""

_CPU = torch.device("cpu")


def build(node: Mapping[str, Any]) -> Any:
    """Return the object that a configuration node describes."""
    return instantiate({k: v for k, v in node.items() if k not in _LABELS})


class Job:
    """One job's configuration, resolved and checked: every part of it can be built.

    evaluation: of the loss with drawn units; None without one. baseline: the estimator that this one is
    compared with; None if there is none. estimators: the baseline, if there is one, and the estimator,
    each after its configuration.

    Args:
        config: its values are checked already, see `srste.launch.job_values`.
        built: the parts built so far, by configuration, for jobs that are only checked to share.
    Raises: UserError for a value that is not allowed.
    """

    def __init__(self, config: Plain, built: dict[str, Any] | None = None) -> None:
        self._built = {} if built is None else built
        self.config = config
        self.samples: int = self.config["samples"]
        self.batches: int = self.config["batches"]
        self.cache = self._cache()
        self.estimator: Estimator = self._part("estimator")
        self.sampling: Sampling = self._part("sampling")
        self.pretraining: Pretraining = self._part("pretraining")
        self._data: Data = self._part("data")
        self._loss: Loss = self._part("loss")
        self.evaluation: StochasticEvaluation | None = self._optional("evaluation")
        self._diagnostics: GradientDiagnostics | None = self._optional("diagnostics")
        self._part("model")
        self.baseline: Estimator | None = None
        self.estimators: list[tuple[Plain, Estimator]] = [(self.config["estimator"], self.estimator)]
        if self.baseline_config is not None:
            self.baseline = self._part("estimator.baseline")
            self.estimators.insert(0, (self.baseline_config, self.baseline))
        for key, heldout in _DRAWN.items():
            value, most = at(self.config, key), self._data.most(heldout)
            if value is not None and most is not None and value > most:
                raise UserError(
                    f"{key}={value}: must be at most {most}, as the data has; {key}={most} takes all"
                )

    def _cache(self) -> Path:
        """Return the folder of the pretrained networks, relative to where the command was typed:
        Hydra may run the job in another folder."""
        name = self.config["cache"]
        if isinstance(name, bool | list | dict) or not str(name).strip():
            raise UserError(f"cache={name}: must be the name of a folder")
        try:
            return Path(to_absolute_path(str(Path(str(name)).expanduser())))
        except RuntimeError as error:
            raise UserError(f"cache={name}: there is no user of that name") from error

    def _part(self, key: str) -> Any:
        node = at(self.config, key)
        try:
            if repr(node) not in self._built:
                self._built[repr(node)] = build(node)
        # A user's class may raise anything; SystemExit comes of a module that was written as a script.
        except (Exception, SystemExit) as error:
            raise UserError(why_not_built(error, node, key)) from error
        return self._built[repr(node)]

    def _optional(self, key: str) -> Any:
        """Return the part, or None of a choice that names no class."""
        return self._part(key) if "_target_" in self.config[key] else None

    def rehearse(self) -> None:
        """Run everything once at the smallest size, so that parts that do not fit together are
        refused before any work. Raises: UserError."""
        model = partial(build, self.config["model"])
        # New parts: those of the job may be shared with another job.
        parts = ("data", "estimator", "sampling", "loss")
        data, estimator, sampling, loss = (build(self.config[part]) for part in parts)
        try:
            small = Problem(model, data, seed=0, batch_size=2, device=_CPU, loss=loss)
            batch = small.batch(1)
            _ = estimator.stochastic
            weights = dict(small.model.named_parameters())
            if self.baseline_config is not None:
                check_direction(weights, build(self.baseline_config).direction(small, batch, 1))
            for config, _ in self.estimators:
                self._check_diagnosed(small, batch, config)
            direction = estimator.direction(small, batch, 1)
            line = Line(small.model, direction)
            line.loss(batch.inputs, batch.targets, loss, sampling.lr_max)
            if self.evaluation is not None:
                self.evaluation.of(line, small, batch, sampling.lr_max)
            sampling.rehearse()
        except UserError:
            raise
        except Exception as error:  # a user's class may raise anything
            why = why_not_run(error, self.config)
            raise UserError(f"the configuration does not run: {why}") from error

    def _check_diagnosed(self, task: Problem, batch: Batch, estimator: Plain) -> None:
        diagnosed = self.diagnosed(estimator)
        if diagnosed is not None:
            try:
                diagnosed.diagnostics.check(task, batch, diagnosed.estimator)
            except ValueError as error:
                raise UserError(f"diagnostics.{error}") from error

    @property
    def baseline_config(self) -> Plain | None:
        """The configuration of the baseline; None if there is none."""
        node: Plain | None = self.config["estimator"].get("baseline")
        return node

    def diagnosed(self, estimator: Plain) -> Diagnosed | None:
        """Return what the gradients of the estimator of that configuration are diagnosed by, if they
        are to be: without a normalisation, which would hide a wrong scale."""
        if self._diagnostics is None:
            return None
        if "normalisation" in estimator:
            estimator = estimator | {"normalisation": _NOT_NORMALISED}
        return Diagnosed(self._diagnostics, build(estimator))

    def problem(self) -> Problem:
        """Return the problem, with the network before pretraining."""
        return Problem(
            partial(build, self.config["model"]),
            self._data,
            seed=self.config["seed"],
            batch_size=self.config["batch_size"],
            device=torch.device(self.config["device"]),
            loss=self._loss,
        )

    def pretraining_identity(self) -> Plain:
        """Return everything in the configuration that determines the pretrained weights."""
        keys = ("seed", "model", "data", "loss", "pretraining")
        identity = {key: self.config[key] for key in keys}
        identity["device"] = torch.device(self.config["device"]).type
        if (content := getattr(self._data, "identity", None)) is not None:
            identity["data"] = identity["data"] | {"identity": content}
        return identity

    def study_identity(self, batch: int, estimator: Plain, stochastic: bool) -> Plain:
        """Return everything in the configuration that determines one study's result."""
        ignored = {"baseline"} if stochastic else {"baseline", "draws"}
        identity = self.pretraining_identity() | {
            "batch_size": self.config["batch_size"],
            "heldout": self.config["heldout"],
            "batch": batch,
            "sampling": self.config["sampling"],
            "estimator": {k: v for k, v in estimator.items() if k not in ignored},
            "samples": self.samples if stochastic else None,
        }
        for key, part in (("evaluation", self.evaluation), ("diagnostics", self._diagnostics)):
            if part is not None:
                identity[key] = self.config[key]
        if estimator.get("baseline"):  # the result includes the angles to the baseline's direction
            identity["beside"] = estimator["baseline"]
        return identity

    def identities(self) -> Iterator[Plain]:
        """Yield the identity of every study of the job, baselines included."""
        for batch in range(1, self.batches + 1):
            for config, estimator in self.estimators:
                yield self.study_identity(batch, config, estimator.stochastic)
