"""A network of binary layers with sums past them."""

from torch import Tensor, nn

from srste.networks.activations import BinaryActivation
from srste.networks.models.sizes import check_sizes


class Residual(nn.Module):
    """``depth`` blocks that add to a sum, and a linear output of its signs.

    Forward:   a_1 = W_1 x;  a_l = a_{l-1} + W_l sign(a_{l-1}), l = 2..depth;  y = W sign(a_depth)

    and a bias in every layer if wanted. Shortcuts carry pre-activations, as in Bi-Real net.

    Args: in_features, width, out_features: numbers of units, >= 1. depth: hidden layers, >= 1. bias.
    Shape: (batch, in_features) to (batch, out_features).
    Raises: ValueError: `Residual(width=...)` must be an integer >= 1, and so for the other sizes.
    References: Liu et al. (2018), "Bi-Real Net", section 3.2.
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
        super().__init__()
        self.first = nn.Linear(in_features, width, bias=bias)
        self.blocks = nn.ModuleList(nn.Linear(width, width, bias=bias) for _ in range(depth - 1))
        self.signs = nn.ModuleList(BinaryActivation() for _ in range(depth))
        self.last = nn.Linear(width, out_features, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        a = self.first(x)
        for sign, block in zip(self.signs, self.blocks, strict=False):  # the last sign has no block
            a = a + block(sign(a))
        output: Tensor = self.last(self.signs[-1](a))
        return output
