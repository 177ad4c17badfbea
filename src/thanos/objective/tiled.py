"""The contrastive losses in memory linear in the batch: tile by tile, with the similarities computed again in backward.

One algorithm serves all losses. They are sums over anchors of three parts (see thanos.objective.contrastive): positives
against negatives, positives against all points, and the own image against its superclass. Each needs, for an anchor, no
more than the log-sum-exp over its negatives and over its positives and two sums over positives; gradients follow from
these and one more look at each tile.

Rows are sorted by superclass, so that most tiles hold negatives only and need no mask. A tile serves its rows and its
columns as anchors at once: in cross-view contrast these are the two directions of a pair of views, in all-view contrast
the two triangles of the symmetric matrix, of which only one is computed. A pair of views that fits one tile needs none
of this (thanos.objective.dense). On a GPU with Triton the tiles stay on the chip (thanos.objective.fused).
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import softplus

from thanos.objective.dense import DenseParts

SIDE = 640
"""The largest side of a tile: it stays in a core's cache."""
SIDE_ELSEWHERE = 4096
"""Not measured yet: on a GPU, few large tiles."""
SHORTEST = 1e-6
"""Shorter rows are not brought to unit length: their gradients would be without bound."""
LARGEST = 32.0
"""Up to this similarity exponentials, their sums over a batch and the products of two such are numbers in float32."""

_Way = tuple[int, "_Side", slice]
"""Anchors of a tile: the dimension that is summed, the side and their places."""
_Block = tuple[slice, int, int]
"""Neighbouring rows, with the first and the last superclass among them."""


class Parts(NamedTuple):
    """Means over anchors, in nats."""

    attract: Tensor
    """Each positive against all negatives."""
    among_all: Tensor
    """Each positive against all points."""
    class_conditional: Tensor
    """The own image against its superclass."""


def tiled_parts(views: Tensor, superclass: Tensor, *, temperature: float, all_view: bool) -> Parts:
    """The three parts.

    Args:
        views: Projections of any length, shape (views, batch, dim), float32 or float64.
        superclass: Class ids, shape (batch,).
        temperature: Divisor of the cosine, > 0.
        all_view: Contrast each view with all views of the batch, instead of pairs of views.
    """
    count = len(views)
    order = superclass.argsort(stable=True)
    label = superclass[order]
    rows = _Rows.apply(views, order, temperature**-0.5, all_view)
    parts = partial(_Tiles.apply, _is_narrow(temperature)) if (fused := _fused(rows)) is None else fused
    if all_view:
        return Parts(*parts(rows, None, label.repeat_interleave(count, output_size=len(rows)), count))
    views = rows.unbind(0)  # their gradients are laid side by side, where those of rows[i] would each fill all of rows
    dense = is_dense(rows.device, len(label), temperature)
    apart = [(views[i], views[j]) for i in range(count) for j in range(i)]
    pairs = [DenseParts.apply(*pair, label) if dense else parts(*pair, label, 1) for pair in apart]
    return Parts(*(torch.stack(part).mean() for part in zip(*pairs, strict=True)))


def is_dense(device: torch.device, batch: int, temperature: float) -> bool:
    """Whether a pair of views of so many images needs no tiles."""
    return device.type == "cpu" and batch <= SIDE and _is_narrow(temperature)


def _is_narrow(temperature: float) -> bool:
    return 1 / temperature <= LARGEST


def _fused(rows: Tensor) -> Callable[..., tuple[Tensor, ...]] | None:
    """The kernels, where there are any for such rows."""
    if not rows.is_cuda or rows.dtype != torch.float32:
        return None
    try:
        from thanos.objective.fused import WIDEST, FusedParts
    except ModuleNotFoundError:  # Triton is not made for every system
        return None
    return FusedParts.apply if rows.shape[-1] <= WIDEST else None


class _Rows(torch.autograd.Function):
    """Rows sorted and brought to one length, of which forward and backward keep no other copy."""

    @staticmethod
    def forward(ctx: Any, views: Tensor, order: Tensor, length: float, together: bool) -> Tensor:
        """Shape (views, batch, dim); or, if an image's views stand together, (batch * views, dim)."""
        norm = torch.linalg.vector_norm(views, dim=-1)
        factor = length / norm.clamp_min(SHORTEST)
        ctx.save_for_backward(views, order, norm, factor)
        ctx.together = together
        if together:
            rows = views.transpose(0, 1).index_select(0, order)
            return rows.mul_(factor.T[order].unsqueeze(-1)).flatten(0, 1)
        return views.index_select(1, order).mul_(factor[:, order].unsqueeze(-1))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, ...]:
        views, order, norm, factor = ctx.saved_tensors
        if ctx.together:
            outer = outer.unflatten(0, (len(order), len(views))).transpose(0, 1)
        inner = outer.index_select(1, order.argsort()).mul_(factor.unsqueeze(-1))
        along = torch.linalg.vecdot(views, inner) / norm.square()  # what would change the length only
        inner.addcmul_(views, along.where(norm > SHORTEST, 0).unsqueeze(-1), value=-1)
        return inner, None, None, None


class _Side:
    """What is known of the anchors on one side of the tiles; all of shape (anchors,)."""

    def __init__(self, like: Tensor, positives: Tensor, own: int):
        count = len(like)
        self.positives, self.own = positives.to(like.dtype), own
        """Positives of each anchor, and how many of them show its own image."""
        self.highest = like.new_full((2, count), -torch.inf)
        """Of negatives, of positives."""
        self.total = like.new_zeros(2, count)
        """Of ``e^(s - highest)``."""
        self.sum_positive, self.sum_own = like.new_zeros(count), like.new_zeros(count)
        self.against, self.pull = like.new_zeros(count), like.new_zeros(count)
        """Over positives: of ``log(1 + e^(negatives - s))``, and of its slope."""

    def log_sums(self) -> tuple[Tensor, Tensor, Tensor]:
        """Over negatives, positives, all; -inf where there are none."""
        negatives, positives = self.highest + self.total.log()
        return negatives, positives, torch.logaddexp(negatives, positives)


class _Tile(NamedTuple):
    rows: slice
    columns: slice
    positive: Tensor | bool
    """Which pairs are positives; True or False where all or none are."""
    negative: Tensor | bool
    """Which are negatives."""
    own: Tensor | None
    """Which pairs show one image; None: none do."""
    both_ways: bool
    """Whether the columns are anchors too."""
    itself: Tensor | None
    """The anchor itself, which is no point."""


class _Tiles(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, narrow: bool, x: Tensor, y: Tensor | None, label: Tensor, views: int) -> tuple[Tensor, ...]:
        """Means of the three parts over the anchors of x, and of y if there is one.

        Args:
            narrow: Whether no similarity is beyond LARGEST.
            x: Sorted rows, (n, dim), whose products are similarities.
            y: The same images in another view; None: x against itself.
            label: In order, shape (n,).
            views: Neighbouring rows that show one image.
        """
        ctx.set_materialize_grads(False)  # parts that no loss uses cost nothing
        label, sizes = label.unique_consecutive(return_inverse=True, return_counts=True)[1:]
        size = sizes[label]
        side = _Side(x[:, 0], size - 1 if y is None else size, views - 1 if y is None else 1)
        other = side if y is None else _Side(x[:, 0], size, 1)
        blocks = _blocks(sizes.tolist(), views, SIDE if x.device.type == "cpu" else SIDE_ELSEWHERE)
        points = x if y is None else y
        for tile in _tiles(label, blocks, views, symmetric=y is None):
            if tile.negative is not False:
                similarity = x[tile.rows] @ points[tile.columns].T
                grown = similarity.exp_() if narrow else similarity
                _add_exponentials(grown, 0, tile.negative, _ways(tile, side, other), narrow)
        negatives = [each.log_sums()[0] for each in (side, other)]
        for tile in _tiles(label, blocks, views, symmetric=y is None):
            if tile.positive is not False:
                similarity = x[tile.rows] @ points[tile.columns].T
                _meet_positives(similarity, tile, _ways(tile, side, other), negatives, narrow)
        sums = [each.log_sums() for each in (side, other)]
        ctx.save_for_backward(x, y, label, side.positives, side.pull, other.pull, *sums[0], *sums[1])
        ctx.facts = (blocks, views, side.own, narrow)
        sides = (side,) if y is None else (side, other)
        parts = []
        for each, (_, positives, everyone) in zip(sides, sums, strict=False):
            mean = each.sum_positive / each.positives
            conditional = positives - each.sum_own / each.own
            parts.append(
                torch.stack([(each.against / each.positives).mean(), (everyone - mean).mean(), conditional.mean()])
            )
        return tuple(torch.stack(parts).mean(dim=0))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        x, y, label, positives, pull, other_pull, *sums = ctx.saved_tensors
        blocks, views, own, narrow = ctx.facts
        share = 1 / len(x) / (1 if y is None else 2)
        attract, among_all, conditional = (x.new_zeros(()) if g is None else g * share for g in outer)
        meets_all = outer[1] is not None  # known without waiting for the device
        points = x if y is None else y
        dx = torch.zeros_like(x)
        dy = dx if y is None else torch.zeros_like(y)
        ways = []
        for pulled, (negative, positive, everyone) in ((pull, sums[:3]), (other_pull, sums[3:])):
            weight = attract * pulled / positives
            ways.append(_Slopes(weight, negative, positive, everyone, attract / positives, among_all / positives))
        for tile in _tiles(label, blocks, views, symmetric=y is None):
            similarity = x[tile.rows] @ points[tile.columns].T
            slope = _slope(similarity, tile, ways, among_all if meets_all else None, conditional, own, narrow)
            dx[tile.rows].addmm_(slope, points[tile.columns])
            dy[tile.columns].addmm_(slope.T, x[tile.rows])
        return None, dx, None if y is None else dy, None, None


def _tiles(label: Tensor, blocks: list[_Block], views: int, *, symmetric: bool) -> Iterator[_Tile]:
    """All tiles, or in a symmetric matrix those of its upper triangle; masks live as long as their tile."""
    place = torch.arange(len(label), device=label.device) // views
    for i, (rows, first, last) in enumerate(blocks):
        for j, (columns, start, stop) in enumerate(blocks):
            if symmetric and j < i:
                continue
            positive: Tensor | bool = not (last < start or stop < first)
            negative: Tensor | bool = not first == last == start == stop
            if positive and negative:
                positive = label[rows, None] == label[None, columns]
                negative = ~positive
            itself = own = None
            if i == j:
                own = place[rows, None] == place[None, columns]
                if symmetric:
                    itself = torch.eye(len(own), dtype=torch.bool, device=label.device)
                    own, positive = own & ~itself, ~itself & positive
            yield _Tile(rows, columns, positive, negative, own, not (symmetric and i == j), itself)


def _blocks(sizes: list[int], views: int, side: int) -> list[_Block]:
    """Parts of a large superclass, or several small ones.

    Args:
        sizes: Rows of each superclass.
        views: No block ends between rows that show one image.
        side: The longest of a block.
    """
    found: list[_Block] = []
    start = first = end = 0
    for kind, size in enumerate(sizes):
        if end > start and (size > side // 4 or end + size - start > side):
            found.append((slice(start, end), first, kind - 1))
            start, first = end, kind
        end += size
        if size > side // 4:
            chunk = -(-size // -(-size // side))
            chunk = max(1, -(-chunk // views)) * views
            found += [(slice(at, min(at + chunk, end)), kind, kind) for at in range(start, end, chunk)]
            start, first = end, kind + 1
    return [*found, (slice(start, end), first, len(sizes) - 1)] if end > start else found


def _ways(tile: _Tile, side: _Side, other: _Side) -> list[_Way]:
    """The anchors that a tile serves."""
    found = [(1, side, tile.rows)]
    return [*found, (0, other, tile.columns)] if tile.both_ways else found


def _add_exponentials(similarity: Tensor, kind: int, mask: Tensor | bool, ways: list[_Way], narrow: bool) -> None:
    """Add a tile's negatives (kind 0) or positives (1) to the log-sum-exps of its anchors.

    Where similarities are narrow they come as exponentials, for no shift is needed.
    """
    if narrow:
        mine = similarity * mask if isinstance(mask, Tensor) else similarity
        for dim, anchors, here in ways:
            anchors.highest[kind, here] = 0
            anchors.total[kind, here] += mine.sum(dim)
        return
    seen = similarity.masked_fill(~mask, -torch.inf) if isinstance(mask, Tensor) else similarity
    for dim, anchors, here in ways:
        before = anchors.highest[kind, here]
        highest = torch.maximum(before, seen.amax(dim))
        shift = highest.where(highest.isfinite(), 0)
        new = (seen - shift.unsqueeze(dim)).exp_().sum(dim)
        anchors.total[kind, here] = anchors.total[kind, here] * (before - shift).exp() + new
        anchors.highest[kind, here] = highest


def _meet_positives(similarity: Tensor, tile: _Tile, ways: list[_Way], negatives: list[Tensor], narrow: bool) -> None:
    """Add a tile's positives to the sums of its anchors, each also against all negatives; the tile is used up."""
    for dim, anchors, here in ways:
        masked = similarity.where(tile.positive, 0) if isinstance(tile.positive, Tensor) else similarity
        anchors.sum_positive[here] += masked.sum(dim)
        if tile.own is not None:
            anchors.sum_own[here] += similarity.where(tile.own, 0).sum(dim)
    if narrow:
        similarity.exp_()
    _add_exponentials(similarity, 1, tile.positive, ways, narrow)
    for (dim, anchors, here), known in zip(ways, negatives, strict=False):
        log_sum = known[here].unsqueeze(dim)
        if narrow:
            odds = log_sum.exp() / similarity
            loss, slope = odds.log1p(), odds / (odds + 1)
        else:
            loss, slope = softplus(log_sum - similarity, threshold=50), (log_sum - similarity).sigmoid_()
        if isinstance(tile.positive, Tensor):
            loss, slope = loss.mul_(tile.positive), slope.mul_(tile.positive)
        anchors.against[here] += loss.sum(dim)
        anchors.pull[here] += slope.sum(dim)


class _Slopes(NamedTuple):
    """What backward knows of the anchors on one side; all of shape (anchors,)."""

    pulled: Tensor
    """Weight of the softmax over negatives."""
    negatives: Tensor
    positives: Tensor
    everyone: Tensor
    attract: Tensor
    """Weight of each positive against the negatives."""
    among_all: Tensor
    """Weight of each positive among all."""


def _slope(
    similarity: Tensor,
    tile: _Tile,
    ways: list[_Slopes],
    among_all: Tensor | None,
    conditional: Tensor,
    own: int,
    narrow: bool,
) -> Tensor:
    """The derivative of the loss by the similarities of a tile, for its rows and its columns as anchors."""
    known = [(ways[0], tile.rows, 1), (ways[1], tile.columns, 0)][: 2 if tile.both_ways else 1]
    negative = tile.negative
    grown = similarity.exp_() if narrow else None

    def softmaxes(each: list[tuple[Tensor, Tensor, int]]) -> Tensor:
        return _softmaxes(similarity, each) if grown is None else grown * _factor(each)

    if negative is True and among_all is None:
        each = [(w.pulled[at], w.negatives[at], dim) for w, at, dim in known]
        return _softmaxes(similarity, each) if grown is None else grown.mul_(_factor(each))
    result = torch.zeros(())
    if tile.positive is not False:
        result = softmaxes([(conditional.expand(1), w.positives[at], dim) for w, at, dim in known])
        for way, at, dim in known:
            log_sum, weight = way.negatives[at].unsqueeze(dim), way.attract[at].unsqueeze(dim)
            if grown is None:
                result -= (log_sum - similarity).sigmoid_().mul_(weight)
            else:
                odds = log_sum.exp()
                result -= torch.div(odds * weight, grown + odds)
            if among_all is not None:
                result -= way.among_all[at].unsqueeze(dim)
        if tile.positive is not True:
            result *= tile.positive
    if tile.own is not None:  # an image is among its positives
        result -= tile.own * (conditional / own * len(known))
    if negative is not False:
        softmax = softmaxes([(w.pulled[at], w.negatives[at], dim) for w, at, dim in known])
        softmax = softmax if negative is True else softmax.mul_(negative)
        result = softmax if tile.positive is False else result.add_(softmax)
    if among_all is not None:
        everyone = softmaxes([(among_all.expand(1), w.everyone[at], dim) for w, at, dim in known])
        result += everyone if tile.itself is None else everyone.masked_fill_(tile.itself, 0)
    return result


def _factor(ways: list[tuple[Tensor, Tensor, int]]) -> Tensor:
    """``sum over ways of weight * e^-log_sum``; nothing for anchors whose log_sum is -inf."""
    each = [(weight * (-log_sum).exp()).where(log_sum.isfinite(), 0).unsqueeze(dim) for weight, log_sum, dim in ways]
    return each[0] if len(each) == 1 else each[0] + each[1]


def _softmaxes(similarity: Tensor, ways: list[tuple[Tensor, Tensor, int]]) -> Tensor:
    """``sum over ways of weight * e^(s - log_sum)``; nothing for anchors whose log_sum is -inf."""
    terms = [
        (weight.unsqueeze(dim) * (similarity - log_sum.unsqueeze(dim)).clamp_(max=0).exp_()).where(
            log_sum.isfinite().unsqueeze(dim), 0
        )
        for weight, log_sum, dim in ways
    ]
    return terms[0] if len(terms) == 1 else terms[0] + terms[1]
