"""Control: a random direction at the angle at which another estimator differs from STE."""

from typing import Literal

from torch import nn

from srste.estimators.angles import angle_between, turned
from srste.estimators.base import Aggregation, Cost, Direction, Normalisation
from srste.estimators.straight_through import StraightThrough
from srste.networks.rounding import Quantiser, Sign
from srste.networks.surrogates import Surrogate
from srste.problem.task import Batch, Task


class SameAngle:
    """As far from STE as the paired sr-STE direction is, but towards nowhere in particular.

    Direction: |g| (cos(a) g/|g| + sin(a) u) per parameter tensor, with g the STE direction, a the
        angle between g and the direction of the paired estimator on the same batch with the same
        ``samples``, and u drawn uniformly from the unit vectors orthogonal to g

    An estimator that beats it has found something; one that merely ties has moved away from STE by
    that much. Each ``samples`` is another pair and another draw.

    Args:
        quantiser, draws: the paired estimator's, see `StraightThrough`; it draws what that one draws.
        surrogate, aggregation, normalisation: both estimators'.
    Raises: ValueError as `StraightThrough`.
    Properties: stochastic; ``samples`` + 1 forward-backward passes. A tensor in which one of the two
        directions is zero is left as STE has it. With the normalisation `row` the tensors keep their
        lengths, and not each unit its own.
    """

    stochastic = True

    def __init__(
        self,
        quantiser: Quantiser,
        surrogate: Surrogate,
        aggregation: Aggregation,
        normalisation: Normalisation,
        draws: Literal["nested", "independent"] = "nested",
    ) -> None:
        self.ste = StraightThrough(Sign(), surrogate, aggregation, normalisation)
        self.paired = StraightThrough(quantiser, surrogate, aggregation, normalisation, draws)

    def cost(self, model: nn.Module, samples: int) -> Cost:
        """See :func:`srste.estimators.base.cost_of`."""
        return Cost(samples + 1, samples + 1)

    def direction(self, task: Task, batch: Batch, samples: int) -> Direction:
        """See :class:`srste.estimators.base.Estimator`."""
        generator = task.stream("same angle", "batch", batch.index, "of", samples)
        ste = self.ste.direction(task, batch, 1)
        paired = self.paired.direction(task, batch, samples)
        return {
            name: turned(g, angle_between(g, paired[name]) or 0.0, generator) for name, g in ste.items()
        }
