"""The straight-through estimator, deterministic (STE) or with stochastic rounding (sr-STE)."""

from collections.abc import Hashable
from typing import Literal

from srste.estimators.base import Aggregation, Direction, Normalisation, gradient_of
from srste.networks import rounding, surrogates
from srste.networks.activations import estimating
from srste.networks.rounding import Quantiser
from srste.networks.surrogates import Surrogate
from srste.problem.passes import Passes
from srste.problem.task import Batch, Task, buffers_kept


class StraightThrough:
    """Quantise forward, pretend a surrogate derivative backward, average over samples.

    Forward:   b = quantiser(a) at every binary activation; loss = mean (y_hat - y)^2
    Backward:  db/da := surrogate(a)
    Direction: normalisation(aggregation(gradient of sample 1, ..., gradient of sample N))

    STE is the sign quantiser, sr-STE stochastic rounding: one line of YAML. Each gradient is
    of one pass; nothing accumulates from one call to the next.

    Args:
        quantiser, surrogate: see `srste.networks.rounding` and `srste.networks.surrogates`.
        aggregation, normalisation: see `srste.estimators.base`.
        draws: "nested": sample i of a batch is the same draw for every N, so that N + 1 samples are
            the first N and one more; "independent": every N draws anew.
    Raises: ValueError when ``draws`` is neither; by `direction`, naming the parameters that no gradient
        reaches.
    Properties: deterministic with the sign quantiser, which then ignores ``samples``; biased for the
        true gradient (zero almost everywhere); N forward-backward passes.
    References: Bengio et al. (2013), section 4; Courbariaux et al. (2016), section 1.3.
    """

    def __init__(
        self,
        quantiser: Quantiser,
        surrogate: Surrogate,
        aggregation: Aggregation,
        normalisation: Normalisation,
        draws: Literal["nested", "independent"] = "nested",
    ) -> None:
        if draws not in ("nested", "independent"):
            raise ValueError(f"`StraightThrough(draws={draws})` must be one of nested, independent")
        self.quantiser = quantiser
        self.surrogate = surrogate
        self.aggregation = aggregation
        self.normalisation = normalisation
        self.draws = draws
        for name in ("quantiser", "surrogate", "aggregation", "normalisation"):
            if not callable(axis := getattr(self, name)):
                raise ValueError(f"`StraightThrough({name}={axis})` must be one of its group's choices")

    @property
    def stochastic(self) -> bool:
        return self.quantiser.stochastic

    def direction(self, task: Task, batch: Batch, samples: int) -> Direction:
        """See :class:`srste.estimators.base.Estimator`."""
        passes = [
            self._gradient(task, batch, samples, sample)
            for sample in range(1, samples + 1 if self.stochastic else 2)
        ]
        pooled = {name: self.aggregation([g[name] for g in passes]) for name in passes[0]}
        return self.normalisation(pooled)

    def _gradient(self, task: Task, batch: Batch, samples: int, sample: int) -> Direction:
        of_all = () if self.draws == "nested" else ("of", samples)
        names = ("rounding", "batch", batch.index, "sample", sample, *of_all)
        return gradient_through(self.quantiser, self.surrogate, task, batch, *names)


def gradient_through(
    quantiser: Quantiser, surrogate: Surrogate, task: Task, batch: Batch, *names: str | int
) -> Direction:
    """The gradient by one forward-backward pass with these in every binary activation, which draw from
    the task's stream of that name. A task with an attribute ``passes`` keeps it for the next call, see
    `srste.problem.passes`; a model or loss that draws from a generator other than PyTorch's must not be
    such a task's."""
    model = task.model

    def made() -> Direction:
        with buffers_kept(model), estimating(model, quantiser, surrogate, task.stream(*names)):
            return gradient_of(task.loss(model(batch.inputs), batch.targets), model)

    passes: Passes | None = getattr(task, "passes", None)
    axes = _identity(quantiser), _identity(surrogate)
    if passes is None or None in axes:
        return made()
    # A deterministic pass is the same whatever the stream is.
    drawn = names if quantiser.stochastic else None
    return passes.get(model, batch, (axes, id(task.loss), drawn), made)


def _identity(axis: Quantiser | Surrogate) -> Hashable | None:
    """Return what tells srste's quantisers and surrogates from each other: their class and arguments.
    None of a user's, which may be anything, also something that changes from pass to pass."""
    kind = type(axis)
    if kind.__module__ not in (rounding.__name__, surrogates.__name__):
        return None
    return kind, tuple(sorted(vars(axis).items()))
