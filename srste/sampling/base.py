"""What a sampling is, and the trials of a study as columns."""

import logging
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Protocol

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.exceptions import ExperimentalWarning
from optuna.trial import FrozenTrial, TrialState, create_trial

Losses = Callable[[NDArray[np.float64]], NDArray[np.float64]]

LR = "lr"
"""The name of the one parameter of every study."""

METRIC = "loss after the step"
"""The name of what every study minimises."""

CHART_POINTS = 320
"""The most points of a curve that MLflow's charts show; of more they drop some by stride."""

ALL_UP_TO = 1_000
"""All trials of a study are shown as points up to that number."""


@dataclass(frozen=True)
class Trials:
    """The finished trials of one study, in order of trial number; n of them.

    lr: (n,) learning rates. post_loss: (n,) losses after ``w - lr g``; where one is not finite the
    trial has failed. pre_loss: the loss before, the same for all. distribution: lr's in the study.
    """

    lr: NDArray[np.float64]
    post_loss: NDArray[np.float64]
    pre_loss: float
    distribution: optuna.distributions.FloatDistribution

    def __len__(self) -> int:
        return len(self.lr)

    @property
    def failed(self) -> NDArray[np.bool_]:
        """(n,) whether the trial failed."""
        return ~np.isfinite(self.post_loss)

    def best(self) -> int | None:
        """The number of the trial with the lowest loss, of several the one with the smallest lr;
        None if all have failed."""
        if self.failed.all():
            return None
        lowest = np.flatnonzero(self.post_loss == np.nanmin(self.post_loss[~self.failed]))
        return int(lowest[np.argmin(self.lr[lowest])])

    def points(self, most: int | None = None, failed: bool = False) -> NDArray[np.intp]:
        """Return the numbers of the trials that a chart shows, ascending: all of them if they are few,
        otherwise some by stride, the best among them.

        Args: most: how many, >= 1; None: all of up to 1,000 trials, 320 of more. failed: whether failed
            trials count, too.
        """
        usable = np.arange(len(self)) if failed else np.flatnonzero(~self.failed)
        if most is None:
            most = len(self) if len(self) <= ALL_UP_TO else CHART_POINTS
        if usable.size <= most:
            return usable
        best = self.best()
        places = np.linspace(0, usable.size - 1, most if best is None else most - 1)
        by_stride = usable[places.round().astype(np.intp)]
        return by_stride if best is None else np.union1d(by_stride, [best])

    def outline(self, most: int = 300) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the learning rates, ascending, and the losses of at most ``most`` trials that a curve
        is drawn through: of more the lowest and the highest of each of as many groups as half of that.
        Failed ones are left out."""
        usable = np.flatnonzero(~self.failed)
        usable = usable[np.argsort(self.lr[usable], kind="stable")]
        if usable.size > most:
            groups = np.array_split(usable, most // 2)
            ends = [
                group[pick(self.post_loss[group])] for group in groups for pick in (np.argmin, np.argmax)
            ]
            usable = np.unique(ends)
            usable = usable[np.argsort(self.lr[usable], kind="stable")]
        return self.lr[usable], self.post_loss[usable]

    def up_to(self, lr: float) -> "Trials":
        """Return the trials whose learning rate is at most ``lr``."""
        chosen = self.lr <= lr
        return replace(self, lr=self.lr[chosen], post_loss=self.post_loss[chosen])

    def to_optuna(
        self,
        name: str = "srste",
        attributes: Mapping[str, Any] | None = None,
        during: tuple[datetime, datetime] | None = None,
    ) -> optuna.Study:
        """An Optuna study of that name with these finished trials, in memory. Each has the parameter
        "lr" and the user attributes of :meth:`attributes`. Of several trials with the lowest loss,
        Optuna's best is the first. It takes seconds for 50,000 trials.

        Args: attributes: the study's user attributes, by name. during: when its trials began and ended,
            local times without a zone, as Optuna has them; None: now.
        """
        creation = logging.getLogger("optuna.storages._in_memory")
        creation.addFilter(_never)  # it would announce each study
        try:
            study = optuna.create_study(study_name=name, direction="minimize")
        finally:
            creation.removeFilter(_never)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            study.set_metric_names([METRIC])
        for key, value in (attributes or {}).items():
            study.set_user_attr(key, value)
        study.add_trials(self._frozen(number, during) for number in range(len(self)))
        return study

    def attributes(self, number: int) -> dict[str, Any]:
        """The user attributes of that trial: "pre_loss", "post_loss", and "reason" if it failed."""
        post_loss = float(self.post_loss[number])
        reason = {} if np.isfinite(post_loss) else {"reason": failure(post_loss)}
        return {"pre_loss": self.pre_loss, "post_loss": post_loss} | reason

    def _frozen(self, number: int, during: tuple[datetime, datetime] | None) -> FrozenTrial:
        attributes = self.attributes(number)
        failed = "reason" in attributes
        trial = create_trial(
            state=TrialState.FAIL if failed else TrialState.COMPLETE,
            value=None if failed else attributes["post_loss"],
            params={LR: float(self.lr[number])},
            distributions={LR: self.distribution},
            user_attrs=attributes,
        )
        if during:
            trial.datetime_start, trial.datetime_complete = during
        return trial


def _never(_: logging.LogRecord) -> bool:
    return False


def failure(post_loss: float) -> str:
    """Why a trial with that loss has failed."""
    return f"loss after the update is {post_loss}, not finite"


class Sampling(Protocol):
    """Which learning rates a study tries.

    lr_max: the largest that it may try.
    """

    lr_max: float

    def run(self, losses: Losses, pre_loss: float, seed: int) -> Trials:
        """The trials of a study that minimises the loss.

        Args: losses: the losses at an array of learning rates. pre_loss: before the step. seed: of the
            sampler.
        """
        ...

    def rehearse(self) -> None:
        """Makes what a run makes, without running. Raises: TypeError or ValueError if it cannot."""
        ...

    @property
    def trials(self) -> int:
        """How many trials a study has at most."""
        ...
