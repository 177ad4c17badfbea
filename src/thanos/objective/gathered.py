"""The batches of all processes as one: losses over the global batch, with the gradients of a single process.

Every process computes the loss of the whole batch and keeps the gradient of its own rows. Under a strategy that
averages gradients over processes (DDP), these are therefore scaled by the number of processes. Batches may differ in
length.
"""

from typing import Any

import torch
from torch import Tensor, distributed


def is_alone() -> bool:
    """Whether there are no other processes."""
    return not (distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1)


def gather_views(views: Tensor) -> Tensor:
    """Projections of the images of all processes, in the order of their ranks.

    Args:
        views: Of this process's images, shape (views, batch, dim).
    Returns:
        Shape (views, sum of batches, dim); ``views`` itself for one process.
    """
    if is_alone():
        return views
    gathered: Tensor = _Gather.apply(views)
    return gathered


def gather_labels(labels: Tensor) -> Tensor:
    """Integer labels (batch,) of all processes' images, (sum of batches,)."""
    return labels if is_alone() else torch.cat(_gather(labels))


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, views: Tensor) -> Tensor:
        parts = _gather(views.transpose(0, 1).contiguous())
        rank = distributed.get_rank()
        ctx.start, ctx.count = sum(len(part) for part in parts[:rank]), len(parts[rank])
        return torch.cat(parts).transpose(0, 1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        mine = gradients[0][:, ctx.start : ctx.start + ctx.count]
        return mine * distributed.get_world_size()


def _gather(rows: Tensor) -> list[Tensor]:
    """Every process's rows (batch, ...); shorter batches travel padded."""
    world = distributed.get_world_size()
    count = torch.tensor([len(rows)], device=rows.device)
    counts = [torch.zeros_like(count) for _ in range(world)]
    distributed.all_gather(counts, count)
    sizes = torch.cat(counts).tolist()
    padded = torch.cat([rows, rows.new_zeros(max(sizes) - len(rows), *rows.shape[1:])])
    parts = [torch.empty_like(padded) for _ in range(world)]
    distributed.all_gather(parts, padded)
    return [part[:size] for part, size in zip(parts, sizes, strict=True)]
