"""The multilayer perceptron with activations of two or more levels."""

from itertools import pairwise

from torch import nn

from srste.networks.levels import Levels
from srste.networks.models.sizes import check_sizes


class QuantisedMLP(nn.Sequential):
    """``depth`` hidden layers of ``width`` units of a few levels, then a linear output.

    Forward:   h_0 = x;  h_l = the level nearest to W_l h_{l-1} + b_l, l = 1..depth;  y = W h_depth + b

    Weights start normal with variance 1/fan_in, drawn from the global generator, biases at zero: inputs
    of variance 1 give pre-activations of variance 1, the size of the levels.

    Args: in_features, width, out_features: numbers of units, >= 1. depth: hidden layers, >= 1. levels:
        of each unit, >= 2, evenly from ``low`` (-1 or 0) to 1. bias: whether every linear layer has one.
    Shape: (batch, in_features) to (batch, out_features).
    Raises: ValueError: `QuantisedMLP(width=...)` must be an integer >= 1, and so for the others.
    References: Zhou et al. (2016), "DoReFa-Net", equation 5, for the levels from 0 to 1; LeCun et al.
        (1998), "Efficient backprop", equation 16, for the start.
    """

    def __init__(
        self,
        in_features: int = 32,
        width: int = 32,
        depth: int = 3,
        out_features: int = 1,
        levels: int = 3,
        low: float = -1.0,
        bias: bool = False,
    ) -> None:
        check_sizes(self, in_features=in_features, width=width, depth=depth, out_features=out_features)
        layers: list[nn.Module] = []
        for fan_in, fan_out in pairwise([in_features] + [width] * depth):
            layers += [nn.Linear(fan_in, fan_out, bias=bias), Levels(levels, low)]
        super().__init__(*layers, nn.Linear(width, out_features, bias=bias))
        for layer in self:
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
