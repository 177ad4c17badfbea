"""The contrastive losses of a pair of views whose similarities fit a core's cache: all at once, without tiles.

What :mod:`thanos.objective.tiled` computes, in a third of its time: with some hundred images it is the
number of operations that counts, not the memory. The slopes that need a second look at the pairs are made in forward.
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
        kind, sizes = label.unique_consecutive(return_inverse=True, return_counts=True)[1:]
        positive, size = kind[:, None] == kind, sizes[kind].to(x.dtype)
        grown = (x @ y.T).exp_()
        negatives = grown.masked_fill(positive, 0)
        positives = grown - negatives
        to_positives = positives.masked_fill(~positive, torch.inf)
        against, pulls, sums = x.new_zeros(()), torch.zeros_like(grown), []
        among_all, conditional = x.new_zeros(()), -2 * torch.linalg.vecdot(x, y).mean()
        for dim, (rows, points) in ((1, (x, y)), (0, (y, x))):
            of_negatives, of_positives = negatives.sum(dim), positives.sum(dim)
            odds = of_negatives.unsqueeze(dim) / to_positives  # 0 where no positive is
            more = odds + 1
            lost = (odds - (more - 1)).div_(more)  # log1p(odds), to its last digits, in a fifth of its time
            loss = more.log().add_(lost)
            slope = odds.div_(more)
            pull = slope.sum(dim) / size
            pulls += slope.mul_((1 / size).unsqueeze(dim))
            against = against + (loss.sum(dim) / size).mean()
            total = torch.segment_reduce(points, "sum", lengths=sizes)
            mean = torch.linalg.vecdot(rows, total[kind]) / size
            among_all = among_all + ((of_negatives + of_positives).log() - mean).mean()
            conditional = conditional + of_positives.log().mean()
            sums += [of_negatives, of_positives, pull]
        ctx.save_for_backward(x, y, positive, size, negatives, positives, pulls, *sums)
        return against / 2, among_all / 2, conditional / 2

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        x, y, positive, size, negatives, positives, pulls, *sums = ctx.saved_tensors
        attract, among_all, conditional = (x.new_zeros(()) if g is None else g / (2 * len(x)) for g in outer)
        of_negatives, of_positives = torch.zeros_like(negatives), torch.zeros_like(negatives)
        for dim, (negative, kept, pull) in ((1, sums[:3]), (0, sums[3:])):
            everyone = among_all / (negative + kept)
            of_negatives += (attract * (pull / negative).where(negative > 0, 0) + everyone).unsqueeze(dim)
            of_positives += (conditional / kept + everyone).unsqueeze(dim)
        slope = pulls.mul(-attract).addcmul_(negatives, of_negatives).addcmul_(positives, of_positives)
        slope.diagonal().sub_(2 * conditional)
        if outer[1] is not None:
            slope -= positive * (2 * among_all / size)  # both views have as many positives
        return slope @ y, slope.T @ x, None
