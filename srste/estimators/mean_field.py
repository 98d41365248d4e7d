"""Mean field: the units' means in the place of their draws."""

from torch import nn

from srste.estimators.base import Cost, Direction, Normalisation, gradient_of
from srste.estimators.sampled import check_units
from srste.networks.activations import acting
from srste.networks.estimating import Relaxed
from srste.networks.rounding import Quantiser
from srste.problem.task import Batch, Task, buffers_kept


class MeanField:
    """Every unit gives its mean, and the network of means is differentiated.

    Forward:   m = 2 P(q(a) = +1) - 1    in [-1, 1]
    Backward:  dm/da = 2 dP/da
    Direction: normalisation(gradient of the loss of the network of means)

    Args: quantiser: stochastic units. normalisation: see `srste.estimators.base`.
    Raises: ValueError for a quantiser without probabilities.
    Properties: deterministic, so without variance; biased for the gradient of the stochastic network,
        and exact where the loss is linear in every unit; one forward-backward pass.
    References: Shekhovtsov et al. (2020), "Path sample-analytic gradient estimators for stochastic
        binary networks", as a baseline.
    """

    stochastic = False

    def __init__(self, quantiser: Quantiser, normalisation: Normalisation) -> None:
        self.units = check_units(self, quantiser)
        self._normalisation = normalisation

    def cost(self, model: nn.Module, samples: int) -> Cost:
        """See :func:`srste.estimators.base.cost_of`."""
        return Cost(1, 1)

    def direction(self, task: Task, batch: Batch, samples: int) -> Direction:
        """See :class:`srste.estimators.base.Estimator`."""
        model = task.model
        with buffers_kept(model), acting(model, Relaxed(self.units)):
            gradient = gradient_of(task.loss(model(batch.inputs), batch.targets), model)
        return self._normalisation(gradient)
