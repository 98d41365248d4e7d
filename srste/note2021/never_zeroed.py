"""Gradients that are never zeroed, as the logs of the 2021 note suggest."""

from typing import Literal

import torch

from srste.estimators.base import Direction, Normalisation
from srste.estimators.straight_through import gradient_through
from srste.networks.rounding import Quantiser, Sign
from srste.networks.surrogates import Surrogate
from srste.problem.task import Batch, Task


class NeverZeroed:
    """Every pass adds to the gradient of all passes before it, of earlier batches too; and after
    the first scan with rounding the network has plain sign.

    Scans:     per batch STE, then N = 1, 2, ..., most, of 1, 1, 2, ..., most passes
    Direction: normalisation(sum of the gradients of all passes up to the scan's last one)

    A mistake, kept so that the alarms of `srste.analysis.alarms` can be tested on it: the direction
    moves from the mean of all earlier batches towards this batch's STE gradient with a weight of 1
    + N(N+1)/2 passes, so that a larger N looks better than STE by having more passes.

    Args:
        quantiser: of the one scan that rounds (batch 1, N = 1).
        surrogate, normalisation: see `srste.networks.surrogates` and `srste.estimators.base`.
        scan: whose direction it is: "sr_ste" at ``samples``, or "ste", the scan before them.
        most: the largest N that every batch goes through, >= 1.
    Raises: ValueError that names the argument; and where ``samples`` is above ``most``.
    Properties: estimates nothing; as many passes as batches up to this one.
    """

    def __init__(
        self,
        quantiser: Quantiser,
        surrogate: Surrogate,
        normalisation: Normalisation,
        scan: Literal["ste", "sr_ste"] = "sr_ste",
        most: int = 10,
    ) -> None:
        if scan not in ("ste", "sr_ste"):
            raise ValueError(f"`NeverZeroed(scan={scan})` must be one of ste, sr_ste")
        if isinstance(most, bool) or not isinstance(most, int) or most < 1:
            raise ValueError(f"`NeverZeroed(most={most})` must be a whole number >= 1")
        self.quantiser = quantiser
        self.surrogate = surrogate
        self.normalisation = normalisation
        self.stochastic = scan == "sr_ste"
        self.most = most

    def direction(self, task: Task, batch: Batch, samples: int) -> Direction:
        """See :class:`srste.estimators.base.Estimator`."""
        if samples > self.most:
            raise ValueError(f"samples={samples} must be at most most={self.most}")
        total = {name: torch.zeros_like(p) for name, p in task.model.named_parameters()}
        for index in range(1, batch.index + 1):
            this = batch if index == batch.index else task.batch(index)
            last = samples if index == batch.index else self.most
            drawn = last * (last + 1) // 2 if self.stochastic or index < batch.index else 0
            rounds = index == 1 and drawn > 0
            for name, g in self._gradient(task, this, Sign()).items():
                total[name].add_(g, alpha=1 + drawn - rounds)
            if rounds:
                for name, g in self._gradient(task, this, self.quantiser).items():
                    total[name].add_(g)
        return self.normalisation(total)

    def _gradient(self, task: Task, batch: Batch, quantiser: Quantiser) -> Direction:
        names = ("rounding", "batch", batch.index, "sample", 1)
        return gradient_through(quantiser, self.surrogate, task, batch, *names)
