"""Random views of ready-made vectors: standardised features with noise on them, some of them missing."""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Generator, Tensor

from thanos.config import FeatureViewSpec

DRAWN = 2**22
"""Places at which a view's stretch of noise, and of missing features, may begin."""


def random_feature_views(
    vectors: Tensor,
    spec: FeatureViewSpec,
    rng: Generator,
    *,
    count: int,
    mean: Sequence[float],
    std: Sequence[float],
) -> Tensor:
    """``count`` independent views of each vector.

    Args:
        vectors: Shape (batch, dim); or (batch, 1 + seen + spec.neighbours, dim): each with views of it that were made
            before, among which are chosen, all different while there are enough, and with its neighbours.
        spec: How a view is drawn.
        rng: CPU generator; equal states give equal views on every device.
        count: Views of each vector.
        mean, std: Of each feature.
    Returns:
        float32, shape (count, batch, dim): standardised, with normal noise of deviation ``spec.noise``, and with 0, the
        mean, in the place of a feature with probability ``spec.dropout``.
    """
    chosen = _among_seen(vectors, rng, count, spec.neighbours) if vectors.ndim == 3 else vectors
    batch, dim = len(vectors), chosen.shape[-1]
    rows = standardized_features(chosen, mean, std).float().expand(count, batch, dim)
    noise, kept = _stretch(spec.noise, spec.dropout, dim, rows.device)
    views, most = torch.empty_like(rows, memory_format=torch.contiguous_format), max(1, DRAWN // 4 // dim)
    for view, given in zip(views, rows, strict=True):
        for part, of in zip(view.split(most), given.split(most), strict=True):
            start = int(torch.randint(len(noise) - part.numel() + 1, (), generator=rng))
            drawn = slice(start, start + part.numel())
            torch.addcmul(noise[drawn].view_as(part), kept[drawn].view_as(part), of, out=part)
    return views


@lru_cache(maxsize=2)
def _stretch(noise: float, dropout: float, dim: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Some millions of numbers that are drawn once: to draw a step's own would take as long as the network.

    Returns:
        Normal noise of that deviation, and 1; both 0 with probability ``dropout``. Each of shape (DRAWN + dim,).
    """
    rng, shape = Generator().manual_seed(0), (DRAWN + dim,)
    kept = torch.rand(shape, generator=rng).ge(dropout).float()
    return torch.randn(shape, generator=rng).mul_(noise).mul_(kept).to(device), kept.to(device)


def _among_seen(vectors: Tensor, rng: Generator, count: int, neighbours: int) -> Tensor:
    """(count, batch, dim) of (batch, 1 + seen + neighbours, dim); where none was seen, the vector itself.

    From the second view on each is, with equal chances, of the vector or of one of its neighbours.
    """
    batch, seen = len(vectors), vectors.shape[1] - 1 - neighbours
    if seen < count:
        place = torch.randint(1, 1 + seen, (batch, count), generator=rng) if seen else torch.zeros(batch, count).long()
    else:
        place = 1 + torch.rand((batch, seen), generator=rng).argsort(dim=1)[:, :count]
    if neighbours:
        other = torch.randint(1 + neighbours, (batch, count - 1), generator=rng)
        place[:, 1:] = torch.where(other == 0, place[:, 1:], seen + other)
    return vectors[torch.arange(batch)[:, None], place].transpose(0, 1)


def standardized_features(vectors: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """``(vectors - mean) / std`` by feature, (..., dim), in the vectors' precision."""
    shift, scale = (_row(tuple(values), vectors.dtype, vectors.device) for values in (mean, std))
    return (vectors - shift).div_(scale)


@lru_cache(maxsize=16)
def _row(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Kept, so that a step copies nothing to the device and does not wait."""
    return torch.tensor(values, dtype=dtype, device=device)
