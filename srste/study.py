"""One study: a direction, its loss curve, an Optuna study over it, the winner replayed."""

from __future__ import annotations

import logging
import math

import numpy as np
import torch
from numpy.typing import NDArray

from srste.curve import loss_curve
from srste.estimators import Direction, Estimator
from srste.problem import Batch, Problem
from srste.randomness import integer_seed
from srste.records import Best
from srste.replay import replay
from srste.sampling import Sampling, Trials
from srste.sampling.base import LR, Losses

log = logging.getLogger(__name__)


def run_study(
    problem: Problem,
    batch: Batch,
    estimator: Estimator,
    samples: int,
    sampling: Sampling,
    estimator_name: str,
) -> tuple[Trials, Best | None]:
    """Runs one study. Returns its trials, and the winner unless every trial failed."""
    name = f"{estimator_name} samples {samples} batch {batch.index}"
    direction = estimator.direction(problem, batch, samples)
    losses, pre_loss = _losses(problem, batch, direction, sampling.lr_max)
    seed = integer_seed(problem.seed, "sampler", name)
    study, trials = sampling.run(losses, pre_loss, name, seed)
    if trials.failed.all():
        return trials, None

    winner = study.best_trial
    lr, post_loss = winner.params[LR], winner.user_attrs["post_loss"]
    real = replay(problem.model, direction, batch.inputs, batch.targets, lr, post_loss)
    if not real.explained:
        log.warning(
            "%s: the real update gives a loss of %.9g where the loss curve says %.9g, and rounding "
            "at a breakpoint does not explain the difference",
            name, real.post_loss, post_loss,
        )  # fmt: skip
    best = Best(
        number=winner.number,
        lr=lr,
        largest_lr=float(trials.lr.max()),
        post_loss=post_loss,
        replayed_pre_loss=real.pre_loss,
        replayed_post_loss=real.post_loss,
        explained=real.explained,
        on_the_fence=real.on_the_fence,
    )
    return trials, best


def _losses(problem: Problem, batch: Batch, direction: Direction, lr_max: float) -> tuple[Losses, float]:
    """(the losses at given learning rates, the loss before). Along a direction or from weights that
    are not finite all losses are nan, so that the trials fail, each with its reason, and not the job."""
    weights = dict(problem.model.named_parameters())
    if spoilt := [n for n, w in weights.items() if not w.isfinite().all()]:
        log.warning("The weights are not finite in %s: all trials fail", ", ".join(spoilt))
        return _all_nan, math.nan
    if spoilt := [n for n, g in direction.items() if not g.isfinite().all()]:
        log.warning("The direction is not finite in %s: all trials fail", ", ".join(spoilt))
        at_rest = {name: torch.zeros_like(g) for name, g in direction.items()}
        curve = loss_curve(problem.model, at_rest, batch.inputs, batch.targets, lr_max)
        return _all_nan, curve.pre_loss
    curve = loss_curve(problem.model, direction, batch.inputs, batch.targets, lr_max)
    return curve, curve.pre_loss


def _all_nan(lrs: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.full(np.shape(lrs), np.nan)
