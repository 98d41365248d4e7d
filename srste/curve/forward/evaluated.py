"""The loss along a direction by real forward passes, for models whose loss curve has no exact form.

On a GPU many learning rates go through the model at once (``torch.vmap``), because there the time of a
small pass is that of its launches. On a CPU, and where vmap cannot run the model, it is one after the
other, with the same bits for the same learning rate. What that costs, by `benchmarks/evaluated.py`, one
thread of a busy CPU (us a learning rate, and how many times as fast it is with so many at a time):

    model                     batch        us each       4      16      64     256
    sign MLP, width 32           16             74    1.20    4.15    8.65    6.33
    sign MLP, width 32           64             82    1.12    3.19    4.31    2.63
    sign MLP, width 32          256            113    1.17    2.10    2.10    1.19
    sign MLP, width 32         1024            221    1.05    1.14    0.74    0.42
    sign MLP, width 128         256            393    1.06    1.17    0.98    0.52
    ReLU MLP, width 32         1024            138    0.89    1.29    1.04    0.24
    ReLU MLP, width 512         256           8642    0.96    1.01    0.57    0.55
    conv, batch norm             64           1398    0.67    0.74    0.23    0.19

So batching pays on a CPU only where 50,000 learning rates are a matter of seconds anyway.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from srste.curve.forward.stepped_model import SteppedModel
from srste.curve.loss_curve import LossCurve
from srste.curve.network.base import as_lrs, check_lr_max, check_within
from srste.errors import first_line
from srste.losses import LossFunction

if TYPE_CHECKING:
    from jaxtyping import Float64

log = logging.getLogger(__name__)

Progress = Callable[[int], AbstractContextManager[Callable[[int], None]]]

TIMED_FOR = 0.2
"""Seconds."""

LRS_ON_GPU = 1024
"""Learning rates that go through the model together on a GPU, fewer where they have no room."""

EXAMPLES_ON_CPU = 1024
"""Examples that do on a CPU: more are no faster, and too much memory ends the process."""


class EvaluatedCurve(LossCurve):
    """The loss of a batch as a function of the learning rate, by a forward pass of the model for each.

    Args:
        model: as :class:`srste.curve.line.Line` says, in training or in eval mode. It is copied, and so
            left exactly as it was: parameters, buffers (running statistics, counters), modes and
            PyTorch's random state.
        direction: a tensor for every name in ``model.named_parameters()``, of the parameter's shape;
            brought to its device and dtype.
        inputs: (batch, ...); brought to the model's device, and to its dtype if of a floating one.
        targets: (batch, ...), of any dtype; brought to the model's device.
        lr_max: the largest learning rate, > 0.
        loss: (outputs, targets) to a scalar tensor, the mean over the batch. It gets the outputs in
            float64, and so the targets where they are of a floating dtype.
        seed: where the random numbers of every pass start: a layer that draws, as dropout does in
            training mode, draws the same at every learning rate. With draws of its own each learning
            rate would have a network of its own, and the curve would be mostly noise.
        lrs_at_a_time: >= 1; 1 for one after the other. None: one on a CPU, 1,024 on a GPU.
        examples_at_a_time: >= 1. None: 1,024 on a CPU, all on a GPU. A model that couples the examples
            of a batch gets all of them.
        why_not: why there is no exact curve.
        progress: called with how many learning rates are to be evaluated, it gives a context within
            which its value is called with how many have been since the last call.

    Raises: ValueError for an argument out of range, shapes that do not fit, an empty batch, or a value
        of inputs or targets that is not finite. Whatever
        the model raises. torch.OutOfMemoryError where not even the smallest pass has room.

    Properties: deterministic. One at a time, a learning rate has the same bits whatever else is asked
        for, and equal networks have equal losses. Batched, the last bits depend on how many go together
        and on a learning rate's place among them: up to 3e-7 relative in float32 on a CPU, so that a
        direction of zeros was seen to have four losses, and ties are not to be relied on. Between
        ways to cut a batch they differ as much; more only where rounding decides a sign. An error for
        want of memory changes the way and so, from there on, those bits.
    """

    exact = False

    def __init__(
        self,
        model: nn.Module,
        direction: Mapping[str, Tensor],
        inputs: Tensor,
        targets: Tensor,
        lr_max: float,
        loss: LossFunction,
        *,
        seed: int = 0,
        why_not: str = "",
        progress: Progress | None = None,
        lrs_at_a_time: int | None = None,
        examples_at_a_time: int | None = None,
    ) -> None:
        check_lr_max(lr_max)
        for name, number in (("lrs", lrs_at_a_time), ("examples", examples_at_a_time)):
            if number is not None and number < 1:
                raise ValueError(f"{name}_at_a_time={number} must be >= 1")
        for name, tensor in (("inputs", inputs), ("targets", targets)):
            if not tensor.isfinite().all():
                raise ValueError(f"{name} holds a value that is not finite")
        self.lr_max = float(lr_max)
        self.why_not = why_not
        self._progress = progress or _no_progress
        self._model = SteppedModel(model, direction, inputs, targets, loss, seed)
        on_gpu = self._model.device.type == "cuda"
        self._examples = self._examples_at_a_time(examples_at_a_time, on_gpu)
        self._lrs = lrs_at_a_time or (LRS_ON_GPU if on_gpu else 1)
        if self._examples < self._model.examples:
            self._lrs = 1
        self._timed: dict[int, float] = {}
        if self._lrs > 1:
            self._check_batching()
        self.pre_loss = float(self(0.0))

    def __call__(self, lrs: ArrayLike) -> Float64[np.ndarray, "*lrs"]:
        """See :class:`LossCurve`; inf or nan where the model's losses are."""
        losses = as_lrs(lrs, self.lr_max)
        flat = losses.reshape(-1)
        check_within(flat, self.lr_max)
        with self._progress(len(flat)) as advance:
            done = 0
            while done < len(flat):
                part = flat[done : done + self._lrs]
                part[:] = self._some(part.tolist())
                done += len(part)
                advance(len(part))
        return losses

    def seconds(self, count: int) -> float:
        """About how long ``count`` learning rates will take: from timing those that go through the model
        together, a fifth of a second long and at least once."""
        if count < 0:
            raise ValueError(f"count={count} must be >= 0")
        together = min(count, self._lrs)
        if together not in self._timed:
            self._timed[together] = self._seconds_together(together) / together if together else 0.0
        return self._timed[together] * count

    def _seconds_together(self, count: int) -> float:
        lrs = np.linspace(0, self.lr_max, count).tolist()
        self._some(lrs)  # a first pass of that many also sets things up
        passes, started = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - started) < TIMED_FOR or not passes:
            self._some(lrs)
            passes += 1
        return elapsed / passes

    def _some(self, lrs: list[float]) -> list[float]:
        """The losses at learning rates that go through the model together, fewer if need be."""
        while True:
            width = self._lrs
            parts = [lrs[i : i + width] for i in range(0, len(lrs), width)]
            try:
                return [loss for part in parts for loss in self._pass(part)]
            except Exception as error:
                if not _is_out_of_memory(error):
                    if width == 1:
                        raise
                    self._one_at_a_time(first_line(error))
                    continue
                why = first_line(error)
            # Outside the except clause, which keeps alive what the failed pass held.
            self._use_less_memory(why)

    def _pass(self, lrs: list[float]) -> list[float]:
        if self._lrs > 1:
            return self._model.at_once(lrs)
        return [self._model.at(lr, self._examples) for lr in lrs]

    def _use_less_memory(self, why: str) -> None:
        if self._model.device.type == "cuda":
            torch.cuda.empty_cache()
        if self._lrs > 1:
            self._lrs //= 2
            log.warning("Out of memory (%s): %d learning rates at a time from here on", why, self._lrs)
            return
        reason = self._model.needs_all_examples
        if reason is not None:
            raise torch.cuda.OutOfMemoryError(
                f"{why}. The batch of {self._model.examples} cannot go through the model in parts: "
                f"{reason}"
            )
        if self._examples == 1:
            raise torch.cuda.OutOfMemoryError(f"{why}. This was one example at one learning rate")
        self._examples = (self._examples + 1) // 2
        log.warning("Out of memory (%s): %d examples at a time from here on", why, self._examples)

    def _one_at_a_time(self, why: str) -> None:
        self._lrs = 1
        _announce(f"Learning rates go through the model one at a time: torch.vmap cannot run it ({why})")

    def _check_batching(self) -> None:
        """That batched passes give what plain ones give. They do not where a module keeps weights where
        vmap does not see them (LSTM), or draws other numbers in a batch (dropout on a GPU)."""
        lrs, together = [self.lr_max / 64, self.lr_max / 4, self.lr_max], self._lrs
        self._lrs = 1
        plain = self._some(lrs)
        if self._examples < self._model.examples:
            return
        self._lrs = together
        batched = self._some(lrs)
        if self._lrs > 1 and not np.allclose(batched, plain, rtol=1e-2, atol=0, equal_nan=True):
            self._one_at_a_time("it gives other losses")

    def _examples_at_a_time(self, wanted: int | None, on_gpu: bool) -> int:
        model = self._model
        examples = min(wanted or (model.examples if on_gpu else EXAMPLES_ON_CPU), model.examples)
        if examples < model.examples and (reason := model.needs_all_examples) is not None:
            if wanted is not None:
                _announce(f"All {model.examples} examples go through the model together: {reason}")
            return model.examples
        return examples


def _no_progress(_: int) -> AbstractContextManager[Callable[[int], None]]:
    """Progress that is not shown."""
    return nullcontext(lambda _: None)


def _is_out_of_memory(error: Exception) -> bool:
    # On a CPU PyTorch has no class of its own for it.
    return isinstance(error, torch.cuda.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
    )


_announced: set[str] = set()


def _announce(message: str) -> None:
    """Warns of it once in a process: every study of a launch has a curve, mostly of the same model."""
    if message not in _announced:
        _announced.add(message)
        log.warning(message)
