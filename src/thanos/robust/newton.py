"""A weighting of logistic losses and an L2 penalty, minimised by Newton's method: two classes have one logit.

The costly part of the Hessian is kept from step to step while steps made with it still help, and the rest is exact.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float64]
Ids = NDArray[np.int64]
Weigh = Callable[[Rows], tuple[float, Rows, Rows | None]]
"""From the images' losses (n,) to a value, its gradient (n,), and C (n, r) with C @ C.T its Hessian; None: zero."""
STEPS = 500
SINGLE = 1_000_000
"""From so many numbers on, Hessians are summed in single precision; gradients never are."""
LEAST = 1e-3
"""Objectives below it (of one class the least is zero, at an infinite bias) are found to a share of it."""
KEPT = 0.1
"""A Hessian is kept while it brings the squared Newton decrement down by this factor."""


@dataclass(frozen=True)
class Basis:
    """Vectors in coordinates of the space that their rows span, which is where every optimum lies."""

    rows: Rows
    """(n, r)"""
    axes: Rows | None
    """(dim, r), orthonormal; None: the coordinates as they are."""
    single: NDArray[np.float32] | None
    """The rows in single precision, where they are many."""

    @classmethod
    def of(cls, x: Rows) -> "Basis":
        """Of vectors (n, dim)."""
        axes, rows = None, x
        if len(x) < x.shape[1]:
            axes, triangle = np.linalg.qr(x.T)
            rows = np.ascontiguousarray(triangle.T)
        return cls(rows, axes, rows.astype(np.float32) if rows.size >= SINGLE else None)

    def into(self, vector: Rows) -> Rows:
        return vector if self.axes is None else vector @ self.axes

    def back(self, vector: Rows) -> Rows:
        return vector if self.axes is None else self.axes @ vector

    def logit(self, flat: Rows) -> Rows:
        """Of weights and bias (r + 1,)."""
        return np.asarray(self.rows @ flat[:-1] + flat[-1])

    def gradient(self, slope: Rows) -> Rows:
        """By weights and bias, from that by logit."""
        return np.append(slope @ self.rows, slope.sum())

    def hessian(self, curvature: Rows) -> Rows:
        """By weights and bias, from the second derivative of each image's loss by its logit."""
        rows: NDArray[Any] = self.rows if self.single is None else self.single
        scaled = rows * np.sqrt(curvature).astype(rows.dtype)[:, None]
        whole = np.empty((rows.shape[1] + 1,) * 2)
        whole[:-1, :-1] = scaled.T @ scaled
        whole[-1] = whole[:, -1] = self.gradient(curvature)
        rounding = len(whole) * float(np.finfo(rows.dtype).eps) / 8
        whole[np.diag_indices(len(whole))] += rounding * np.trace(whole) / len(whole)
        return whole


def minimise(
    basis: Basis,
    y: Ids,
    weigh: Weigh,
    penalty: Rows,
    start: Rows,
    offset: Rows | float = 0.0,
    tolerance: float = 1e-9,
) -> Rows:
    """Weights and bias (r + 1,) at the minimum of ``weigh(losses) + penalty / 2 @ flat**2``.

    Args:
        basis: Of the vectors.
        y: Their class, 0 or 1.
        weigh: Of the losses; convex, its gradient not negative.
        penalty: Of each weight and of the bias, (r + 1,).
        start: Where to begin.
        offset: Added to the logits.
        tolerance: What is left to gain, as a share of the objective.
    """
    from scipy.linalg import cho_factor, cho_solve

    sign = 2.0 * y - 1
    flat, logit = start, basis.logit(start) + offset
    base, last, fresh = None, np.inf, False
    for _ in range(STEPS):
        value, share, bend = weigh(np.logaddexp(0, -sign * logit))
        value += float(penalty @ flat**2) / 2
        probability = 0.5 * (1 + np.tanh(logit / 2))
        residual = probability - y
        gradient = basis.gradient(share * residual) + penalty * flat
        enough = 2 * tolerance * max(value, LEAST)
        while True:
            if base is None:
                base, fresh = basis.hessian(share * probability * (1 - probability)), True
            hessian = base.copy()
            hessian[np.diag_indices(len(flat))] += penalty
            if bend is not None:
                turned = residual[:, None] * bend
                factor = np.vstack([basis.rows.T @ turned, turned.sum(axis=0)])
                hessian += factor @ factor.T
            step = -cho_solve(cho_factor(hessian, overwrite_a=True, check_finite=False), gradient)
            decrement = -float(gradient @ step)
            if fresh or decrement <= max(KEPT * last, enough):
                break
            base = None  # it no longer helps
        if decrement <= enough:
            break
        along, size = basis.logit(step), 1.0
        while size > 1e-10:
            moved = flat + size * step
            there = weigh(np.logaddexp(0, -sign * (logit + size * along)))[0] + float(penalty @ moved**2) / 2
            if there <= value - 1e-4 * size * decrement:
                break
            size /= 2
        else:
            break  # rounding is all that is left
        flat, logit = moved, logit + size * along
        last, fresh = decrement, False
    return flat
