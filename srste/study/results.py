"""What a study says of its best trial."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Best:
    """The winning trial. number: of the trial; lr: its learning rate; smallest_lr, largest_lr: of all
    that were tried; post_loss: exact, float64;
    replayed_*: of the real model (see `srste.study.replay`); explained: whether rounding explains the
    difference; on_the_fence: examples whose output rounding can change."""

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
    """The loss after a small step, whose learning rate is the same for all studies of a sampling: what
    shows whether the losses of several sample counts drift."""

    lr: float
    loss: float
