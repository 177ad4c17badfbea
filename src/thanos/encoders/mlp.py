"""The encoders of ready-made vectors: one hidden layer; and none, which leaves them as they are."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class VectorEncoder(nn.Module):
    """Linear, ReLU, linear: standardised vectors (batch, features) to embeddings (batch, dim).

    Weights start uniform with variance 1 / inputs, so that embeddings have about the length that vectors have.
    """

    def __init__(self, features: int, hidden: int, dim: int):
        super().__init__()
        self.num_features = dim
        self.hidden, self.head = nn.Linear(features, hidden), nn.Linear(hidden, dim)
        for layer in (self.hidden, self.head):
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="linear")
            nn.init.zeros_(layer.bias)

    def forward(self, vectors: Tensor) -> Tensor:
        embedding: Tensor = self.head(self.hidden(vectors).relu())
        return embedding


class Unchanged(nn.Module):
    """Vectors as they were before they were standardised, (batch, features); stands beside a trained encoder.

    Args:
        features: How many.
        mean, std: Of each, by which they were standardised. Default: 0 and 1, for weights that are loaded.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, features: int, mean: Sequence[float] | None = None, std: Sequence[float] | None = None):
        super().__init__()
        self.num_features = features
        self.register_buffer("mean", torch.zeros(features) if mean is None else torch.tensor(mean))
        self.register_buffer("std", torch.ones(features) if std is None else torch.tensor(std))

    def forward(self, vectors: Tensor) -> Tensor:
        return vectors * self.std + self.mean
