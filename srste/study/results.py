"""What a study reports of its best trial."""

from dataclasses import dataclass


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
