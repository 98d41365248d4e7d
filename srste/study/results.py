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
