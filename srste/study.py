"""One study: a direction, its loss curve, an Optuna study over it, the winner replayed and held out."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, replace

import numpy as np
import optuna
import torch
from numpy.typing import NDArray

from srste.certificate import Certificate, certificate
from srste.checks import (
    NOT_MOVED,
    NOT_RESTORED,
    SAME_DRAWS,
    Unchanged,
    draws_do_nothing,
    not_moved,
)
from srste.curve import EvaluatedCurve, LossCurve, any_curve
from srste.curve.network import check_direction
from srste.estimators import Direction, Estimator
from srste.estimators.angles import angle_of_all, angles
from srste.heldout import Heldout, held_out, zero_loss
from srste.problem import Batch, Problem
from srste.progress import duration
from srste.randomness import integer_seed
from srste.records import Best, Probe
from srste.replay import Replay, replay
from srste.sampling import Sampling, Trials
from srste.sampling.base import LR

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Study:
    """What a study found. best, heldout, probe: None if every trial failed.

    heldout: None also where nothing is held out. zero_loss: of a student whose output is zero, on the
    batch. angles: to the baseline's direction, in degrees, by parameter tensor, and of all parameters
    together under ""; empty without a baseline. probe: the loss after a small step. certificate: what
    holds over all learning rates, None where the loss curve has no exact form, and not_exact says why.
    alarms: by kind (see `srste.checks`), what was seen.
    """

    trials: Trials
    best: Best | None
    heldout: Heldout | None
    zero_loss: float
    angles: dict[str, float | None]
    probe: Probe | None
    certificate: Certificate | None
    not_exact: str
    alarms: dict[str, str]


PROBED = 2e-4
"""The learning rate of the small step, as a part of the largest that may be tried: so small that few
units flip, and the loss tells the direction from its like better than its own minimum does."""


def run_study(
    problem: Problem,
    batch: Batch,
    estimator: Estimator,
    samples: int,
    sampling: Sampling,
    estimator_name: str,
    heldout: Batch | None = None,
    baseline: Estimator | None = None,
) -> Study:
    """Runs one study. heldout: examples on which the winner is measured too. baseline: whose direction
    the angles are to.

    Raises: ValueError naming the parameter for which a direction has no tensor like it.
    """
    name = f"{estimator_name} samples {samples} batch {batch.index}"
    unchanged = Unchanged(problem.model)
    alarms = {}
    direction = estimator.direction(problem, batch, samples)
    check_direction(dict(problem.model.named_parameters()), direction)
    to_baseline = _angles(problem, batch, direction, baseline)
    if draws_do_nothing(estimator, problem, batch):
        alarms[SAME_DRAWS] = "other draws, same direction"
    if unchanged.restore():
        alarms[NOT_RESTORED] = "put back afterwards"
    if still := not_moved(problem.model, direction):
        alarms[NOT_MOVED] = still
    for alarm, seen in alarms.items():
        log.warning("%s: alarm: %s: %s", name, alarm, seen)

    curve, not_exact = _curve(problem, batch, direction, sampling.lr_max)
    if isinstance(curve, EvaluatedCurve):
        weights = sum(g.numel() for g in direction.values())
        _announce(not_exact, (sampling.trials, len(batch.inputs), weights), curve)
    seed = integer_seed(problem.seed, "sampler", name)
    study, trials = sampling.run(curve, curve.pre_loss, name, seed)
    failed = bool(trials.failed.all())
    found = Study(
        trials=trials,
        best=None,
        heldout=None,
        zero_loss=zero_loss(problem, batch),
        angles=to_baseline,
        probe=None,
        certificate=_certificate(curve, trials),
        not_exact=not_exact,
        alarms=alarms,
    )
    if failed:
        return found
    winner = study.best_trial
    lr, small = winner.params[LR], PROBED * sampling.lr_max
    return replace(
        found,
        best=_replayed(problem, batch, direction, curve, trials, winner, name),
        heldout=held_out(problem, direction, heldout, lr, sampling.lr_max) if heldout else None,
        probe=Probe(small, float(curve(np.array([small]))[0])),
    )


_announced: set[tuple[str, tuple[int, ...]]] = set()


def _announce(not_exact: str, size: tuple[int, ...], curve: EvaluatedCurve) -> None:
    """Says, once for each reason and each size of a study in a process, that learning rates cost forward
    passes here, and how long those of a study will take. size: how many, and what else decides."""
    trials = size[0]
    if (not_exact, size) not in _announced:
        _announced.add((not_exact, size))
        log.warning(
            "The loss curve has no exact form, and is evaluated by forward passes: %s. The %s learning "
            "rates of a study will take about %s",
            not_exact, f"{trials:,}", duration(curve.seconds(trials)),
        )  # fmt: skip


def _certificate(curve: LossCurve | EvaluatedCurve | _NoCurve, trials: Trials) -> Certificate | None:
    if not isinstance(curve, LossCurve):
        return None
    best = trials.best()
    return certificate(curve, None if best is None else float(trials.post_loss[best]))


def _angles(
    problem: Problem, batch: Batch, direction: Direction, baseline: Estimator | None
) -> dict[str, float | None]:
    if baseline is None:
        return {}
    other = baseline.direction(problem, batch, 1)
    check_direction(dict(problem.model.named_parameters()), other)
    return {"": angle_of_all(direction, other)} | angles(direction, other)


def _replayed(
    problem: Problem,
    batch: Batch,
    direction: Direction,
    curve: LossCurve | EvaluatedCurve | _NoCurve,
    trials: Trials,
    winner: optuna.trial.FrozenTrial,
    name: str,
) -> Best:
    """The winner, and what a real update with it gives."""
    lr, post_loss = winner.params[LR], winner.user_attrs["post_loss"]
    if isinstance(curve, EvaluatedCurve):
        # By real passes as it is: one more may differ in the last bits, where many go together.
        again = float(curve(lr))
        precision = max(torch.finfo(p.dtype).eps for p in direction.values())
        agrees = math.isclose(again, post_loss, rel_tol=100 * precision)
        real = Replay(curve.pre_loss, again, on_the_fence=0, explained=agrees)
    else:
        real = replay(problem.model, direction, batch.inputs, batch.targets, lr, post_loss, problem.loss)
    if not real.explained:
        log.warning(
            "%s: the real update gives a loss of %.9g where the loss curve says %.9g, and rounding "
            "at a breakpoint does not explain the difference",
            name, real.post_loss, post_loss,
        )  # fmt: skip
    return Best(
        number=winner.number,
        lr=lr,
        smallest_lr=float(trials.lr.min()),
        largest_lr=float(trials.lr.max()),
        post_loss=post_loss,
        replayed_pre_loss=real.pre_loss,
        replayed_post_loss=real.post_loss,
        explained=real.explained,
        on_the_fence=real.on_the_fence,
    )


class _NoCurve:
    """The losses along a direction, or from weights, that are not finite: all nan, so that the trials
    fail, each with its reason, and not the job."""

    def __init__(self, pre_loss: float) -> None:
        self.pre_loss = pre_loss

    def __call__(self, lrs: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.full(np.shape(lrs), np.nan)


def _curve(
    problem: Problem, batch: Batch, direction: Direction, lr_max: float
) -> tuple[LossCurve | EvaluatedCurve | _NoCurve, str]:
    """The loss curve, and why it has no exact form, as `srste.curve.any_curve`."""

    def along(direction: Direction) -> tuple[LossCurve | EvaluatedCurve, str]:
        return any_curve(
            problem.model, direction, batch.inputs, batch.targets, lr_max, problem.loss, problem.seed
        )

    weights = dict(problem.model.named_parameters())
    if spoilt := [n for n, w in weights.items() if not w.isfinite().all()]:
        log.warning("The weights are not finite in %s: all trials fail", ", ".join(spoilt))
        return _NoCurve(math.nan), ""
    if spoilt := [n for n, g in direction.items() if not g.isfinite().all()]:
        log.warning("The direction is not finite in %s: all trials fail", ", ".join(spoilt))
        at_rest = {name: torch.zeros_like(g) for name, g in direction.items()}
        return _NoCurve(along(at_rest)[0].pre_loss), ""
    return along(direction)
