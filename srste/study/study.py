"""One study: a direction, its loss curve, trials of learning rates, and the best trial replayed."""

import logging
import math
from dataclasses import dataclass
from html import escape

import numpy as np
import optuna
import torch

from srste.curve import EvaluatedCurve, ExactCurve, Line, LossCurve
from srste.curve.forward.evaluated import Progress
from srste.curve.network.base import check_direction
from srste.estimators import Cost, Direction, Estimator, cost_of
from srste.estimators.angles import angle_of_all, angles
from srste.problem.task import Batch, Task
from srste.randomness import integer_seed
from srste.sampling import Sampling, Trials
from srste.sampling.base import Losses
from srste.study import checks
from srste.study.certificate import Certificate, certificate
from srste.study.diagnosis import Diagnosed, flip_ratios
from srste.study.evaluation import StochasticEvaluation
from srste.study.heldout import evaluate_heldout, zero_loss
from srste.study.replay import Replay, replay
from srste.study.results import (
    NOT_MOVED,
    NOT_RESTORED,
    SAME_DRAWS,
    Best,
    Diagnosis,
    DrawnLoss,
    Heldout,
    Probe,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True, repr=False)
class Study:
    """The result of a study. best, heldout, probe: None if every trial failed.

    name: of the estimator, sample count and batch. curve: the loss along the direction, None where
    weights or direction are not finite. heldout: None also where nothing is held out. zero_loss: of
    a model whose output is zero, on the batch. angles: to the baseline's direction, in degrees, by
    parameter tensor, and of all parameters together under ""; empty without a baseline.
    certificate: None where the loss curve has no exact form, and not_exact says why. alarms:
    details by kind, see `srste.study.checks`. cost: of the direction, None if its estimator declares
    none. drawn: the loss with drawn units; diagnosis: of the gradient behind the direction; None unless
    they were asked for.
    """

    name: str
    curve: LossCurve | None
    trials: Trials
    best: Best | None
    heldout: Heldout | None
    zero_loss: float
    angles: dict[str, float | None]
    probe: Probe | None
    certificate: Certificate | None
    not_exact: str
    alarms: dict[str, str]
    cost: Cost | None
    drawn: DrawnLoss | None = None
    diagnosis: Diagnosis | None = None

    @property
    def regret(self) -> float | None:
        """The loss of the best trial less the lowest over all learning rates, if both are known."""
        return self.certificate.regret if self.certificate else None

    def to_optuna(self) -> optuna.Study:
        """An Optuna study of all trials, with their parameter "lr"."""
        return self.trials.to_optuna(self.name)

    def summary(self) -> dict[str, str]:
        """Return the main results in words, by what they are."""
        rows = {"loss before the step": f"{self.trials.pre_loss:.6g}"}
        if self.best is None:
            return rows | {"best step": f"none: all {len(self.trials):,} trials failed"}
        best = f"{self.best.post_loss:.6g} at learning rate {self.best.lr:.6g}"
        rows["after the best step"] = f"{best}, of {len(self.trials):,}"
        regret = "not known: " + self.not_exact if self.regret is None else f"{self.regret:.2g}"
        rows["above the lowest there is"] = regret
        if self.heldout:
            rows["held-out, before and after"] = (
                f"{self.heldout.pre_loss:.6g}, {self.heldout.post_loss:.6g}"
            )
        return rows | {f"alarm: {kind}": detail for kind, detail in self.alarms.items()}

    def __repr__(self) -> str:
        return f"<study {self.name}: {'; '.join(f'{k} {v}' for k, v in self.summary().items())}>"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th>{escape(k)}</th><td>{escape(v)}</td></tr>" for k, v in self.summary().items()
        )
        return f"<table><caption>{escape(self.name)}</caption>{rows}</table>"


PROBED = 2e-4
"""The learning rate of the small step as a fraction of lr_max: so small that few units flip, and
its loss tells directions apart better than the minimum does."""


def run_study(
    task: Task,
    batch: Batch,
    estimator: Estimator,
    samples: int,
    sampling: Sampling,
    estimator_name: str,
    heldout: Batch | None = None,
    baseline: Estimator | None = None,
    progress: Progress | None = None,
    evaluation: StochasticEvaluation | None = None,
    diagnosed: Diagnosed | None = None,
) -> Study:
    """Run one study.

    Args: heldout: examples to evaluate the best step on, too. baseline: whose direction the angles
        are to. progress: is called as an evaluated curve proceeds, see
        :class:`srste.curve.EvaluatedCurve`. evaluation: of the loss with drawn units, too. diagnosed:
        how the gradient is diagnosed.

    Raises: ValueError naming the parameter for which a direction has no tensor like it.
    """
    name = f"{estimator_name} samples {samples} batch {batch.index}"
    before = checks.WeightSnapshot(task.model)
    alarms = {}
    direction = estimator.direction(task, batch, samples)
    check_direction(dict(task.model.named_parameters()), direction)
    to_baseline = _angles(task, batch, direction, baseline)
    if checks.ignores_draws(estimator, task, batch):
        alarms[SAME_DRAWS] = "other draws, same direction"
    if before.restore():
        alarms[NOT_RESTORED] = "put back afterwards"
    if unmoved := checks.unmoved_tensors(task.model, direction):
        alarms[NOT_MOVED] = unmoved
    for alarm, detail in alarms.items():
        log.warning("%s: alarm: %s: %s", name, alarm, detail)

    line, seed = Line(task.model, direction), integer_seed(task.seed, "sampler", name)
    curve = _curve(line, task, batch, sampling.lr_max, progress)
    if isinstance(curve, EvaluatedCurve):
        weights = sum(g.numel() for g in direction.values())
        _announce((sampling.trials, len(batch.inputs), weights), curve)
    losses: Losses = curve or (lambda lrs: np.full(np.shape(lrs), np.nan))
    trials = sampling.run(losses, curve.pre_loss if curve else _pre_loss(task, batch), seed)
    winner = trials.best()
    exact = best = on_heldout = heldout_curve = probe = None
    if isinstance(curve, ExactCurve):
        exact = certificate(curve, None if winner is None else float(trials.post_loss[winner]))
    if curve is not None and winner is not None:
        best = _replayed(line, task, batch, curve, trials, winner, name)
        small = PROBED * sampling.lr_max
        probe = Probe(small, float(curve(np.array([small]))[0]))
        if heldout:
            heldout_curve = line.loss(
                heldout.inputs, heldout.targets, task.loss, sampling.lr_max, task.seed
            )
            on_heldout = evaluate_heldout(heldout_curve, task, heldout, best.lr)
    drawn = evaluation.of(line, task, batch, sampling.lr_max) if evaluation and curve else None
    diagnosis = None
    if diagnosed is not None:
        flipped = flip_ratios(task.model, line, batch.inputs, best.lr, task.seed) if best else {}
        gauge = heldout_curve.gauge(best.lr) if best and heldout_curve and heldout_curve.exact else None
        diagnosis = diagnosed.diagnostics.of(task, batch, diagnosed.estimator, samples, flipped, gauge)
    return Study(
        name=name,
        curve=curve,
        trials=trials,
        best=best,
        heldout=on_heldout,
        zero_loss=zero_loss(task, batch),
        angles=to_baseline,
        probe=probe,
        certificate=exact,
        not_exact=curve.why_not if curve else "",
        alarms=alarms,
        cost=cost_of(estimator, task.model, samples),
        drawn=drawn,
        diagnosis=diagnosis,
    )


_announced: set[tuple[str, tuple[int, ...]]] = set()


def _announce(size: tuple[int, ...], curve: EvaluatedCurve) -> None:
    """Log how long the learning rates of a study take by forward passes, once a process for each
    reason and size. size: the number of learning rates, and what else their time depends on."""
    trials = size[0]
    if (curve.why_not, size) not in _announced:
        _announced.add((curve.why_not, size))
        seconds = curve.seconds(trials)
        advice = "; sampling=tpe tries fewer" if seconds > 5 and trials > 1_000 else ""
        log.warning(
            "The loss curve has no exact form, and is evaluated by forward passes: %s. The %s learning "
            "rates of a study will take about %s%s",
            curve.why_not, f"{trials:,}", _duration(seconds), advice,
        )  # fmt: skip


def _duration(seconds: float) -> str:
    """For example "0.4 s", "25 s", "12 min", "3.5 h"."""
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _angles(
    task: Task, batch: Batch, direction: Direction, baseline: Estimator | None
) -> dict[str, float | None]:
    if baseline is None:
        return {}
    other = baseline.direction(task, batch, 1)
    check_direction(dict(task.model.named_parameters()), other)
    return {"": angle_of_all(direction, other)} | angles(direction, other)


def _replayed(
    line: Line, task: Task, batch: Batch, curve: LossCurve, trials: Trials, winner: int, name: str
) -> Best:
    """Return the best trial with its replay. winner: its number."""
    lr, post_loss = float(trials.lr[winner]), float(trials.post_loss[winner])
    if curve.exact:
        real = replay(line, batch.inputs, batch.targets, lr, post_loss, task.loss)
    else:
        # Such a curve makes real passes; one pass alone may differ in the last bits from many together.
        again = float(curve(lr))
        precision = max(torch.finfo(p.dtype).eps for p in line.direction.values())
        agrees = math.isclose(again, post_loss, rel_tol=100 * precision)
        real = Replay(curve.pre_loss, again, on_the_fence=0, explained=agrees)
    if not real.explained:
        log.warning(
            "%s: the real update gives a loss of %.9g where the loss curve says %.9g, and rounding "
            "at a breakpoint does not explain the difference",
            name, real.post_loss, post_loss,
        )  # fmt: skip
    return Best(
        number=winner,
        lr=lr,
        smallest_lr=float(trials.lr.min()),
        largest_lr=float(trials.lr.max()),
        post_loss=post_loss,
        replayed_pre_loss=real.pre_loss,
        replayed_post_loss=real.post_loss,
        explained=real.explained,
        on_the_fence=real.on_the_fence,
    )


def _curve(
    line: Line, task: Task, batch: Batch, lr_max: float, progress: Progress | None
) -> LossCurve | None:
    """Return the loss along the line. Where weights or direction are not finite, log that and
    return None: the trials then fail, not the job."""
    parts = {"weights are": dict(line.model.named_parameters()), "direction is": line.direction}
    for what, tensors in parts.items():
        if names := [name for name, tensor in tensors.items() if not tensor.isfinite().all()]:
            log.warning("The %s not finite in %s: all trials fail", what, ", ".join(names))
            return None
    return line.loss(batch.inputs, batch.targets, task.loss, lr_max, task.seed, progress)


def _pre_loss(task: Task, batch: Batch) -> float:
    """Return the loss before the step without a curve; nan where the weights are not finite."""
    zero = {name: torch.zeros_like(p) for name, p in task.model.named_parameters()}
    if not all(p.isfinite().all() for p in task.model.parameters()):
        return math.nan
    return Line(task.model, zero).loss(batch.inputs, batch.targets, task.loss).pre_loss
