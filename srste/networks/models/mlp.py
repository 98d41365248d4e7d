"""The multilayer perceptron with binary activations and full-precision weights."""

from itertools import pairwise

from torch import nn

from srste.networks.activations import BinaryActivation
from srste.networks.models.sizes import check_sizes


class MLP(nn.Sequential):
    """``depth`` hidden layers of ``width`` units, a sign after each, then a linear output.

    Forward:   h_0 = x;  h_l = sign(W_l h_{l-1} + b_l), l = 1..depth;  y = W h_depth + b

    Weights (and biases, if any) start uniform in (-1/sqrt(fan_in), 1/sqrt(fan_in)), PyTorch's
    default for ``nn.Linear``, drawn from the global generator.

    Args: in_features, width, out_features: numbers of units, >= 1. depth: hidden layers, >= 1.
        bias: whether every linear layer has one.
    Shape: (batch, in_features) to (batch, out_features).
    Raises: ValueError: `MLP(width=...)` must be an integer >= 1, and so for the other sizes.
    References: Courbariaux et al. (2016) for binary activations; here the weights stay real.
    """

    def __init__(
        self,
        in_features: int = 32,
        width: int = 32,
        depth: int = 3,
        out_features: int = 1,
        bias: bool = False,
    ) -> None:
        check_sizes(self, in_features=in_features, width=width, depth=depth, out_features=out_features)
        layers: list[nn.Module] = []
        for fan_in, fan_out in pairwise([in_features] + [width] * depth):
            layers += [nn.Linear(fan_in, fan_out, bias=bias), BinaryActivation()]
        super().__init__(*layers, nn.Linear(width, out_features, bias=bias))
