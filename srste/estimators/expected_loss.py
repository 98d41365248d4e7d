"""The mean loss of a stochastic binary network over all draws, exactly: the truth for its estimators."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from srste.errors import NotApplicableError
from srste.estimators.chains import segments_of
from srste.estimators.sampled import check_not_normalising, losses_of_examples
from srste.losses import LossFunction
from srste.networks.activations import levels_of
from srste.networks.rounding import StochasticRounding, StochasticUnits

if TYPE_CHECKING:
    from jaxtyping import Float, Shaped

MOST_UNITS = 12
"""The most units of a layer: the states of two layers, 2^24 pairs, are in memory at once."""


def expected_loss(
    model: nn.Sequential,
    units: StochasticUnits,
    loss: LossFunction,
    inputs: Float[Tensor, "batch *features"],
    targets: Shaped[Tensor, "batch *target"],
) -> Float[Tensor, ""]:
    """E[L] over the draws of all units, with its graph: its gradient is that of the stochastic network.

    A layer of n units has 2^n states, and the probabilities of its states follow from those of the layer
    below by a matrix of transitions; so the cost is that of pairs of states of two layers, and not of
    the states of all units together.

    Args:
        model: modules in a row, of which each activation gives (batch, units); better in float64.
        units: whose probabilities depend on each pre-activation alone.
        loss: that is the mean of its examples' losses.
    Raises: ValueError for another network, more than `MOST_UNITS` units in a layer, and units whose
        probabilities depend on other examples.
    """
    check_states(model, units, inputs)
    with torch.no_grad():
        losses_of_examples(loss, model(inputs), targets)  # refuses a loss that is not their mean
    segments, levels = segments_of(model, levels_of)
    states, probabilities = inputs, None  # of each example its inputs, with certainty
    for segment, (low, high) in zip(segments[:-1], levels, strict=True):
        a = segment(states)
        up = _all_states(a.shape[1]).to(a)  # (states, units), 0 or 1
        p = units.probability(a.detach()) + units.slope(a.detach()) * (a - a.detach())
        transitions = torch.ones(len(a), len(up), dtype=a.dtype, device=a.device)
        for unit in range(a.shape[1]):
            transitions = transitions * torch.where(
                up[:, unit] > 0, p[:, unit, None], 1 - p[:, unit, None]
            )
        probabilities = transitions if probabilities is None else probabilities @ transitions
        states = low + (high - low) * up
    outputs = segments[-1](states)  # (states, ...)
    if probabilities is None:
        return loss(outputs, targets)
    by_state = torch.vmap(
        lambda target: torch.vmap(lambda output: loss(output[None], target[None]))(outputs)
    )(targets)
    return (probabilities * by_state).sum(1).mean()


def check_states(model: nn.Module, units: StochasticUnits, inputs: Tensor) -> None:
    """Raises: ValueError for a network or units that :func:`expected_loss` is not for."""
    if isinstance(units, StochasticRounding):
        raise NotApplicableError(
            "quantiser=stochastic_rounding: must be one of logistic, hard_sigmoid, triangular: its "
            "probabilities depend on the other examples of the batch"
        )
    check_not_normalising(model)
    segments, levels = segments_of(model, levels_of)
    states = inputs[:1]
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        for segment, (low, high) in zip(segments[:-1], levels, strict=True):
            a = segment(states)
            if a.ndim != 2 or a.shape[1] > MOST_UNITS:
                shape = ", ".join(["batch", *map(str, a.shape[1:])])
                raise NotApplicableError(
                    f"a layer has pre-activations of shape ({shape}): all of its states are gone "
                    f"through, so it must be (batch, units) with at most {MOST_UNITS} units"
                )
            states = torch.where(a >= 0, high, low).to(a)


def _all_states(n: int) -> Tensor:
    """Return (2^n, n): every combination of 0 and 1."""
    return (torch.arange(2**n)[:, None] >> torch.arange(n)) & 1
