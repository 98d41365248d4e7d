"""Control: the direction opposite to STE's."""

from torch import nn

from srste.estimators.base import Aggregation, Cost, Direction, Normalisation
from srste.estimators.straight_through import StraightThrough
from srste.networks.rounding import Sign
from srste.networks.surrogates import Surrogate
from srste.problem.task import Batch, Task


class Negative:
    """Minus the STE direction: where STE has anything to say of descent, this one must do worse.

    Direction: -g, with g the STE direction

    Args: surrogate, aggregation, normalisation: STE's, see `StraightThrough`.
    Properties: deterministic; one forward-backward pass.
    """

    stochastic = False

    def __init__(
        self, surrogate: Surrogate, aggregation: Aggregation, normalisation: Normalisation
    ) -> None:
        self.ste = StraightThrough(Sign(), surrogate, aggregation, normalisation)

    def cost(self, model: nn.Module, samples: int) -> Cost:
        """See :func:`srste.estimators.base.cost_of`."""
        return Cost(1, 1)

    def direction(self, task: Task, batch: Batch, samples: int) -> Direction:
        """See :class:`srste.estimators.base.Estimator`."""
        return {name: -g for name, g in self.ste.direction(task, batch, samples).items()}
