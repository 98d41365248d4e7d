"""The multilayer perceptron with batch norm before every binary activation."""

from itertools import pairwise

from torch import nn

from srste.networks.activations import BinaryActivation
from srste.networks.models.sizes import check_sizes


class BatchNormMLP(nn.Sequential):
    """``depth`` hidden layers of ``width`` units, each normalised over the batch and then binarised.

    Forward:   h_l = sign(gamma_l (W_l h_{l-1} - mean) / sqrt(var + 1e-5) + beta_l);  y = W h_depth + b

    mean and var are the batch's, as in training: its loss curve has no exact form.

    Args: in_features, width, out_features: numbers of units, >= 1. depth: hidden layers, >= 1.
    Shape: (batch >= 2, in_features) to (batch, out_features).
    Raises: ValueError: `BatchNormMLP(width=...)` must be an integer >= 1, and so for the other sizes.
    References: Ioffe and Szegedy (2015), algorithm 1.
    """

    def __init__(
        self, in_features: int = 32, width: int = 32, depth: int = 3, out_features: int = 1
    ) -> None:
        check_sizes(self, in_features=in_features, width=width, depth=depth, out_features=out_features)
        layers: list[nn.Module] = []
        for fan_in, fan_out in pairwise([in_features] + [width] * depth):
            layers += [
                nn.Linear(fan_in, fan_out, bias=False),
                nn.BatchNorm1d(fan_out),
                BinaryActivation(),
            ]
        super().__init__(*layers, nn.Linear(width, out_features))
