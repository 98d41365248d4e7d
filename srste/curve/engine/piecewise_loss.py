"""Losses that are polynomials between events: squared and absolute error."""

import numpy as np

from srste.curve.engine.follower import CurveInputs, Follower, blocks_by_thread, scratch
from srste.curve.engine.kernels import piecewise as kernels
from srste.curve.engine.kernels.positions import first_floats
from srste.curve.engine.link_table import Links
from srste.curve.engine.threads import in_threads, one_blas_thread, shares, threads
from srste.curve.network.base import Array, Network, check_within
from srste.losses import ExactForm

# An example has a few events, or some dozens. Memory that is set aside and not used costs nothing.
_EVENTS_AN_EXAMPLE = 64
_ADDED_UP_APART = 1_000_000  # of more events the pieces take their place
_EVALUATED_AT_ONCE = 20_000  # learning rates that are worth a thread


class Pieces:
    """A loss on [0, lr_max] in pieces, quadratic each, as in `srste.curve.engine.kernels.piecewise`."""

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
        """A bound on the rounding error of the difference between the loss at each of the learning rates
        (any,), ascending, and at t = 0: where the loss was far larger in between, so was what was
        rounded."""
        sizes = np.abs(self._table[:, 1:])
        starts = np.append(0.0, self.starts)
        ends = np.append(starts[1:], self._lr_max)
        with np.errstate(over="ignore"):  # to infinity, beyond learning rates of 1e150
            ending = (sizes[:, 2] * ends + sizes[:, 1]) * ends + sizes[:, 0]
        before = np.maximum.accumulate(ending)
        piece = np.maximum(np.searchsorted(starts, lrs) - 1, 0)
        size = (sizes[piece, 2] * lrs + sizes[piece, 1]) * lrs + sizes[piece, 0]
        largest: Array = np.maximum(size, np.where(piece > 0, before[piece - 1], 0.0))
        return 4 * np.finfo(float).eps * largest

    def evaluate(self, lrs: Array) -> None:
        """Put the losses into the place of the learning rates (any,). Raises: ValueError for one that is
        not in [0, lr_max]."""
        parts = shares(max(1, min(threads(), len(lrs) // _EVALUATED_AT_ONCE)), len(lrs))

        def work(part: int) -> None:
            lrs_of_part = lrs[parts[part].start : parts[part].stop]
            done = kernels.evaluate(self._table, self._lr_max, lrs_of_part)
            if done < len(lrs_of_part):
                check_within(lrs_of_part[done:], self._lr_max)

        in_threads(work, len(parts))

    def lowest(self) -> tuple[float, float, bool, float]:
        """(lr, loss, attained) of the lowest loss in (0, lr_max]; and by how much another one may be
        lower, rounding aside."""
        return *kernels.lowest(self._table, self._lr_max), 0.0

    def below(self, level: float) -> Array:
        """(I, 3): both ends of every interval of (0, lr_max] where the loss is below a level, and the
        lowest loss in it."""
        return kernels.below(self._table, self._lr_max, level)


def pieces(network: Network, links: Links, batch: CurveInputs, form: ExactForm, lr_max: float) -> Pieces:
    """The mean over the batch of squared, or of absolute, errors."""
    follow = _absolute if form is ExactForm.ABSOLUTE else _squared
    all_blocks, parts = blocks_by_thread(links, len(batch))
    largest = all_blocks[0].stop
    room = _EVENTS_AN_EXAMPLE * (len(batch) // len(parts) + largest)
    space = scratch.array("events", len(parts) * room, 4)
    at_start = np.zeros((len(all_blocks), 3))

    def work(part: int) -> tuple[int, Array]:
        follower = Follower(network, links, batch, largest)
        count, events = 0, space[part * room : (part + 1) * room]
        if part == 0:
            count = 1  # that of t = 0 is filled in at the end
        for number in parts[part]:
            count, events = follow(follower, batch, all_blocks[number], at_start[number], count, events)
        return count, events

    with one_blas_thread():
        events = _together(space, in_threads(work, len(parts)))
    events.view(np.uint64)[0, 0] = 0
    events[0, 1:] = at_start.sum(axis=0)
    in_place = len(events) > _ADDED_UP_APART
    table = events if in_place else np.empty(events.shape)
    return Pieces(table[: kernels.add_up(events, lr_max, table, in_place)], lr_max)


def _squared(
    follower: Follower, batch: CurveInputs, block: slice, at_start: Array, count: int, events: Array
) -> tuple[int, Array]:
    """Append a block's events to those of the blocks before. at_start: (3,), the coefficients at t = 0,
    to which the block's are added."""
    size = block.stop - block.start
    coefficients, counts = scratch.array("at_start", size, 3), np.empty(size, np.int64)
    count, events = follower.follow(block, True, coefficients, counts, count, events)
    at_start += coefficients.sum(axis=0)
    return count, events


def _absolute(
    follower: Follower, batch: CurveInputs, block: slice, at_start: Array, count: int, events: Array
) -> tuple[int, Array]:
    """As `_squared`; here what holds at t = 0 is among the events."""
    from srste.curve.engine.kernels.absolute import absolute_error  # compiled only where it is wanted

    examples = batch.examples(block)
    rows, width = examples.targets.shape
    first_outputs, counts = np.empty((rows, 2 * width)), np.empty(rows, np.int64)
    outputs = scratch.array("outputs", _EVENTS_AN_EXAMPLE * rows, 1 + 2 * width)
    _, outputs = follower.follow(block, False, first_outputs, counts, 0, outputs)
    return absolute_error(first_outputs, counts, outputs, examples, count, events)


def _together(space: Array, parts: list[tuple[int, Array]]) -> Array:
    """The events of all parts in one array, in order; in the space that was set aside if they fit."""
    if any(not np.may_share_memory(space, events) for _, events in parts):
        return np.concatenate([events[:count] for count, events in parts])
    place = parts[0][0]
    for count, events in parts[1:]:
        space[place : place + count] = events[:count]
        place += count
    return space[:place]
