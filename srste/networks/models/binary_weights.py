"""The multilayer perceptron with binary activations and binary weights."""

from torch import nn

from srste.networks.activations import BinaryActivation
from srste.networks.binary_weights import MagnitudeAwareLinear
from srste.networks.models.sizes import check_sizes


class BinaryWeightMLP(nn.Sequential):
    """``depth`` hidden layers of ``width`` units, a sign after each; the weights of all layers but the
    first and the last are binary, as usual.

    Forward:   h_1 = sign(W_1 x + b_1);  h_l = sign(mean(|W_l|) sign(W_l) h_{l-1} + b_l), l = 2..depth;
               y = W h_depth + b

    Its loss curve has no exact form: signs of weights flip along it, too.

    Args: in_features, width, out_features: numbers of units, >= 1. depth: hidden layers, >= 1. bias:
        whether every layer has one.
    Shape: (batch, in_features) to (batch, out_features).
    Raises: ValueError: `BinaryWeightMLP(width=...)` must be an integer >= 1, and so for the other sizes.
    References: see `srste.networks.binary_weights.MagnitudeAwareLinear`.
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
        layers: list[nn.Module] = [nn.Linear(in_features, width, bias=bias), BinaryActivation()]
        for _ in range(depth - 1):
            layers += [MagnitudeAwareLinear(width, width, bias=bias), BinaryActivation()]
        super().__init__(*layers, nn.Linear(width, out_features, bias=bias))
