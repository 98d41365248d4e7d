"""Zeroth-order estimators: differences of the loss itself along random directions."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call

from srste.estimators.base import DRAWS, Cost, Direction, Normalisation, mean
from srste.estimators.straight_through import gradient_through
from srste.networks.arguments import fraction, integer, one_of, positive
from srste.networks.rounding import Sign
from srste.networks.surrogates import Surrogate
from srste.problem.passes import identity_of, kept
from srste.problem.task import Batch, Task, buffers_kept
from srste.randomness import Stream, normal, uniform


def loss_at(task: Task, batch: Batch, offset: Mapping[str, Tensor]) -> float:
    """The loss on the batch with these numbers added to the weights, which stay as they are."""
    model = task.model
    moved = {name: p.detach() + offset[name] for name, p in model.named_parameters() if name in offset}
    with torch.no_grad(), buffers_kept(model):
        return float(task.loss(functional_call(model, moved, (batch.inputs,)), batch.targets))


class Smoothed(ABC):
    """What they share: pairs of losses at w + e v and w - e v, and the slopes between them along v.

    Direction: normalisation(mean over N * pairs directions v of (L(w + e v) - L(w - e v)) / (2 e) v)

    Args: normalisation: see `srste.estimators.base`. radius: e, > 0. pairs: a sample, >= 1. draws:
        "nested" or "independent", see `srste.estimators.straight_through.StraightThrough`.
    Raises: ValueError when an argument is out of range.
    """

    stochastic = True

    def __init__(
        self,
        normalisation: Normalisation,
        radius: float,
        pairs: int,
        draws: Literal["nested", "independent"] = "nested",
    ) -> None:
        self.radius = positive(self, "radius", radius)
        self.pairs = integer(self, "pairs", pairs)
        self._normalisation, self._draws = normalisation, one_of(self, "draws", draws, DRAWS)

    def cost(self, model: nn.Module, samples: int) -> Cost:
        """See :func:`srste.estimators.base.cost_of`."""
        return Cost(2 * samples * self.pairs, 0)

    def direction(self, task: Task, batch: Batch, samples: int) -> Direction:
        """See :class:`srste.estimators.base.Estimator`."""
        identity = identity_of(self, but=("_normalisation",))
        guide = self._guide(task, batch)

        def sample(number: int) -> Direction:
            names = self._stream(batch, number, samples)
            key = identity and (identity, names)
            return kept(task, batch, key, lambda: self._sample(task, batch, guide, task.stream(*names)))

        pooled = [sample(number) for number in range(1, samples + 1)]
        return self._normalisation({name: mean([g[name] for g in pooled]) for name in pooled[0]})

    def directions(self, task: Task, batch: Batch, samples: int) -> Iterator[Direction]:
        """The N * pairs random directions v that a direction of so many samples is made of, in order;
        zero for parameters that are not to move."""
        guide = self._guide(task, batch)
        still = {n: torch.zeros_like(p) for n, p in task.model.named_parameters() if not p.requires_grad}
        for number in range(1, samples + 1):
            for v in self._drawn(task, guide, task.stream(*self._stream(batch, number, samples))):
                yield {name: (v | still)[name] for name, _ in task.model.named_parameters()}

    def _stream(self, batch: Batch, number: int, samples: int) -> tuple[str | int, ...]:
        """Return the name of the stream of one of so many samples."""
        of_all = () if self._draws == "nested" else ("of", samples)
        return ("smoothing", "batch", batch.index, "sample", number, *of_all)

    def _drawn(self, task: Task, guide: Direction, generator: Stream) -> Iterator[dict[str, Tensor]]:
        """Draw the directions of one sample."""
        moving = {name: p for name, p in task.model.named_parameters() if p.requires_grad}
        for _ in range(self.pairs):
            yield self._along(moving, guide, generator)

    def _sample(self, task: Task, batch: Batch, guide: Direction, generator: Stream) -> Direction:
        """Return the mean over the pairs of one sample."""
        total = {name: torch.zeros_like(p) for name, p in task.model.named_parameters()}
        for v in self._drawn(task, guide, generator):
            up, down = (
                loss_at(task, batch, {name: sign * self.radius * t for name, t in v.items()})
                for sign in (1, -1)
            )
            for name, tensor in v.items():
                total[name] += (up - down) / (2 * self.radius * self.pairs) * tensor
        return total

    @abstractmethod
    def _along(
        self, moving: Mapping[str, nn.Parameter], guide: Direction, generator: Stream
    ) -> dict[str, Tensor]:
        """Draw a direction v, for the parameters that are to move."""

    def _guide(self, task: Task, batch: Batch) -> Direction:
        """Return what the directions of a batch lean towards, of length 1; nothing by default."""
        return {}


def _normals(moving: Mapping[str, nn.Parameter], generator: Stream) -> dict[str, Tensor]:
    return {n: normal(generator, tuple(p.shape), p.device).to(p.dtype) for n, p in moving.items()}


class NES(Smoothed):
    """Natural evolution strategies in antithetic pairs: the gradient of a loss smoothed by a Gaussian.

    Direction: normalisation(mean over N * pairs of (L(w + e z) - L(w - e z)) / (2 e) z), z standard
               normals

    Args: normalisation: see `srste.estimators.base`. radius: e, the standard deviation, > 0. pairs: a
        sample, >= 1. draws: see `StraightThrough`.
    Raises: ValueError when an argument is out of range.
    Properties: stochastic; unbiased for the gradient of the loss smoothed with that radius, of a
        variance that grows with the number of weights; 2 N pairs forward passes, none backward.
    References: Wierstra et al. (2014), "Natural evolution strategies"; Salimans et al. (2017),
        "Evolution strategies as a scalable alternative to reinforcement learning", for the pairs.
    """

    def _along(
        self, moving: Mapping[str, nn.Parameter], guide: Direction, generator: Stream
    ) -> dict[str, Tensor]:
        return _normals(moving, generator)


class SPSA(Smoothed):
    """Simultaneous perturbation: two losses along a vector of random signs.

    Direction: normalisation(mean over N * pairs of (L(w + e v) - L(w - e v)) / (2 e) v), v of -1 and +1

    Args: normalisation: see `srste.estimators.base`. radius: e, > 0. pairs: a sample, >= 1. draws: see
        `StraightThrough`.
    Raises: ValueError when an argument is out of range.
    Properties: stochastic; 2 N pairs forward passes, none backward.
    References: Spall (1992), "Multivariate stochastic approximation using a simultaneous perturbation
        gradient approximation".
    """

    def _along(
        self, moving: Mapping[str, nn.Parameter], guide: Direction, generator: Stream
    ) -> dict[str, Tensor]:
        draws = {n: uniform(generator, tuple(p.shape), p.device) for n, p in moving.items()}
        return {n: torch.where(u < 0.5, -1.0, 1.0).to(moving[n]) for n, u in draws.items()}


class _Guided(Smoothed):
    """What those share whose directions lean towards a surrogate gradient, of one pass."""

    def __init__(
        self,
        surrogate: Surrogate,
        normalisation: Normalisation,
        radius: float,
        pairs: int,
        draws: Literal["nested", "independent"] = "nested",
    ) -> None:
        super().__init__(normalisation, radius, pairs, draws)
        self._surrogate = surrogate

    def cost(self, model: nn.Module, samples: int) -> Cost:
        """See :func:`srste.estimators.base.cost_of`."""
        return Cost(2 * samples * self.pairs + 1, 1)

    def _guide(self, task: Task, batch: Batch) -> Direction:
        """The STE gradient, at length 1; zero where that is zero."""
        gradient = gradient_through(Sign(), self._surrogate, task, batch, "guide")
        norms = torch.stack([torch.linalg.vector_norm(g) for g in gradient.values()])
        length = torch.linalg.vector_norm(norms).clamp_min(1e-30)
        return {name: g / length for name, g in gradient.items()}


class GuidedES(_Guided):
    """Evolution strategies whose search leans towards the STE gradient.

    Direction: normalisation(mean over N * pairs of (L(w + e v) - L(w - e v)) / (2 e) v),
               v = sqrt(alpha/n) z + sqrt(1 - alpha) z' u, z of n and z' of one standard normals, u the
               STE gradient at length 1

    Args: surrogate, normalisation: STE's, see `StraightThrough`. radius: e, > 0. pairs: a sample, >= 1.
        alpha: in [0, 1], how far the search goes beyond the STE gradient; 1: in all n dimensions alike.
        draws: see `StraightThrough`.
    Raises: ValueError when an argument is out of range.
    Properties: stochastic; 2 N pairs forward passes, and one forward-backward pass.
    References: Maheswaranathan et al. (2019), "Guided evolutionary strategies: augmenting random search
        with surrogate gradients", with a subspace of one dimension.
    """

    def __init__(
        self,
        surrogate: Surrogate,
        normalisation: Normalisation,
        radius: float,
        pairs: int,
        alpha: float = 0.5,
        draws: Literal["nested", "independent"] = "nested",
    ) -> None:
        super().__init__(surrogate, normalisation, radius, pairs, draws)
        self.alpha = fraction(self, "alpha", alpha)

    def _along(
        self, moving: Mapping[str, nn.Parameter], guide: Direction, generator: Stream
    ) -> dict[str, Tensor]:
        size = sum(p.numel() for p in moving.values())
        along = float(generator.standard_normal()) * math.sqrt(1 - self.alpha)
        across = math.sqrt(self.alpha / size)
        normals = _normals(moving, generator)
        return {name: across * z + along * guide[name] for name, z in normals.items()}


class FOGZO(_Guided):
    """First-order-guided zeroth order: the loss tried along the STE gradient and a little beside it.

    Direction: normalisation(mean over N * pairs of (L(w + e v) - L(w - e v)) / (2 e) v),
               v = sqrt(beta) r u + sqrt(1 - beta) z, r = -1 or +1, u the STE gradient at length 1, z
               uniform numbers of variance 1

    Args: surrogate, normalisation: STE's, see `StraightThrough`. radius: e, > 0. pairs: a sample, >= 1.
        beta: in [0, 1]; 1 is the STE gradient, by the slope of the loss along it. draws: see
        `StraightThrough`.
    Raises: ValueError when an argument is out of range.
    Properties: stochastic; 2 N pairs forward passes, and one forward-backward pass.
    References: Yang and Aamodt (2025), "Improving the straight-through estimator with zeroth-order
        information", with uniform numbers, as for the clipped derivative.
    """

    def __init__(
        self,
        surrogate: Surrogate,
        normalisation: Normalisation,
        radius: float,
        pairs: int,
        beta: float = 0.999,
        draws: Literal["nested", "independent"] = "nested",
    ) -> None:
        super().__init__(surrogate, normalisation, radius, pairs, draws)
        self.beta = fraction(self, "beta", beta)

    def _along(
        self, moving: Mapping[str, nn.Parameter], guide: Direction, generator: Stream
    ) -> dict[str, Tensor]:
        along = math.sqrt(self.beta) * (1 if generator.random() < 0.5 else -1)
        across = math.sqrt(3 * (1 - self.beta))  # a uniform number on [-1, 1] has variance 1/3
        draws = {n: uniform(generator, tuple(p.shape), p.device) for n, p in moving.items()}
        return {n: along * guide[n] + across * (2 * u - 1).to(moving[n]) for n, u in draws.items()}
