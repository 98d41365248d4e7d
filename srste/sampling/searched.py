"""Any of Optuna's samplers, proposing one learning rate after the other."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import numpy as np
import optuna
from optuna.distributions import FloatDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler
from optuna.trial import TrialState

from srste.sampling.base import LR, Losses, Trials, failure
from srste.sampling.storage import LearningRateStorage


class Searched:
    """``n_trials`` learning rates in [lr_min, lr_max], proposed by an Optuna sampler.

    Args:
        sampler: makes the sampler, given ``seed=``; in YAML any of ``optuna.samplers`` with
            ``_partial_: true``.
        n_trials: >= 1. lr_min, lr_max: 0 < lr_min < lr_max. log: whether lr is searched on a
            logarithmic scale.
    Raises: ValueError that names the argument.
    Properties: as the sampler; reproducible from the study's seed.
    References: Akiba et al. (2019), "Optuna"; for TPE Bergstra et al. (2011), section 4.
    """

    def __init__(
        self,
        sampler: Callable[..., BaseSampler],
        n_trials: int = 100,
        lr_min: float = 1e-5,
        lr_max: float = 0.5,
        log: bool = True,
    ) -> None:
        if isinstance(n_trials, bool) or not isinstance(n_trials, int) or n_trials < 1:
            raise ValueError(f"`Searched(n_trials={n_trials})` must be an integer >= 1")
        if not (math.isfinite(lr_max) and lr_max > 0):
            raise ValueError(f"`Searched(lr_max={lr_max})` must be > 0")
        if not 0 < lr_min < lr_max:
            raise ValueError(f"`Searched(lr_min={lr_min})` must be > 0 and below lr_max={lr_max}")
        self.sampler = sampler
        self.trials = n_trials
        self.lr_min = float(lr_min)
        self.lr_max = float(lr_max)
        self.log = log

    def run(self, losses: Losses, pre_loss: float, name: str, seed: int) -> tuple[optuna.Study, Trials]:
        """See :class:`srste.sampling.base.Sampling`."""
        with warnings.catch_warnings():
            # Some samplers announce that their interface may change; ours is the YAML's business.
            warnings.simplefilter("ignore", ExperimentalWarning)
            study = optuna.create_study(
                storage=LearningRateStorage(), sampler=self.sampler(seed=seed), study_name=name
            )
        distribution = FloatDistribution(self.lr_min, self.lr_max, log=self.log)
        tried, found = np.empty(self.trials), np.empty(self.trials)
        for number in range(self.trials):
            trial = study.ask({LR: distribution})
            tried[number] = trial.params[LR]
            found[number] = losses(tried[[number]])[0]
            post_loss = float(found[number])
            trial.set_user_attr("pre_loss", pre_loss)
            trial.set_user_attr("post_loss", post_loss)
            if math.isfinite(post_loss):
                study.tell(trial, post_loss)
            else:
                trial.set_user_attr("reason", failure(post_loss))
                study.tell(trial, state=TrialState.FAIL)
        return study, Trials(tried, found, pre_loss, distribution)
