"""Random views of ready-made vectors: standardised features with noise on them, some of them missing."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import torch
from torch import Generator, Tensor

from thanos.config import FeatureViewSpec

DRAWN = 2**22
"""Stretches of noise, and of missing features, among which a view's are chosen."""


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
    rows = standardized_features(chosen, mean, std)
    noise = _windows("noise", spec.noise, rows.shape[-1], rows.device)
    kept = _windows("kept", spec.dropout, rows.shape[-1], rows.device)
    places = torch.randint(len(noise), (2, count * vectors.shape[0]), generator=rng).to(rows.device, non_blocking=True)
    shape = (count, *rows.shape[-2:])
    return noise[places[0]].view(shape).add_(rows).mul_(kept[places[1]].view(shape))


@lru_cache(maxsize=8)
def _windows(what: Literal["noise", "kept"], amount: float, dim: int, device: torch.device) -> Tensor:
    """Every stretch of ``dim`` numbers, (stretches, dim), of some millions that were drawn once.

    To draw as many for each step would take as long as the network. ``noise`` is normal; ``kept`` 0 with probability
    ``amount``, or 1.
    """
    rng, shape = Generator().manual_seed(0 if what == "noise" else 1), (DRAWN + dim - 1,)
    if what == "noise":
        numbers = torch.randn(shape, generator=rng).mul_(amount)
    else:
        numbers = torch.rand(shape, generator=rng).ge(amount).float()
    return numbers.to(device).unfold(0, dim, 1)


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
