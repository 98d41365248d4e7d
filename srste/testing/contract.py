"""What every estimator keeps to, as tests to inherit."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from srste.curve.network.base import check_direction
from srste.estimators import Direction, Estimator
from srste.losses import SquaredError
from srste.networks.activations import BinaryActivation
from srste.problem.task import Batch
from srste.randomness import Stream, normal, stream

_CPU = torch.device("cpu")


class SmallTask:
    """A :class:`srste.problem.task.Task`: a network, and batches of 40 random examples, by a seed."""

    def __init__(self, model: nn.Module, inputs: tuple[int, ...], seed: int) -> None:
        self.model = model
        self.loss = SquaredError()
        self.seed = seed
        self._inputs = inputs

    def stream(self, *names: str | int) -> Stream:
        return stream(self.seed, *names)

    def batch(self, index: int) -> Batch:
        inputs = normal(self.stream("batch", index), (40, *self._inputs), _CPU)
        with torch.no_grad():
            outputs = self.model(inputs)
        targets = normal(self.stream("targets", index), tuple(outputs.shape), _CPU)
        return Batch(index, inputs, targets)


class EstimatorContract(ABC):
    """Tests that every estimator passes; inherit them, and say how yours is made.

        class TestMine(srste.testing.EstimatorContract):
            def make(self):
                return MyEstimator()

    They need pytest or another runner that calls ``test_`` methods.
    """

    inputs: tuple[int, ...] = (5,)
    """The shape of one input of :meth:`network`."""

    @abstractmethod
    def make(self) -> Estimator:
        """A fresh estimator."""

    def network(self) -> nn.Module:
        """A fresh network that the estimator is for, with biases, its weights drawn by PyTorch."""
        return nn.Sequential(
            nn.Linear(5, 6), BinaryActivation(), nn.Linear(6, 6), BinaryActivation(), nn.Linear(6, 2)
        )

    def _task(self, seed: int = 0) -> SmallTask:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return SmallTask(self.network(), self.inputs, seed)

    def test_a_finite_tensor_for_every_parameter(self) -> None:
        task = self._task()
        direction = self.make().direction(task, task.batch(1), 2)
        check_direction(dict(task.model.named_parameters()), direction)
        for name, tensor in direction.items():
            assert tensor.isfinite().all(), f"the direction is not finite in {name}"
            assert not tensor.requires_grad, f"the direction of {name} requires a gradient"
        assert _flat(direction).norm() > 0, "the direction is zero"

    def test_same_call_same_direction_whatever_came_before(self) -> None:
        task, estimator = self._task(), self.make()
        first = _flat(estimator.direction(task, task.batch(1), 3))
        torch.rand(7)  # PyTorch's generator is not the estimator's
        estimator.direction(task, task.batch(2), 5)
        again = _flat(estimator.direction(task, task.batch(1), 3))
        assert torch.equal(again, first), "another call in between changes the direction"
        fresh = self._task()
        anew = _flat(self.make().direction(fresh, fresh.batch(1), 3))
        assert torch.equal(anew, first), "a fresh estimator gives another direction"

    def test_the_model_and_pytorch_are_left_unchanged(self) -> None:
        task, estimator = self._task(), self.make()
        batch, model = task.batch(1), task.model
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        modes = [module.training for module in model.modules()]
        inputs, targets, random = batch.inputs.clone(), batch.targets.clone(), torch.get_rng_state()
        estimator.direction(task, batch, 2)
        for name, tensor in model.state_dict().items():
            assert torch.equal(tensor, before[name]), f"{name} was changed"
        assert all(p.grad is None for p in model.parameters()), "a .grad was left"
        assert [module.training for module in model.modules()] == modes, "a mode was changed"
        assert torch.equal(batch.inputs, inputs), "the inputs were changed"
        assert torch.equal(batch.targets, targets), "the targets were changed"
        assert torch.equal(torch.get_rng_state(), random), "PyTorch's generator was drawn from"

    def test_samples_matter_exactly_if_it_is_stochastic(self) -> None:
        task, estimator = self._task(), self.make()
        one, two = (_flat(estimator.direction(task, task.batch(1), n)) for n in (1, 2))
        said = "stochastic" if estimator.stochastic else "deterministic"
        assert torch.equal(one, two) != estimator.stochastic, f"it says that it is {said}, and is not"

    def test_the_order_of_examples_does_not_matter_if_it_draws_nothing(self) -> None:
        task, estimator = self._task(), self.make()
        if estimator.stochastic:
            return  # draws belong to places
        batch = task.batch(1)
        order = torch.arange(len(batch.inputs)).flip(0)
        other = Batch(batch.index, batch.inputs[order], batch.targets[order])
        one, two = (_flat(estimator.direction(task, b, 1)) for b in (batch, other))
        assert (one - two).norm() <= 1e-4 * one.norm(), "another order, another direction"

    def test_the_network_matters(self) -> None:
        one, other = (
            _flat(self.make().direction(task, task.batch(1), 1)) for task in map(self._task, (0, 1))
        )
        assert not torch.equal(one, other), "another seed gives the same direction"

    def test_parameters_that_require_no_gradient_stay(self) -> None:
        task = self._task()
        name, parameter = next(iter(task.model.named_parameters()))
        parameter.requires_grad_(False)
        direction = self.make().direction(task, task.batch(1), 2)
        assert not direction[name].any(), f"{name} requires no gradient, and is to be moved"


def _flat(direction: Direction) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in direction.values()])
