"""The batches of all processes as one: losses over the global batch, with the gradients of a single process.

Every process computes the loss of the whole batch and keeps the gradient of its own rows. Under a strategy that
averages gradients over processes (DDP), these are therefore scaled by the number of processes.
"""

from typing import Any

import torch
from torch import Tensor, distributed


def is_alone() -> bool:
    """Whether there are no other processes."""
    return not (distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1)


def gather(views: Tensor, labels: Tensor, *, even: bool = False) -> tuple[Tensor, Tensor]:
    """Projections and labels of the images of all processes, in the order of their ranks.

    Args:
        views: Of this process's images, shape (views, batch, dim).
        labels: Integers, shape (batch,).
        even: Every process brings as many images; then none waits to hear how many the others have.
    Returns:
        Shapes (views, sum of batches, dim) and (sum of batches,); the arguments themselves for one process.
    """
    if is_alone():
        return views, labels
    sizes = [len(labels)] * distributed.get_world_size() if even else _sizes(labels)
    return _Gather.apply(views, sizes), torch.cat(_gather(labels, sizes))


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, views: Tensor, sizes: list[int]) -> Tensor:
        rank = distributed.get_rank()
        ctx.start, ctx.count = sum(sizes[:rank]), sizes[rank]
        return torch.cat(_gather(views.transpose(0, 1).contiguous(), sizes)).transpose(0, 1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        mine = gradients[0][:, ctx.start : ctx.start + ctx.count]
        return mine * distributed.get_world_size(), None


def _sizes(rows: Tensor) -> list[int]:
    """How many rows every process has."""
    count = torch.tensor([len(rows)], device=rows.device)
    counts = [torch.zeros_like(count) for _ in range(distributed.get_world_size())]
    distributed.all_gather(counts, count)
    return [int(each) for each in counts]


def _gather(rows: Tensor, sizes: list[int]) -> list[Tensor]:
    """Every process's rows (batch, ...); shorter batches travel padded."""
    padded = torch.cat([rows, rows.new_zeros(max(sizes) - len(rows), *rows.shape[1:])])
    parts = [torch.empty_like(padded) for _ in sizes]
    distributed.all_gather(parts, padded)
    return [part[:size] for part, size in zip(parts, sizes, strict=True)]
