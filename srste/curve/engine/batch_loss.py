"""The loss over a batch, each loss in the form that it has between two flips."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from srste.curve.engine.follower import CurveInputs
from srste.curve.engine.kernels.positions import just_after
from srste.curve.engine.link_table import Links
from srste.curve.engine.piecewise_loss import Pieces, pieces
from srste.curve.forms import exact_form
from srste.curve.network.base import Network, NotExactError
from srste.curve.network.sequential import to_cpu
from srste.losses import ExactForm, LossFunction

if TYPE_CHECKING:
    from srste.curve.convex.search import ConvexSum


def loss_along(
    network: Network,
    links: Links | None,
    loss: LossFunction,
    inputs: Tensor,
    targets: Tensor,
    lr_max: float,
) -> tuple[Pieces | ConvexSum, Links]:
    """The loss of a batch for every step along the direction, and the network's links.

    Args: links: the network's, None if they are still to be made.
    Raises: NotExactError, ValueError, as `srste.curve.line.Line.exact_loss`.
    """
    exact = exact_form(loss)
    if not network.units[-1]:
        raise ValueError("the model has no outputs")
    shape = (inputs.shape[0], *network.output_shape)
    try:
        compared = exact.compared(targets, shape)
    except ValueError as error:
        if exact is loss:
            raise
        # PyTorch's take more: targets of other shapes, and classes that are probabilities or ignored.
        raise NotExactError(f"{type(exact).__name__}: {error}") from error
    batch = CurveInputs(to_cpu(inputs), compared, 1 / exact.terms(shape), just_after(lr_max))
    if links is None:
        links = Links.of(network)
    if exact.form in (ExactForm.QUADRATIC, ExactForm.ABSOLUTE):
        return pieces(network, links, batch, exact.form, lr_max), links
    from srste.curve.convex.search import convex_sum  # compiled only where it is wanted

    return convex_sum(network, links, batch, exact.form, lr_max), links
