"""The straight-through estimator, deterministic (STE) or with stochastic rounding (sr-STE)."""

from typing import Literal

from torch import nn

from srste.estimators.base import DRAWS, Aggregation, Cost, Direction, Normalisation, gradient_of
from srste.networks.arguments import one_of
from srste.networks.draws import DrawSurrogate
from srste.networks.estimating import AnySurrogate, estimating
from srste.networks.rounding import Quantiser, StochasticUnits
from srste.networks.surrogates import matched_units
from srste.problem.passes import identity_of, kept
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
        surrogate: AnySurrogate,
        aggregation: Aggregation,
        normalisation: Normalisation,
        draws: Literal["nested", "independent"] = "nested",
    ) -> None:
        self.quantiser = quantiser
        self.surrogate = surrogate
        self.aggregation = aggregation
        self.normalisation = normalisation
        self.draws = one_of(self, "draws", draws, DRAWS)
        for name in ("quantiser", "surrogate", "aggregation", "normalisation"):
            if not callable(axis := getattr(self, name)):
                raise ValueError(f"`StraightThrough({name}={axis})` must be one of its group's choices")

        if isinstance(surrogate, DrawSurrogate) and not isinstance(quantiser, StochasticUnits):
            raise ValueError(
                f"`StraightThrough(quantiser={type(quantiser).__name__})` must be one of logistic, "
                f"hard_sigmoid, triangular, stochastic_rounding with the surrogate "
                f"{type(surrogate).__name__}, which needs probabilities"
            )

    @property
    def units(self) -> StochasticUnits | None:
        """The units of the stochastic network whose gradient it estimates: those of the quantiser, or
        with the sign those that the surrogate belongs to; None without any."""
        if isinstance(self.quantiser, StochasticUnits):
            return self.quantiser
        return matched_units(self.surrogate)

    @property
    def stochastic(self) -> bool:
        return self.quantiser.stochastic

    def cost(self, model: nn.Module, samples: int) -> Cost:
        """See :func:`srste.estimators.base.cost_of`."""
        passes = samples if self.stochastic else 1
        return Cost(passes, passes)

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
    quantiser: Quantiser, surrogate: AnySurrogate, task: Task, batch: Batch, *names: str | int
) -> Direction:
    """The gradient by one forward-backward pass with these in every binary activation, which draw from
    the task's stream of that name. A task with an attribute ``passes`` keeps it for the next call, see
    `srste.problem.passes`; a model or loss that draws from a generator other than PyTorch's must not be
    such a task's."""
    model = task.model

    def made() -> Direction:
        with buffers_kept(model), estimating(model, quantiser, surrogate, task.stream(*names)):
            return gradient_of(task.loss(model(batch.inputs), batch.targets), model)

    axes = identity_of(quantiser), identity_of(surrogate)
    # A deterministic pass is the same whatever the stream is.
    drawn = names if quantiser.stochastic else None
    return kept(task, batch, None if None in axes else (axes, drawn), made)
