"""What a sampling is, and the trials of a study as columns."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState, create_trial

Losses = Callable[[NDArray[np.float64]], NDArray[np.float64]]

LR = "lr"
"""The name of the one parameter of every study."""


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

    def to_optuna(self, name: str = "srste") -> optuna.Study:
        """An Optuna study of that name with these finished trials, in memory. Each has the parameter
        "lr", the user attributes "pre_loss" and "post_loss", and, if it failed, "reason". Of several
        trials with the lowest loss, Optuna's best is the first. It takes seconds for 50,000 trials."""
        study = optuna.create_study(study_name=name, direction="minimize")
        study.add_trials(map(self._frozen, range(len(self))))
        return study

    def _frozen(self, number: int) -> FrozenTrial:
        post_loss = float(self.post_loss[number])
        failed = bool(self.failed[number])
        return create_trial(
            state=TrialState.FAIL if failed else TrialState.COMPLETE,
            value=None if failed else post_loss,
            params={LR: float(self.lr[number])},
            distributions={LR: self.distribution},
            user_attrs={"pre_loss": self.pre_loss, "post_loss": post_loss}
            | ({"reason": failure(post_loss)} if failed else {}),
        )


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
