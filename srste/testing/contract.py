"""What every estimator keeps to, as tests to inherit."""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from srste.curve.network.base import check_direction
from srste.estimators import Direction, Estimator, cost_of
from srste.estimators.base import gradient_of
from srste.estimators.expected_loss import expected_loss
from srste.losses import LossFunction, SquaredError
from srste.networks.activations import BinaryActivation
from srste.problem.task import Batch
from srste.randomness import Stream, normal, stream

_CPU = torch.device("cpu")
_REPEATS = 300
"""Estimates of a mean."""
_SAMPLES = 3
"""Samples whose mean is compared with single ones."""
_ERRORS = 5
"""Standard errors within which an estimated mean or variance has to be."""


class SmallTask:
    """A :class:`srste.problem.task.Task`: a network, and batches of random examples, by a seed.

    repeat: of the same batch, with other draws.
    """

    def __init__(self, model: nn.Module, inputs: tuple[int, ...], seed: int, examples: int = 40) -> None:
        self.model = model
        self.loss: LossFunction = SquaredError()
        self.seed = seed
        self.repeat = 0
        self._inputs, self._examples = inputs, examples

    def stream(self, *names: str | int) -> Stream:
        return stream(self.seed, *names, "repeat", self.repeat)

    def batch(self, index: int) -> Batch:
        dtype = next(self.model.parameters()).dtype
        inputs = normal(stream(self.seed, "batch", index), (self._examples, *self._inputs), _CPU)
        with torch.no_grad():
            outputs = self.model(inputs.to(dtype))
        targets = normal(stream(self.seed, "targets", index), tuple(outputs.shape), _CPU)
        return Batch(index, inputs.to(dtype), targets.to(dtype))


class EstimatorContract(ABC):
    """Tests that every estimator passes; inherit them, and say how yours is made.

        class TestMine(srste.testing.EstimatorContract):
            def make(self):
                return MyEstimator()

    They need pytest or another runner that calls ``test_`` methods.
    """

    inputs: tuple[int, ...] = (5,)
    """The shape of one input of :meth:`network`, and of :meth:`tiny_network`."""

    depends_on_loss = True
    """False for a control whose direction is not made from the loss."""

    @abstractmethod
    def make(self) -> Estimator:
        """A fresh estimator."""

    def make_plain(self) -> Estimator | None:
        """The same, with the mean of its samples and without a normalisation, so that the mean and the
        variance of what it gives can be tested; None, the default, if there is no such thing."""
        return None

    def expected(self, task: SmallTask, batch: Batch, estimator: Estimator) -> Direction | None:
        """What the estimate of :meth:`make_plain` is on average, in float64, by other means than its
        code; None if that is not to be tested. The default is the exact gradient of the mean loss for an
        estimator with the attributes ``unbiased``, which is True, and ``units``."""
        if not getattr(estimator, "unbiased", False):
            return None
        units = estimator.units  # type: ignore[attr-defined]
        assert isinstance(task.model, nn.Sequential)
        loss = expected_loss(task.model, units, task.loss, batch.inputs, batch.targets)
        return gradient_of(loss, task.model)

    def network(self) -> nn.Module:
        """A fresh network that the estimator is for, with biases, its weights drawn by PyTorch."""
        return nn.Sequential(
            nn.Linear(5, 6), BinaryActivation(), nn.Linear(6, 6), BinaryActivation(), nn.Linear(6, 2)
        )

    def tiny_network(self) -> nn.Sequential:
        """A fresh network whose units have few enough states to go through them all."""
        return nn.Sequential(
            nn.Linear(5, 2), BinaryActivation(), nn.Linear(2, 2), BinaryActivation(), nn.Linear(2, 1)
        )

    def _task(self, seed: int = 0) -> SmallTask:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return SmallTask(self.network(), self.inputs, seed)

    def _tiny_task(self) -> SmallTask:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            return SmallTask(self.tiny_network().double(), self.inputs, 1, examples=3)

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

    def test_a_network_of_float64_has_directions_of_float64(self) -> None:
        task = self._task()
        task.model.double()
        direction = self.make().direction(task, task.batch(1), 2)
        check_direction(dict(task.model.named_parameters()), direction)

    def test_a_loss_of_zero_gives_a_direction_of_zero(self) -> None:
        task = self._task()
        task.loss = _nothing
        direction = self.make().direction(task, task.batch(1), 2)
        if self.depends_on_loss:
            assert not _flat(direction).any(), "there is nothing to descend, and it moves"

    def test_passes_are_as_declared(self) -> None:
        task = self._task()
        batch, passes = task.batch(1), [0, 0]

        def back(_: Tensor) -> None:
            passes[1] += 1

        def forth(module: nn.Module, _: object, outputs: Tensor) -> None:
            if module is task.model:
                passes[0] += 1
                if outputs.requires_grad:
                    outputs.register_hook(back)  # type: ignore[no-untyped-call]

        for samples in (1, 3):
            passes[:] = 0, 0
            estimator = self.make()
            # Of all modules: one of the model's would be a reason against an exact loss curve.
            with nn.modules.module.register_module_forward_hook(forth):
                estimator.direction(task, batch, samples)
            cost = cost_of(estimator, task.model, samples)
            if cost is None:
                continue  # it declares nothing
            said, counted = (cost.forward, cost.backward), tuple(passes)
            less = cost.at_most and passes[0] <= said[0] and passes[1] <= said[1]
            assert counted == said or less, f"(forward, backward) {counted} where it declares {said}"

    def test_estimates_are_on_average_as_expected(self) -> None:
        task, estimator = self._tiny_task(), self.make_plain()
        batch = task.batch(1)
        expected = None if estimator is None else self.expected(task, batch, estimator)
        if estimator is None or expected is None:
            return
        truth = _flat(expected)
        if not estimator.stochastic:
            error = float((_flat(estimator.direction(task, batch, 1)) - truth).norm())
            assert error <= 1e-9 * float(truth.norm()), (
                f"off by {error:.3g} of {float(truth.norm()):.3g}"
            )
            return
        estimates = _repeated(estimator, task, batch, 1, _REPEATS)
        off = estimates.mean(0) - truth
        errors = estimates.std(0) / math.sqrt(_REPEATS)
        furthest = float((off.abs() / errors.clamp_min(1e-12 + 1e-9 * float(truth.norm()))).max())
        assert furthest <= _ERRORS, f"the mean is off by {furthest:.1f} standard errors"
        along = (estimates @ truth) / (truth @ truth)
        off_along = abs(float(along.mean()) - 1)
        allowed = _ERRORS * float(along.std()) / math.sqrt(_REPEATS) + 1e-9
        assert off_along <= allowed, f"{float(along.mean()):.3f} times as long as it should be"

    def test_more_samples_have_less_variance_as_independent_ones_have(self) -> None:
        """So that RMSE(n)^2 = bias^2 + (RMSE(1)^2 - bias^2) / n, whatever the truth is."""
        task, estimator = self._tiny_task(), self.make_plain()
        if estimator is None or not estimator.stochastic:
            return
        batch, n = task.batch(1), _SAMPLES
        one = _repeated(estimator, task, batch, 1, _REPEATS)
        many = _repeated(estimator, task, batch, n, _REPEATS // n)
        squares = [((e - e.mean(0)) ** 2).sum(1) * len(e) / (len(e) - 1) for e in (one, many)]
        of_one, of_many = (float(s.mean()) for s in squares)
        errors = [float(s.std()) / math.sqrt(len(s)) for s in squares]
        allowed = _ERRORS * math.hypot(errors[0], n * errors[1])
        assert abs(n * of_many - of_one) <= allowed, (
            f"the variance of the mean of {n} samples is {of_many / of_one:.3f} of one's, not 1/{n}"
        )
        apart = (one.mean(0) - many.mean(0)).abs()
        both = (one.var(0) / len(one) + many.var(0) / len(many)).sqrt()
        assert (apart <= _ERRORS * both + 1e-12).all(), f"{n} samples have another mean than one"


def _nothing(outputs: Tensor, targets: Tensor) -> Tensor:
    """A loss of zero, whatever the outputs are."""
    return 0 * outputs.mean()


def _repeated(estimator: Estimator, task: SmallTask, batch: Batch, samples: int, repeats: int) -> Tensor:
    """Return estimates with other draws each, (repeats, numbers)."""
    estimates = []
    for repeat in range(repeats):
        # Those of other numbers of samples share no draw.
        task.repeat = 1 + repeat + _REPEATS * samples
        estimates.append(_flat(estimator.direction(task, batch, samples)))
    task.repeat = 0
    return torch.stack(estimates)


def _flat(direction: Direction) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in direction.values()])
