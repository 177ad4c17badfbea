"""The contrastive losses of a pair of views whose similarities fit a core's cache: all at once, without tiles.

What :mod:`thanos.objective.tiled` computes, in a fraction of its time: with some hundred images it is the
number of operations that counts, not the memory. What only positives need is computed of these alone, a tenth of the
pairs where there are ten superclasses; the slopes that need a second look at them are made in forward.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class DenseParts(torch.autograd.Function):
    """The three parts (attract, among all, class-conditional) of ``x`` against ``y``, and of ``y`` against ``x``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, label: Tensor) -> tuple[Tensor, ...]:
        """Means over the anchors of both views.

        Args:
            x, y: Two views of the same images, (n, dim); their products are similarities whose exponentials, and sums
                of these, are numbers in their precision.
            label: Class ids, in order, shape (n,).
        """
        ctx.set_materialize_grads(False)
        size, row, column, place = _positive_pairs(label)
        share = (1 / size.to(x.dtype)).index_select(0, row)  # of a pair in the mean over its anchor's positives
        grown = (x @ y.T).exp_()
        every, scratch = grown.view(-1), torch.zeros_like(grown)
        positives = every.index_select(0, place)
        of_positives = _by_anchor(scratch, place, positives, positives)
        every.scatter_(0, place, 0)  # negatives are left
        of_negatives = torch.stack((grown.sum(dim=1), grown.sum(dim=0)))
        odds = torch.stack((of_negatives[0].index_select(0, row), of_negatives[1].index_select(0, column)))
        odds.div_(positives)
        more = odds + 1
        lost = (odds - (more - 1)).div_(more)  # log1p(odds), to its last digits, in a fifth of its time
        against = more.log().add_(lost) @ share
        slope = odds.div_(more).mul_(share)
        pull = _by_anchor(scratch, place, *slope)
        among_all = (of_negatives + of_positives).log().mean() - positives.log() @ share / len(x)
        conditional = of_positives.log().mean() - torch.linalg.vecdot(x, y).mean()
        ctx.save_for_backward(
            x, y, row, column, place, share, grown, positives, slope.sum(dim=0), of_negatives, of_positives, pull
        )
        return against.mean() / len(x), among_all, conditional

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        x, y, row, column, place, share, negatives, positives, pulls, of_negatives, of_positives, pull = (
            ctx.saved_tensors
        )
        attract, among_all, conditional = (x.new_zeros(()) if g is None else g / (2 * len(x)) for g in outer)
        everyone = among_all / (of_negatives + of_positives)
        with_negatives = (attract * (pull / of_negatives).where(of_negatives > 0, 0)).add_(everyone)
        with_positives = (conditional / of_positives).add_(everyone)
        slope = (with_negatives[0][:, None] + with_negatives[1]).mul_(negatives)
        of_pairs = (with_positives[0].index_select(0, row) + with_positives[1].index_select(0, column)).mul_(positives)
        of_pairs.sub_(attract * pulls).sub_(2 * among_all * share)
        slope.view(-1).scatter_(0, place, of_pairs)
        slope.diagonal().sub_(2 * conditional)
        return slope @ y, slope.T @ x, None


def _positive_pairs(label: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pairs of one class, found faster than by a look at all.

    Args:
        label: In order, shape (n,).
    Returns:
        Of each label how many it is a pair with, (n,); of every pair, row by row, its row, column, and place among all.
    """
    kind, sizes = label.unique_consecutive(return_inverse=True, return_counts=True)[1:]
    size = sizes[kind]
    begins, before = (sizes.cumsum(0) - sizes)[kind], size.cumsum(0) - size
    row = torch.repeat_interleave(size)
    column = (begins - before).index_select(0, row).add_(torch.arange(len(row), device=row.device))
    return size, row, column, torch.add(column, row, alpha=len(label))


def _by_anchor(pairs: Tensor, place: Tensor, of_rows: Tensor, of_columns: Tensor) -> Tensor:
    """Sums over the positives of each row, and of each column, shape (2, n); ``pairs`` is 0 but at ``place``."""
    every = pairs.view(-1)
    rows = every.scatter_(0, place, of_rows).view_as(pairs).sum(dim=1)
    return torch.stack((rows, every.scatter_(0, place, of_columns).view_as(pairs).sum(dim=0)))
