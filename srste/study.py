"""One study: a direction, its loss curve, an Optuna study over it, the winner replayed."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

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
    name: str,
) -> tuple[Trials, Best | None]:
    """Runs one study. Returns its trials, and the winner unless every trial failed.

    name: of the Optuna study, for people and for the sampler's seed.
    """
    direction = estimator.direction(problem, batch, samples)
    losses, pre_loss = _losses(problem, batch, direction, sampling.lr_max)
    seed = integer_seed(problem.seed, "sampler", name)
    study, trials = sampling.run(losses, pre_loss, name, seed)
    if trials.failed.all():
        return trials, None

    winner = study.best_trial
    lr, post_loss = winner.params[LR], winner.user_attrs["post_loss"]
    real = replay(problem.model, direction, batch.inputs, batch.targets, lr)
    if not real.explained:
        log.warning(
            "%s: the real update gives a loss of %.9g where the loss curve says %.9g, and rounding "
            "at a breakpoint does not explain the difference",
            name, real.post_loss, post_loss,
        )  # fmt: skip
    best = Best(
        number=winner.number,
        lr=lr,
        post_loss=post_loss,
        replayed_pre_loss=real.pre_loss,
        replayed_post_loss=real.post_loss,
        explained=real.explained,
        on_the_fence=real.on_the_fence,
    )
    return trials, best


def _losses(problem: Problem, batch: Batch, direction: Direction, lr_max: float) -> tuple[Losses, float]:
    """(the losses at given learning rates, the loss before); all nan along a direction that is not
    finite, so that its trials fail, each with its reason, and the study goes on."""
    if spoilt := [name for name, tensor in direction.items() if not tensor.isfinite().all()]:
        log.warning("The direction is not finite in %s: all trials fail", ", ".join(spoilt))
        at_rest: Mapping[str, Tensor] = {k: torch.zeros_like(v) for k, v in direction.items()}
        curve = loss_curve(problem.model, at_rest, batch.inputs, batch.targets, lr_max)
        return lambda lrs: np.full(np.shape(lrs), np.nan), curve.pre_loss
    curve = loss_curve(problem.model, direction, batch.inputs, batch.targets, lr_max)
    return curve, curve.pre_loss
