"""The encoders of ready-made vectors: one hidden layer; and none, which leaves them as they are."""

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
    """Standardised vectors (batch, features) as their own embedding; stands beside a trained one, has no weights."""

    def __init__(self, features: int):
        super().__init__()
        self.num_features = features

    def forward(self, vectors: Tensor) -> Tensor:
        return vectors
