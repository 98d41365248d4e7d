"""Losses that are polynomials between events: squared and absolute error."""

from __future__ import annotations

import numpy as np

from srste.curve.engine.flips import (
    CurveInputs,
    Follower,
    blocks,
    in_threads,
    one_blas_thread,
    scratch,
    shares,
    threads,
)
from srste.curve.engine.kernels import piecewise as kernels
from srste.curve.engine.kernels.positions import first_floats
from srste.curve.engine.link_table import Links
from srste.curve.network.base import Array, Network
from srste.losses import ExactForm

# An example has a few events, or some dozens. Memory that is set aside and not used costs nothing.
_EVENTS_AN_EXAMPLE = 64
_ADDED_UP_BESIDE = 1_000_000  # of more events the pieces take their place
_EVALUATED_AT_ONCE = 20_000  # learning rates that are worth a thread


class Pieces:
    """A loss on [0, lr_max] in pieces, quadratic each, as in `srste.curve.engine.kernels.piecewise`."""

    error = 0.0

    def __init__(self, table: Array, lr_max: float) -> None:
        self._table = table
        self._lr_max = lr_max

    @property
    def pre_loss(self) -> float:
        return float(self._table[0, 1])

    @property
    def starts(self) -> Array:
        """(P - 1,) first float of every piece but that of t = 0."""
        return first_floats(self._table.view(np.uint64)[1:, 0])

    def rounding(self, lrs: Array) -> Array:
        """By what values at learning rates (any,) in order may miss the one at t = 0 although they are
        equal: the loss may have been far larger in between, and with it what was rounded on the way."""
        sizes = np.abs(self._table[:, 1:])
        starts = np.append(0.0, self.starts)
        ends = np.append(starts[1:], self._lr_max)
        with np.errstate(over="ignore"):  # to infinity, beyond learning rates of 1e150
            ending = (sizes[:, 2] * ends + sizes[:, 1]) * ends + sizes[:, 0]
        before = np.maximum.accumulate(ending)
        piece = np.maximum(np.searchsorted(starts, lrs) - 1, 0)
        own = (sizes[piece, 2] * lrs + sizes[piece, 1]) * lrs + sizes[piece, 0]
        largest: Array = np.maximum(own, np.where(piece > 0, before[piece - 1], 0.0))
        return 4 * np.finfo(float).eps * largest

    def evaluate(self, lrs: Array) -> int:
        """Puts the losses into the place of the learning rates (any,). Returns: where one is that is not
        in [0, lr_max]; -1 if there is none."""
        parts = max(1, min(threads(), len(lrs) // _EVALUATED_AT_ONCE))
        own = shares(parts, len(lrs))
        bad = [-1] * parts

        def work(part: int) -> None:
            here = lrs[own[part].start : own[part].stop]
            bad[part] = kernels.evaluate(self._table, self._lr_max, here)

        in_threads(work, parts)
        return next((own[part].start + at for part, at in enumerate(bad) if at >= 0), -1)

    def lowest(self) -> tuple[float, float, bool]:
        """(lr, loss, attained) of the lowest loss in (0, lr_max]."""
        return kernels.lowest(self._table, self._lr_max)

    def below(self, level: float) -> Array:
        """(I, 3): both ends of every interval of (0, lr_max] where the loss is below a level, and the
        lowest loss in it."""
        return kernels.below(self._table, self._lr_max, level)


def pieces(network: Network, links: Links, batch: CurveInputs, form: ExactForm, lr_max: float) -> Pieces:
    """The mean over the batch of squared, or of absolute, errors."""
    absolute = form is ExactForm.ABSOLUTE
    own = blocks(links, len(batch))
    parts = max(1, min(threads(), len(own)))
    numbers = shares(parts, len(own))
    room = _EVENTS_AN_EXAMPLE * (len(batch) // parts + own[0].stop)
    space = scratch.array("events", parts * room, 4)
    found: list[tuple[int, Array]] = [
        (0, space[part * room : (part + 1) * room]) for part in range(parts)
    ]
    at_rest = np.zeros((len(own), 3))

    def work(part: int) -> None:
        follower = Follower(network, links, batch, own[0].stop)
        count, events = found[part]
        if part == 0:
            count = 1  # that of t = 0 is filled in at the end
        for number in numbers[part]:
            block = own[number]
            if absolute:
                count, events = _absolute(follower, batch, block, count, events)
            else:
                size = block.stop - block.start
                rest, counts = scratch.array("rest", size, 3), np.empty(size, np.int64)
                count, events = follower.follow(block, True, rest, counts, count, events)
                at_rest[number] = rest.sum(axis=0)
        found[part] = count, events

    with one_blas_thread():
        in_threads(work, parts)
    events = _together(space, found)
    events.view(np.uint64)[0, 0] = 0
    events[0, 1:] = at_rest.sum(axis=0)
    in_place = len(events) > _ADDED_UP_BESIDE
    table = events if in_place else np.empty(events.shape)
    return Pieces(table[: kernels.add_up(events, lr_max, table, in_place)], lr_max)


def _absolute(
    follower: Follower, batch: CurveInputs, block: slice, count: int, events: Array
) -> tuple[int, Array]:
    from srste.curve.engine.kernels.absolute import absolute_error  # compiled only where it is wanted

    targets = batch.targets[block]
    rest, counts = np.empty((len(targets), 2 * targets.shape[1])), np.empty(len(targets), np.int64)
    room = _EVENTS_AN_EXAMPLE * len(targets)
    outputs = scratch.array("outputs", room, 1 + 2 * targets.shape[1])
    _, outputs = follower.follow(block, False, rest, counts, 0, outputs)
    return absolute_error(rest, counts, outputs, targets, batch.share, batch.end, count, events)


def _together(space: Array, found: list[tuple[int, Array]]) -> Array:
    """The events of all parts in one array, in order; in the space that was set aside if they fit."""
    if any(not np.may_share_memory(space, events) for _, events in found):
        return np.concatenate([events[:count] for count, events in found])
    place = found[0][0]
    for count, events in found[1:]:
        space[place : place + count] = events[:count]
        place += count
    return space[:place]
