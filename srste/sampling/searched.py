"""Any of Optuna's samplers, proposing one learning rate after the other."""

import inspect
import math
import warnings
from collections.abc import Callable

import numpy as np
import optuna
from optuna.distributions import FloatDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler
from optuna.trial import Trial

from srste.sampling.base import LR, Losses, Trials


class Searched:
    """Up to ``n_trials`` learning rates in [lr_min, lr_max], proposed by an Optuna sampler.

    Args:
        sampler: makes the sampler; in YAML any of ``optuna.samplers`` with ``_partial_: true``. If it
            takes a ``seed`` it gets the study's.
        n_trials: >= 1; a sampler that has nothing more to propose ends earlier.
        lr_min, lr_max: 0 < lr_min < lr_max. log: whether lr is searched on a logarithmic scale.
        step: > 0: only multiples of it above lr_min, for samplers that need a finite set; excludes log.
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
        step: float | None = None,
    ) -> None:
        if isinstance(n_trials, bool) or not isinstance(n_trials, int) or n_trials < 1:
            raise ValueError(f"`Searched(n_trials={n_trials})` must be an integer >= 1")
        if not (math.isfinite(lr_max) and lr_max > 0):
            raise ValueError(f"`Searched(lr_max={lr_max})` must be > 0")
        if not 0 < lr_min < lr_max:
            raise ValueError(f"`Searched(lr_min={lr_min})` must be > 0 and below lr_max={lr_max}")
        if step is not None and log:
            raise ValueError(f"`Searched(step={step})` must be null where log is true")
        self.sampler = sampler
        self.trials = n_trials
        self.lr_max = float(lr_max)
        self.distribution = FloatDistribution(lr_min, lr_max, log=log, step=step)

    def _make_sampler(self, seed: int) -> BaseSampler:
        takes_seed = "seed" in inspect.signature(self.sampler).parameters
        with warnings.catch_warnings():
            # Some samplers announce that their interface may change; ours is the YAML's business.
            warnings.simplefilter("ignore", ExperimentalWarning)
            return self.sampler(seed=seed) if takes_seed else self.sampler()

    def rehearse(self) -> None:
        """See :class:`srste.sampling.base.Sampling`."""
        self._make_sampler(0)

    def run(self, losses: Losses, pre_loss: float, seed: int) -> Trials:
        """See :class:`srste.sampling.base.Sampling`."""
        tried: list[tuple[float, float]] = []

        def objective(trial: Trial) -> float:
            d = self.distribution
            lr = trial.suggest_float(LR, d.low, d.high, log=d.log, step=d.step)
            post_loss = float(losses(np.array([lr]))[0])
            tried.append((lr, post_loss))
            return post_loss if math.isfinite(post_loss) else math.nan  # which ends a trial as failed

        verbosity = optuna.logging.get_verbosity()
        # No line for a study in memory; which trials failed is in its record.
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        try:
            study = optuna.create_study(sampler=self._make_sampler(seed))
            study.optimize(objective, n_trials=self.trials)
        finally:
            optuna.logging.set_verbosity(verbosity)
        lrs, post_losses = np.array(tried).T
        return Trials(lrs, post_losses, pre_loss, self.distribution)
