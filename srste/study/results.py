"""A study's results but for its curve and trials, and its kinds of alarm: what a record holds of it."""

from dataclasses import dataclass

SAME_DRAWS, NOT_RESTORED = "same draws", "weights not restored"
NOT_MOVED = "tensors that do not move"
"""Kinds of alarm; `srste.analysis.alarms.MEANING` says what they mean."""


@dataclass(frozen=True)
class Best:
    """The best trial. number, lr: of the trial. smallest_lr, largest_lr: of all trials. post_loss:
    of the loss curve. replayed_pre_loss, replayed_post_loss, explained, on_the_fence: of the real
    model, see :class:`srste.study.replay.Replay`."""

    number: int
    lr: float
    smallest_lr: float
    largest_lr: float
    post_loss: float
    replayed_pre_loss: float
    replayed_post_loss: float
    explained: bool
    on_the_fence: int


@dataclass(frozen=True)
class Probe:
    """The loss after a small step whose learning rate is the same for all studies of a sampling: it
    shows whether the loss drifts with the sample count."""

    lr: float
    loss: float


@dataclass(frozen=True)
class Heldout:
    """Losses on held-out examples of the same problem, float64.

    examples: how many. pre_loss: before the step. post_loss: after the step that is best on the
    batch. best_lr, best_loss, attained: the minimum on the held-out examples along the same
    direction, see :class:`srste.curve.Minimum`; None where the loss curve has no exact form.
    zero_loss: of a model whose output is zero.
    """

    examples: int
    pre_loss: float
    post_loss: float
    best_lr: float | None
    best_loss: float | None
    attained: bool | None
    zero_loss: float


@dataclass(frozen=True)
class DrawnLoss:
    """The mean loss of the network whose units are drawn, before a step and after it.

    units: their kind. draws: of all units, that losses are means of. lr: the best of those tried, by
    other draws. pre_error, post_error: standard errors of the two losses, over draws.
    """

    units: str
    draws: int
    lr: float
    pre_loss: float
    post_loss: float
    pre_error: float
    post_error: float


@dataclass(frozen=True)
class LayerGradient:
    """The estimated gradient of a layer against the true one; None where a number has no meaning, as
    where a gradient is zero.

    layer: the name of the module whose parameters these are; "" for all together. cosine: to the truth,
    the mean over estimates; cosine_low, cosine_high: its 15 and 85 % quantiles. relative_error: root
    mean squared, bias: of the mean estimate, deviation: root of the total variance of draws,
    deviation_of_examples: likewise of which examples the batch has; all four in units of the truth's
    norm. scale_free_bias, scale_free_deviation: of estimates multiplied by the number that gives their
    mean the truth's norm. signal_to_noise: the squared norm of the mean over the variance of draws and
    examples. norm, true_norm: of an estimate, the mean, and of the truth. angle_to_ste: of an estimate
    to the gradient of the clipped straight-through estimator, the mean, in degrees. flip_ratio: which
    fraction of this layer's signs the best step flips, of all units and examples.
    """

    layer: str
    cosine: float | None
    cosine_low: float | None
    cosine_high: float | None
    relative_error: float | None
    bias: float | None
    deviation: float | None
    scale_free_bias: float | None
    scale_free_deviation: float | None
    deviation_of_examples: float | None
    signal_to_noise: float | None
    norm: float | None
    true_norm: float | None
    angle_to_ste: float | None
    flip_ratio: float | None


@dataclass(frozen=True)
class Diagnosis:
    """The gradient behind a study's direction. truth: what it is compared with, in words. layers: all
    parameters together first. heldout_gauge: the step-size gauge of the best step on held-out examples,
    see :meth:`srste.curve.LossCurve.gauge`; None without any, or where it has no meaning."""

    truth: str
    layers: list[LayerGradient]
    heldout_gauge: float | None = None
