"""Pretraining of the student, cached by what determines it and shared by all jobs."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Protocol

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import nn

from srste.binarize import Clipped, Sign, estimating
from srste.files import remove_temporaries, write_atomically
from srste.problem import Problem

log = logging.getLogger(__name__)

Weights = dict[str, torch.Tensor]
Advance = Callable[[int], None]


class Pretraining(Protocol):
    """Changes ``problem.model`` in place. steps: how many; 0 leaves the model raw."""

    steps: int

    def train(self, problem: Problem, advance: Advance) -> list[float]: ...


class NoPretraining:
    """The raw network: nothing is trained."""

    steps = 0

    def train(self, problem: Problem, advance: Advance) -> list[float]:
        """Leaves the model as it is and returns no losses."""
        return []


class Adam:
    """Adam with straight-through gradients (sign, clipped), on a fresh batch a step.

    Args: steps: >= 1. batch_size: examples a step, >= 1. lr: Adam's, > 0, at most 1e30.
    Raises: ValueError: `Adam(steps=...)` must be an integer >= 1, and so for the others.
    References: Kingma and Ba (2015), algorithm 1; Courbariaux et al. (2016), equation 4.
    """

    def __init__(self, steps: int = 500, batch_size: int = 16_000, lr: float = 1e-3) -> None:
        for name, value in (("steps", steps), ("batch_size", batch_size)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"`Adam({name}={value})` must be an integer >= 1")
        if not 0 < lr <= 1e30:  # beyond, the step does not fit into float32
            raise ValueError(f"`Adam(lr={lr})` must be > 0 and at most 1e30")
        self.steps = steps
        self.batch_size = batch_size
        self.lr = lr

    def train(self, problem: Problem, advance: Advance) -> list[float]:
        """Trains ``problem.model``; ``advance(1)`` after each step. Returns the loss before each."""
        model, generator = problem.model, problem.stream("pretraining")
        optimiser = torch.optim.Adam(model.parameters(), lr=self.lr)
        losses = []
        for _ in range(self.steps):
            inputs, targets = problem.draw(generator, self.batch_size)
            with estimating(model, Sign(), Clipped(), generator):
                loss = problem.loss(model(inputs), targets)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            losses.append(loss.item())
            advance(1)
        optimiser.zero_grad()
        return losses


def still_falling(losses: list[float]) -> bool:
    """Whether the loss was still falling at the end: more than 1 % from the tenth before last to the
    last tenth of the steps, and beyond two standard errors of that difference."""
    tenth = len(losses) // 10
    if tenth < 2:
        return False
    before, last = np.array(losses[-2 * tenth : -tenth]), np.array(losses[-tenth:])
    error = math.sqrt((before.var(ddof=1) + last.var(ddof=1)) / tenth)
    fall = float(before.mean() - last.mean())
    return fall > 2 * error and fall > 0.01 * float(before.mean())


@dataclass(frozen=True)
class Pretrained:
    """What pretraining left. key: of what determines it; losses: before each step; cached: reused."""

    key: str
    losses: list[float]
    cached: bool


def pretrained(
    problem: Problem,
    pretraining: Pretraining,
    key: str,
    folder: Path,
    progress: Callable[[int], Advance],
) -> Pretrained:
    """Trains ``problem.model``, or loads what another job has already trained.

    Of several processes that start at once one trains and the others wait for it. A cache file that
    is damaged, cut short or of another key is told by its checksum and made again.

    Args:
        key: hexadecimal, of everything that determines the weights.
        folder: of the cache; made if missing.
        progress: given the number of steps, returns what is called after each.
    """
    if not pretraining.steps:
        return Pretrained(key, [], False)
    path = folder / f"{key}.pt"
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_suffix(".lock"))
    try:
        held = lock.acquire(timeout=0)
    except Timeout:
        log.info("Another process is pretraining this network; waiting for it")
        held = lock.acquire()
    with held:
        remove_temporaries(folder, of=(path.name, path.with_suffix(".json").name))
        if losses := _load(problem.model, path):
            return Pretrained(key, losses, True)
        losses = pretraining.train(problem, progress(pretraining.steps))
        _save(problem.model, losses, path)
    if still_falling(losses):
        log.warning(
            "The pretraining loss was still falling at the end (%.4f over the last tenth of %d "
            "steps): this network has not converged",
            np.mean(losses[-(len(losses) // 10) :]),
            len(losses),
        )
    return Pretrained(key, losses, False)


def _save(model: nn.Module, losses: list[float], path: Path) -> None:
    buffer = io.BytesIO()
    torch.save({name: tensor.cpu() for name, tensor in model.state_dict().items()}, buffer)
    weights = buffer.getvalue()
    note = {"sha256": hashlib.sha256(weights).hexdigest(), "losses": losses}
    write_atomically(path, weights)
    write_atomically(path.with_suffix(".json"), json.dumps(note).encode())


def _load(model: nn.Module, path: Path) -> list[float] | None:
    """Loads the cached weights into ``model``; None, and a line in the log, if they cannot serve."""
    try:
        weights = path.read_bytes()
        note = json.loads(path.with_suffix(".json").read_bytes())
        if hashlib.sha256(weights).hexdigest() != note["sha256"]:
            raise ValueError("its checksum does not match")
        losses = [float(loss) for loss in note["losses"]]
        model.load_state_dict(torch.load(io.BytesIO(weights), weights_only=True))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, UnpicklingError) as error:
        log.warning("Cached pretraining %s is damaged (%s); training again", path.name, error)
        return None
    return losses
