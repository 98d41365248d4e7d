"""Pretrained networks, cached by what determines them and shared by all jobs."""

from __future__ import annotations

import hashlib
import io
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import nn

from srste.problem.pretraining import Advance, Pretraining, still_falling
from srste.problem.problem import Problem
from srste.store.files import remove_temporaries, write_atomically

log = logging.getLogger(__name__)


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
