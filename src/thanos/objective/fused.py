"""The parts of thanos.objective.tiled in two Triton kernels, for a GPU: no similarity ever leaves the chip.

Rows are sorted by superclass. A program takes a block of anchors past all points. In forward it keeps, for each anchor,
running log-sum-exps over negatives and over positives (an element is one or the other, so one exponential serves both)
and then, where the superclass lies, meets the positives again, each against all negatives. In backward a pair's slope
is that of its row as anchor and of its column as anchor, so that one kernel gives the gradient of either side, in a
fixed order of summation.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

WIDEST = 128
"""Dimensions up to which a block of rows and its gradient stay in registers."""
ROOMY = 196_608
"""Bytes of shared memory that the larger blocks take."""


@triton.jit
def _log_of_one_and(u):
    """``log(1 + u)`` for 0 <= u <= 1, exact for small u too."""
    one = 1.0 + u
    return tl.where(one == 1.0, u, u * tl.log(one) / tl.where(one == 1.0, 1.0, one - 1.0))


@triton.jit
def _similarity(x, y, at, n, dim, DIM: tl.constexpr, COLUMNS: tl.constexpr, PRECISION: tl.constexpr):
    """Anchors (rows, DIM) against the points from ``at`` on: their rows too."""
    columns = at + tl.arange(0, COLUMNS)
    axis = tl.arange(0, DIM)
    there = (columns[:, None] < n) & (axis[None, :] < dim)
    points = tl.load(y + columns[:, None].to(tl.int64) * dim + axis[None, :], mask=there, other=0.0)
    return tl.dot(x, tl.trans(points), input_precision=PRECISION), points


@triton.jit
def _meet(rows, label, labels, at, n, views, ITSELF: tl.constexpr, COLUMNS: tl.constexpr):
    """Which pairs are points at all, positives, and of one image."""
    columns = at + tl.arange(0, COLUMNS)
    other = tl.load(labels + columns, mask=columns < n, other=-2)
    point = (rows[:, None] < n) & (columns[None, :] < n)
    if ITSELF:
        point = point & (rows[:, None] != columns[None, :])
        own = point & (rows[:, None] // views == columns[None, :] // views)
    else:
        own = point & (rows[:, None] == columns[None, :])
    return point, point & (label[:, None] == other[None, :]), own


@triton.jit
def _sums(
    x,
    y,
    labels,
    starts,
    ends,
    out,
    n,
    dim,
    views,
    ITSELF: tl.constexpr,
    DIM: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Sums of each anchor, to ``out`` (6, n).

    Log-sum-exp over negatives and over positives, sums over positives and over the own image's views, and over
    positives of ``log(1 + e^(negatives - s))`` and of its slope.
    """
    first = tl.program_id(0) * ROWS
    rows = first + tl.arange(0, ROWS)
    axis = tl.arange(0, DIM)
    here = rows < n
    anchors = tl.load(
        x + rows[:, None].to(tl.int64) * dim + axis[None, :], mask=here[:, None] & (axis[None, :] < dim), other=0.0
    )
    label = tl.load(labels + rows, mask=here, other=-1)
    top_negative = tl.full((ROWS,), float("-inf"), tl.float32)
    top_positive = tl.full((ROWS,), float("-inf"), tl.float32)
    negative = tl.zeros((ROWS,), tl.float32)
    positive = tl.zeros((ROWS,), tl.float32)
    sum_positive = tl.zeros((ROWS,), tl.float32)
    sum_own = tl.zeros((ROWS,), tl.float32)
    for at in range(0, n, COLUMNS):
        s, _ = _similarity(anchors, y, at, n, dim, DIM, COLUMNS, PRECISION)
        point, same, own = _meet(rows, label, labels, at, n, views, ITSELF, COLUMNS)
        apart = point & ~same
        highest = tl.maximum(top_negative, tl.max(tl.where(apart, s, float("-inf")), 1))
        shift = tl.where(highest == float("-inf"), 0.0, highest)
        near = tl.maximum(top_positive, tl.max(tl.where(same, s, float("-inf")), 1))
        near_shift = tl.where(near == float("-inf"), 0.0, near)
        grown = tl.exp(s - tl.where(same, near_shift[:, None], shift[:, None]))
        negative = negative * tl.exp(top_negative - shift) + tl.sum(tl.where(apart, grown, 0.0), 1)
        positive = positive * tl.exp(top_positive - near_shift) + tl.sum(tl.where(same, grown, 0.0), 1)
        top_negative, top_positive = highest, near
        sum_positive += tl.sum(tl.where(same, s, 0.0), 1)
        sum_own += tl.sum(tl.where(own, s, 0.0), 1)
    negatives = top_negative + tl.log(negative)
    against = tl.zeros((ROWS,), tl.float32)
    pull = tl.zeros((ROWS,), tl.float32)
    start = tl.load(starts + first)
    end = tl.load(ends + tl.minimum(first + ROWS, n) - 1)
    for at in range(start, end, COLUMNS):
        s, _ = _similarity(anchors, y, at, n, dim, DIM, COLUMNS, PRECISION)
        _, same, _ = _meet(rows, label, labels, at, n, views, ITSELF, COLUMNS)
        away = negatives[:, None] - s
        small = tl.exp(-tl.abs(away))
        against += tl.sum(tl.where(same, tl.maximum(away, 0.0) + _log_of_one_and(small), 0.0), 1)
        pull += tl.sum(tl.where(same, tl.where(away > 0, 1.0, small) / (1.0 + small), 0.0), 1)
    tl.store(out + rows, negatives, mask=here)
    tl.store(out + n + rows, top_positive + tl.log(positive), mask=here)
    tl.store(out + 2 * n + rows, sum_positive, mask=here)
    tl.store(out + 3 * n + rows, sum_own, mask=here)
    tl.store(out + 4 * n + rows, against, mask=here)
    tl.store(out + 5 * n + rows, pull, mask=here)


@triton.jit
def _slope(
    s,
    known,
    places,
    n,
    same,
    point,
    conditional,
    among_all,
    DOWN: tl.constexpr,
    ATTRACT: tl.constexpr,
    AMONG_ALL: tl.constexpr,
    CONDITIONAL: tl.constexpr,
):
    """The derivative of the loss by the similarities, for the anchors at ``places``: rows, or the columns (DOWN).

    ``known`` (6, n) holds log-sum-exps over negatives, positives and all points, and the weights of the softmax over
    negatives, of each positive against the negatives, and of each positive among all points.
    """
    axis: tl.constexpr = 0 if DOWN else 1
    there = places < n
    slope = tl.zeros_like(s)
    if ATTRACT:
        negatives = tl.expand_dims(tl.load(known + places, mask=there, other=0.0), axis)
        pulled = tl.expand_dims(tl.load(known + 3 * n + places, mask=there, other=0.0), axis)
        attract = tl.expand_dims(tl.load(known + 4 * n + places, mask=there, other=0.0), axis)
        away = s - negatives
        grown = tl.exp(tl.minimum(away, -away))  # of -|away|: numbers on either side
        # a negative is in the sum: away <= 0; a positive meets it: sigmoid(-away)
        push = tl.where(away > 0, grown, 1.0) / (1.0 + grown)
        slope += tl.where(same, -attract * push, tl.where(point, pulled * tl.where(away > 0, 1.0, grown), 0.0))
    if CONDITIONAL:
        positives = tl.expand_dims(tl.load(known + n + places, mask=there, other=0.0), axis)
        slope += tl.where(same, conditional * tl.exp(tl.minimum(s - positives, 0.0)), 0.0)
    if AMONG_ALL:
        everyone = tl.expand_dims(tl.load(known + 2 * n + places, mask=there, other=0.0), axis)
        each = tl.expand_dims(tl.load(known + 5 * n + places, mask=there, other=0.0), axis)
        slope += tl.where(point, among_all * tl.exp(tl.minimum(s - everyone, 0.0)), 0.0) - tl.where(same, each, 0.0)
    return slope


@triton.jit
def _gradient(
    x,
    y,
    labels,
    known,
    known_points,
    weights,
    dx,
    n,
    dim,
    views,
    ITSELF: tl.constexpr,
    ATTRACT: tl.constexpr,
    AMONG_ALL: tl.constexpr,
    CONDITIONAL: tl.constexpr,
    DIM: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """The gradient of one side's rows, as anchors and as the other side's points, to ``dx``."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    axis = tl.arange(0, DIM)
    inside = (rows[:, None] < n) & (axis[None, :] < dim)
    place = rows[:, None].to(tl.int64) * dim + axis[None, :]
    anchors = tl.load(x + place, mask=inside, other=0.0)
    label = tl.load(labels + rows, mask=rows < n, other=-1)
    conditional = tl.load(weights)
    among_all = tl.load(weights + 1)
    own_weight = tl.load(weights + 2)
    total = tl.zeros((ROWS, DIM), tl.float32)
    for at in range(0, n, COLUMNS):
        s, points = _similarity(anchors, y, at, n, dim, DIM, COLUMNS, PRECISION)
        point, same, own = _meet(rows, label, labels, at, n, views, ITSELF, COLUMNS)
        columns = at + tl.arange(0, COLUMNS)
        slope = _slope(s, known, rows, n, same, point, conditional, among_all, False, ATTRACT, AMONG_ALL, CONDITIONAL)
        slope += _slope(
            s, known_points, columns, n, same, point, conditional, among_all, True, ATTRACT, AMONG_ALL, CONDITIONAL
        )
        if CONDITIONAL:
            slope -= tl.where(own, own_weight, 0.0)
        total = tl.dot(slope, points, total, input_precision=PRECISION)
    tl.store(dx + place, total, mask=inside)


SMALL = {"ROWS": 32, "COLUMNS": 16, "num_warps": 4, "num_stages": 1}
ROOMY_FEW = {"ROWS": 32, "COLUMNS": 64, "num_warps": 4, "num_stages": 2}
ROOMY_MANY = {"ROWS": 128, "COLUMNS": 64, "num_warps": 8, "num_stages": 1}
"""Fastest on a Hopper GPU (results/kernel_blocks.json) for few rows, which short blocks spread over more of it, and for
those that fill it with long ones."""
MANY = 16_384


def blocks(dim: int, *, large: bool, count: int = 0) -> dict[str, int]:
    """What a program holds at a time, of ``count`` rows of ``dim`` dimensions; large blocks are for a Hopper GPU."""
    sides = SMALL if not large else ROOMY_MANY if count >= MANY else ROOMY_FEW
    return {"DIM": max(16, triton.next_power_of_2(dim)), **sides}


def _blocks(rows: Tensor) -> dict[str, int]:
    if not rows.is_cuda:
        return blocks(rows.shape[1], large=False)
    device = torch.cuda.get_device_properties(rows.device)
    roomy = device.major >= 9 and getattr(device, "shared_memory_per_block_optin", 0) >= ROOMY
    return blocks(rows.shape[1], large=roomy and torch.version.hip is None, count=len(rows))


def _precision() -> str:
    """Products as exact as torch is told to make them; ``highest`` is three passes, as near to float32 as it gets."""
    if torch.version.hip is not None:
        return "ieee"
    return "tf32x3" if torch.get_float32_matmul_precision() == "highest" else "tf32"


class FusedParts(torch.autograd.Function):
    """As the tiles of thanos.objective.tiled, without waiting for the device."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor | None, label: Tensor, views: int) -> tuple[Tensor, ...]:
        """Means of the three parts over the anchors of x, and of y if there is one.

        Args:
            x: Rows sorted by superclass, float32, (n, dim), whose products are similarities; dim at most WIDEST.
            y: The same images in another view; None: x against itself.
            label: In order, shape (n,).
            views: Neighbouring rows that show one image.
        """
        ctx.set_materialize_grads(False)
        n, dim = x.shape
        starts = torch.searchsorted(label, label, out_int32=True)
        ends = torch.searchsorted(label, label, right=True, out_int32=True)
        sizes = _blocks(x)
        positives = (ends - starts).float() - (1 if y is None else 0)
        own = views - 1 if y is None else 1
        sides = ((x, x),) if y is None else ((x, y), (y, x))
        parts, known = [], []
        for anchors, points in sides:
            out = x.new_empty(6, n)
            _sums[triton.cdiv(n, sizes["ROWS"]),](
                anchors, points, label, starts, ends, out, n, dim, views, ITSELF=y is None, PRECISION=_precision(),
                **sizes,
            )  # fmt: skip
            negative, positive, sum_positive, sum_own, against, pull = out
            everyone = torch.logaddexp(negative, positive)
            attract, among_all = against / positives, everyone - sum_positive / positives
            parts.append(torch.stack([attract.mean(), among_all.mean(), (positive - sum_own / own).mean()]))
            known += [torch.stack([negative, positive, everyone, pull / positives])]
        ctx.save_for_backward(x, y, label, positives, *known)
        ctx.facts = (views, own)
        return tuple(torch.stack(parts).mean(dim=0))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Tensor | None) -> tuple[Tensor | None, ...]:
        x, y, label, positives, *known = ctx.saved_tensors
        views, own = ctx.facts
        n, dim = x.shape
        share = 1 / n / (1 if y is None else 2)
        attract, among_all, conditional = (x.new_zeros(()) if g is None else g * share for g in outer)
        # a pair shows one image to its row and to its column as anchors
        weights = torch.stack([conditional, among_all, 2 * conditional / own])
        tables = [
            torch.cat([each[:3], torch.stack([attract * each[3], attract / positives, among_all / positives])])
            for each in known
        ]
        sides = [(x, x, tables[0], tables[0])]
        if y is not None:
            sides = [(x, y, tables[0], tables[1]), (y, x, tables[1], tables[0])]
        sizes = _blocks(x)
        gradients = []
        for anchors, points, table, other in sides:
            gradient = torch.empty_like(anchors)
            _gradient[triton.cdiv(n, sizes["ROWS"]),](
                anchors, points, label, table, other, weights, gradient, n, dim, views, ITSELF=y is None,
                ATTRACT=outer[0] is not None, AMONG_ALL=outer[1] is not None, CONDITIONAL=outer[2] is not None,
                PRECISION=_precision(), **sizes,
            )  # fmt: skip
            gradients.append(gradient)
        return gradients[0], None if y is None else gradients[1], None, None
