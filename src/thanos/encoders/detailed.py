"""A timm model whose features keep what its last layer has lost: shape and place, as a middle layer saw them."""

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from thanos.encoders.zoo import dimension
from thanos.errors import ConfigError

MIDDLE = -2
"""Which of timm's layers: the last but one, at a sixteenth of the image's side in most convolutional models."""


class Detailed(nn.Module):
    """The model's own features, and beside them a middle layer's, averaged over the cells of a grid.

    Args:
        network: From normalised images (batch, channels, height, width) to features (batch, features).
        grid: Cells a side.
        channels, size: Of the images; size is height and width.
    Raises:
        ConfigError: for a model that does not give its middle layers.
    """

    def __init__(self, network: nn.Module, grid: int, *, channels: int, size: tuple[int, int]):
        super().__init__()
        self.network, self.grid = network, grid
        self.register_buffer("cells", torch.tensor(grid))  # what is kept under the weights tells grids apart
        training = network.training
        try:
            with torch.no_grad():
                width = self.eval().forward(torch.zeros(1, channels, *size)).shape[1]
        except (AttributeError, NotImplementedError, TypeError, ValueError, RuntimeError, AssertionError) as error:
            reason = str(error).split("\n")[0]
            raise ConfigError(
                f"`frozen_grid` takes a middle layer's features, and {type(network).__name__} does not give them "
                f"({reason}). Drop it, or name another `encoder`."
            ) from None
        self.train(training)
        self.num_features = width
        self.num_details = width - dimension(network)
        """How many of the features are the middle layer's; they come last."""

    def forward(self, images: Tensor) -> Tensor:
        last, middle = self.network.forward_intermediates(images, indices=[MIDDLE])  # type: ignore[operator]
        cells = adaptive_avg_pool2d(middle[0], self.grid).flatten(1)
        return torch.cat([self.network.forward_head(last), cells], dim=1)  # type: ignore[operator]
