"""A backbone that is not trained, with trained encoders on its standardised features, as one module."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from thanos.encoders.zoo import dimension


class Frozen(nn.Module):
    """From normalised images to the embedding of a head on the backbone's features.

    Args:
        backbone: From images (batch, channel, height, width) to features (batch, features).
        head: From standardised features to embeddings (batch, dim).
        mean, std: Of each feature; what the head was trained behind. Default: 0 and 1, for weights that are loaded.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        head: nn.Module,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ):
        super().__init__()
        features = dimension(backbone)
        self.backbone, self.head = backbone, head
        self.num_features = dimension(head)
        self.register_buffer("mean", torch.zeros(features) if mean is None else torch.tensor(mean))
        self.register_buffer("std", torch.ones(features) if std is None else torch.tensor(std))

    def forward(self, images: Tensor) -> Tensor:
        return self.on_features(self.backbone(images))

    def on_features(self, features: Tensor) -> Tensor:
        """From features (batch, features) to embeddings (batch, dim)."""
        embedding: Tensor = self.head((features - self.mean) / self.std)
        return embedding
