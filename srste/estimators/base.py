"""What an estimator is, and the axes it is made of: aggregation and normalisation."""

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from srste.problem.task import Batch, Task

Direction = dict[str, Tensor]
"""A tensor for every name in ``model.named_parameters()``, of its shape, dtype and device; the step is
``w - lr * direction``. Of parameters with ``requires_grad=False`` it is zero."""


class Cost(NamedTuple):
    """What a direction costs: passes through the whole network; ``at_most`` so many if that is True."""

    forward: int
    backward: int
    at_most: bool = False


def cost_of(estimator: "Estimator", model: nn.Module, samples: int) -> Cost | None:
    """What the estimator declares that a direction for the model costs; None if it declares nothing.

    An estimator declares it by a method ``cost(model, samples)``.
    """
    declared = getattr(estimator, "cost", None)
    return None if declared is None else Cost(*declared(model, samples))


class Estimator(Protocol):
    """Makes a direction for a task's model on a batch.

    stochastic: whether the direction depends on ``samples`` and on random draws. If not, one study
        a batch serves all sample counts.
    """

    stochastic: bool

    def direction(self, task: Task, batch: Batch, samples: int) -> Direction:
        """The direction from ``samples`` (>= 1) Monte-Carlo samples; the model is left unchanged.

        Draws come from ``task.stream(...)``, named by the batch and the sample, so that the result
        depends on nothing else.
        """
        ...


def gradient_of(loss: Tensor, model: nn.Module) -> Direction:
    """The gradient of a scalar loss by every parameter; zero for those with ``requires_grad=False``,
    which are not to move and are not asked.

    Raises: ValueError naming the parameters that no gradient reaches (None), since the forward does not
        use them or cuts it off: a direction of zero would look like a poor estimator.
    """
    parameters = dict(model.named_parameters())
    asked = {name: p for name, p in parameters.items() if p.requires_grad}
    if not asked:
        raise ValueError("no parameter of the model requires a gradient")
    gradients: tuple[Tensor | None, ...] = (None,) * len(asked)
    if loss.requires_grad:
        gradients = torch.autograd.grad(loss, list(asked.values()), allow_unused=True)
    reached = {name: g for name, g in zip(asked, gradients, strict=True) if g is not None}
    if len(reached) < len(asked):
        names = ", ".join(name for name in asked if name not in reached)
        raise ValueError(
            f"no gradient reaches {names} (it is None): the forward does not use it, or cuts it off as "
            "detach() and comparisons do; requires_grad=False is for what is not to move"
        )
    return {name: reached.get(name, torch.zeros_like(p)) for name, p in parameters.items()}


Aggregation = Callable[[list[Tensor]], Tensor]
Normalisation = Callable[[Mapping[str, Tensor]], Direction]

EPSILON = 1e-8

DRAWS = ("nested", "independent")
"""Of sample i of a batch: the same draw for every N; another one for every N."""


def mean(gradients: list[Tensor]) -> Tensor:
    """The mean of the samples' gradients of one parameter tensor."""
    return torch.stack(gradients).mean(dim=0)


def median(gradients: list[Tensor]) -> Tensor:
    """The median of the samples' gradients, element by element; of an even number the mean of the middle
    two. Robust against samples of large variance, and biased where their distribution is skewed."""
    ordered = torch.stack(gradients).sort(dim=0).values
    last = len(gradients) - 1
    middle: Tensor = (ordered[last // 2] + ordered[(last + 1) // 2]) / 2
    return middle


def sign_vote(gradients: list[Tensor]) -> Tensor:
    """The sign that most of the samples' gradients have, element by element; 0 where as many are
    positive as negative.

    References: Bernstein et al. (2018), "signSGD with majority vote is communication efficient and fault
        tolerant".
    """
    vote: Tensor = torch.stack(gradients).sign().sum(dim=0).sign()
    return vote


def per_tensor(gradient: Mapping[str, Tensor]) -> Direction:
    """g / (||g|| + 1e-8) for each parameter tensor on its own."""
    return {name: g / (torch.linalg.vector_norm(g) + EPSILON) for name, g in gradient.items()}


def per_row(gradient: Mapping[str, Tensor]) -> Direction:
    """g / (||g|| + 1e-8) for the weights into each unit: one norm for each place of the first axis, over
    all other axes, so one for each channel of a convolution, grouped or not. A tensor of one axis or of
    none, such as a bias, counts as one row.

    The first axis is that of the outputs in `nn.Linear`, `nn.Conv1d` to `3d` and `nn.Bilinear`; a
    transposed convolution has its inputs there, and is normalised by these.
    """

    def norm(g: Tensor) -> Tensor:
        others = tuple(range(1, g.ndim)) or None
        norms: Tensor = torch.linalg.vector_norm(g, dim=others, keepdim=True)
        return norms

    return {name: g / (norm(g) + EPSILON) for name, g in gradient.items()}


def global_norm(gradient: Mapping[str, Tensor]) -> Direction:
    """g / (||g|| + 1e-8) with the norm over all parameters together."""
    norms = torch.stack([torch.linalg.vector_norm(g) for g in gradient.values()])
    norm = torch.linalg.vector_norm(norms) + EPSILON
    return {name: g / norm for name, g in gradient.items()}


def no_norm(gradient: Mapping[str, Tensor]) -> Direction:
    """g as it is."""
    return dict(gradient)
