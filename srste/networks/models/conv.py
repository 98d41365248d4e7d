"""A small convolutional network with binary activations and full-precision weights."""

from torch import nn

from srste.networks.activations import BinaryActivation
from srste.networks.models.sizes import check_sizes


class Conv(nn.Sequential):
    """Two 3 x 3 convolutions, a sign after each, the mean over 2 x 2 pixels, a linear output.

    Forward:   h_1 = sign(W_1 * x + b_1);  h_2 = sign(W_2 * h_1 + b_2);  y = W mean_2x2(h_2) + b

    The first one keeps the image's size, the second one doubles the channels.

    Args: in_features: pixels of an image with one channel. height: its rows, even, a divisor of
        in_features into an even number of columns. channels: of the first convolution. out_features.
        All >= 1. Shape: (batch, in_features) to (batch, out_features).
    Raises: ValueError: `Conv(height=...)` must divide the features into an even number of columns.
    """

    def __init__(
        self, in_features: int = 32, height: int = 4, channels: int = 8, out_features: int = 1
    ) -> None:
        check_sizes(
            self, in_features=in_features, height=height, channels=channels, out_features=out_features
        )
        columns, left = divmod(in_features, height)
        if left or columns % 2 or height % 2:
            raise ValueError(
                f"`Conv(height={height})` must be even and divide the {in_features} features into an "
                f"even number of columns"
            )
        super().__init__(
            nn.Unflatten(1, (1, height, columns)),
            nn.Conv2d(1, channels, 3, padding=1),
            BinaryActivation(),
            nn.Conv2d(channels, 2 * channels, 3, padding=1),
            BinaryActivation(),
            nn.AvgPool2d(2),
            nn.Flatten(),
            nn.Linear(2 * channels * height * columns // 4, out_features),
        )
