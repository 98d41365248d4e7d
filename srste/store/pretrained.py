"""The cache of pretrained networks, by key, shared by all jobs."""

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
from srste.store.files import checksum, remove_temporaries, write_atomically

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pretrained:
    """A pretraining's result. losses: before each step. cached: whether it is from the cache."""

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
    """Train ``problem.model``, or load the weights that another job has trained.

    Of several processes one trains and the others wait for it. A damaged cache file is recognised
    by its checksum and replaced.

    Args:
        key: hexadecimal, of everything that determines the weights.
        folder: of the cache; made if missing.
        progress: given the number of steps, returns a callback for after each.
    """
    if not pretraining.steps:
        return Pretrained(key, [], False)
    path = folder / f"{key}.pt"
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_suffix(".lock"))
    try:
        locked = lock.acquire(timeout=0)
    except Timeout:
        log.info("Another process is pretraining this network; waiting for it")
        locked = lock.acquire()
    with locked:
        remove_temporaries(folder, targets=(path.name, path.with_suffix(".json").name))
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
    summary = {"sha256": checksum(weights), "losses": losses}
    write_atomically(path, weights)
    write_atomically(path.with_suffix(".json"), json.dumps(summary).encode())


def _load(model: nn.Module, path: Path) -> list[float] | None:
    """Load the cached weights into ``model`` and return the losses; None if there are none, or they
    are damaged, which is logged."""
    try:
        weights = path.read_bytes()
        summary = json.loads(path.with_suffix(".json").read_bytes())
        if checksum(weights) != summary["sha256"]:
            raise ValueError("its checksum does not match")
        losses = [float(loss) for loss in summary["losses"]]
        model.load_state_dict(torch.load(io.BytesIO(weights), weights_only=True))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, UnpicklingError) as error:
        log.warning("Cached pretraining %s is damaged (%s); training again", path.name, error)
        return None
    return losses
