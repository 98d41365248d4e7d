"""Layers whose weights are binary, by a quantiser of the network's, which no estimator replaces."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn import functional

from srste.networks.estimating import replaced
from srste.networks.rounding import sign

if TYPE_CHECKING:
    from jaxtyping import Float


class MagnitudeAwareLinear(nn.Linear):
    """A linear layer of binary weights, scaled by the mean size of the real ones of each output.

    Forward:   y = x Wb^T + b, Wb = mean(|W|) sign(W), the mean over the weights into each output
    Backward:  dL/dW := mean(|W|) dL/dWb if |W| <= 1 else 0; none through the mean

    Its weights W are the latent real ones, which a step moves. Estimators act on activations, and leave
    this quantiser as it is.

    Args, shape: those of ``nn.Linear``.
    References: Liu et al. (2018), "Bi-Real Net", section 3.3, equation 6; Rastegari et al. (2016),
        "XNOR-Net", section 3.1, for the scale.
    """

    def forward(self, x: Float[Tensor, "*batch features"]) -> Float[Tensor, "*batch units"]:
        w = self.weight.detach()
        scale = w.abs().mean(dim=1, keepdim=True)
        slope = scale * (w.abs() <= 1).to(w.dtype)
        return functional.linear(x, replaced(self.weight, scale * sign(w), slope), self.bias)
