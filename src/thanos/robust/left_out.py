"""What a head would say of each training image had it been fitted without it: leave-one-out in the place of n fits.

From the optimum one Newton step takes an image out (Rad and Maleki, JRSS B 2020), which tells how far its logits fall
back; what a head says of images that it was fitted on is no evidence. Weights of the other images stay as they are at
the optimum. More than two classes share one Hessian, that of an image's mean curvature over directions in which
logits differ; of two classes it is their own.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from thanos.robust.head import Head, Standardised, softmax
from thanos.robust.newton import Basis

Rows = NDArray[np.float64]
Ids = NDArray[np.int64]
LEAST = 0.02
"""Of its curvature so much at least is not an image's own: what one image alone decides is not known to be wrong by
how much."""
RIDGE = 1e-3
"""Of a sparse head's mean curvature, added to all of it: an L1 penalty has none."""


def left_out_logits(head: Head, data: Standardised, strength: float, *, near: bool = False) -> Rows:
    """Logits (n, classes) of training images, each by the head fitted without it.

    Args:
        head: At the optimum, as ``fit_weighted``, ``fit_groupdro``, ``fit_pairs`` and ``fit_near`` leave it.
        data: What it was fitted on.
        strength: Of its penalty.
        near: The penalty is on the distance from another head, bias and all (``fit_near``).
    """
    assert head.share is not None
    logits = head.of_standardised(data.x)
    probability = softmax(logits)
    present = max(len(np.unique(data.y)), 2)  # a class without images has no logit to differ in
    curvature = head.share * (1 - (probability**2).sum(axis=1)) / (present - 1)
    probability[np.arange(len(logits)), data.y] -= 1
    return np.asarray(logits + (_step(data.basis, curvature, strength, near) * head.share)[:, None] * probability)


def left_out_of_draw(head: Head, x: Rows, y: Ids, drawn: Ids) -> Rows:
    """Logits (n, classes) of images, those of a draw each by the sparse head fitted without it.

    Args:
        head: With an L1 penalty: where a weight is zero it stays so, elsewhere the penalty has no curvature. Of more
            than two classes each was told from the rest.
        x: Standardised embeddings (n, dim).
        y: Their class, (n,).
        drawn: Rows that it was fitted on, each once.
    """
    logits, two = head.of_standardised(x), len(head.weight) == 2
    for kind in (1,) if two else np.unique(y[drawn]):
        logit = logits[drawn, 1] - logits[drawn, 0] if two else logits[drawn, kind]
        probability = 0.5 * (1 + np.tanh(logit / 2))
        curvature = probability * (1 - probability)
        basis = Basis(x[np.ix_(drawn, np.flatnonzero(head.weight[kind]))], None, None)
        step = _step(basis, curvature, RIDGE * float(curvature.sum())) * (probability - (y[drawn] == kind))
        if two:
            logits[drawn] += step[:, None] * (-0.5, 0.5)
        else:
            logits[drawn, kind] += step
    return logits


def _step(basis: Basis, curvature: Rows, strength: float, near: bool = False) -> Rows:
    """How far an image's logit moves when it is left out, for each unit of its slope, (n,).

    From its leverage, the inverse Hessian of weights and bias between its vector and itself.
    """
    from scipy.linalg import cho_factor, solve_triangular

    rows: NDArray[Any] = basis.rows if basis.single is None else basis.single
    hessian = basis.hessian(curvature)
    hessian[np.diag_indices(len(hessian))] += np.append(np.full(len(hessian) - 1, strength), strength * near)
    factor = cho_factor(hessian.astype(rows.dtype), lower=True, overwrite_a=True, check_finite=False)[0]
    across = np.ones((len(rows), rows.shape[1] + 1), dtype=rows.dtype)
    across[:, :-1] = rows
    across = solve_triangular(factor, across.T, lower=True, overwrite_b=True, check_finite=False)
    lever = np.einsum("ij,ij->j", across, across, dtype=np.float64)
    return np.asarray(lever / np.maximum(1 - curvature * lever, LEAST))
