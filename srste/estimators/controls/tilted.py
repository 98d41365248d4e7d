"""Control: the STE direction, tilted at random."""

from torch import nn

from srste.estimators.angles import turned
from srste.estimators.base import Aggregation, Cost, Direction, Normalisation
from srste.estimators.straight_through import StraightThrough
from srste.networks.rounding import Sign
from srste.networks.surrogates import Surrogate
from srste.problem.task import Batch, Task


class Tilted:
    """The STE direction turned by a given angle, towards nowhere in particular.

    Direction: |g| (cos(angle) g/|g| + sin(angle) u) per parameter tensor, with g the STE direction
        and u drawn uniformly from the unit vectors orthogonal to it

    What the estimators' random differences from STE are worth by themselves. Each ``samples`` is
    another draw, so that the lowest of N = 1..10 tilts is the lowest of ten tries, as it is for an
    estimator that draws anew for each.

    Args:
        surrogate, aggregation, normalisation: STE's, see `StraightThrough`.
        angle: in degrees, > 0, at most 180.
    Raises: ValueError: `Tilted(angle=...)` must be > 0 and at most 180.
    Properties: stochastic; one draw whatever ``samples``; one forward-backward pass. What is turned is a
        whole tensor: where the normalisation is `row`, units have norm 1 before the turn, and after it
        all together are as long as before, but not each of them.
    """

    stochastic = True

    def __init__(
        self,
        surrogate: Surrogate,
        aggregation: Aggregation,
        normalisation: Normalisation,
        angle: float = 2.0,
    ) -> None:
        if isinstance(angle, bool) or not isinstance(angle, int | float) or not 0 < angle <= 180:
            raise ValueError(f"`Tilted(angle={angle})` must be > 0 and at most 180 (degrees)")
        self.ste = StraightThrough(Sign(), surrogate, aggregation, normalisation)
        self.angle = float(angle)

    def cost(self, model: nn.Module, samples: int) -> Cost:
        """See :func:`srste.estimators.base.cost_of`."""
        return Cost(1, 1)

    def direction(self, task: Task, batch: Batch, samples: int) -> Direction:
        """See :class:`srste.estimators.base.Estimator`."""
        generator = task.stream("tilt", "batch", batch.index, "of", samples)
        ste = self.ste.direction(task, batch, 1)
        return {name: turned(g, self.angle, generator) for name, g in ste.items()}
