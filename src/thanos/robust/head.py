"""Linear heads on frozen embeddings: every method's last stage as a convex problem, solved in seconds.

All of them minimise a weighting of the images' cross-entropies plus ``strength / 2 * |weight|^2`` on standardised
embeddings, from the same start, by L-BFGS; they differ in how the images are weighed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from thanos.errors import DataError
from thanos.storage import read_npz, write_atomically

Rows = NDArray[np.float64]
Ids = NDArray[np.int64]
SHARPNESS = (1.0, 10.0, 100.0, 1000.0)
"""How sharply GroupDRO's maximum over groups is taken, from step to step; the last one is off by log(groups) / 1000."""


@dataclass(frozen=True)
class Head:
    """``(x - mean) / scale @ weight.T + bias``."""

    weight: Rows
    """(classes, dim)"""
    bias: Rows
    """(classes,)"""
    mean: Rows
    scale: Rows
    encoder: str = ""
    """The fingerprint of the encoder whose embeddings it is for; empty: not known."""

    def logits(self, vectors: NDArray) -> Rows:
        """Of embeddings (n, dim), shape (n, classes)."""
        return np.asarray((vectors - self.mean) / self.scale @ self.weight.T + self.bias)

    def predict(self, vectors: NDArray) -> Ids:
        return np.asarray(self.logits(vectors).argmax(axis=1))

    def probabilities(self, vectors: NDArray) -> Rows:
        logits = self.logits(vectors)
        grown = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(grown / grown.sum(axis=1, keepdims=True))


def write_head(head: Head, superclass_names: tuple[str, ...], path: Path | str) -> None:
    """One .npz that numpy alone reads: the fields of :class:`Head` and ``superclass_names``."""
    write_atomically(Path(path), lambda file: np.savez(file, **vars(head), superclass_names=np.array(superclass_names)))


def read_head(path: Path | str) -> tuple[Head, tuple[str, ...]]:
    """A head and its superclasses.

    Raises:
        DataError: if the file holds none, or one whose numbers cannot be those of a classifier.
    """
    file = read_npz(Path(path))
    try:
        names = tuple(str(name) for name in file["superclass_names"])
        arrays = [file[name].astype(np.float64) for name in ("weight", "bias", "mean", "scale")]
    except (KeyError, ValueError, TypeError):
        raise DataError(
            f"a classifier's .npz, as thanos robust writes it, is wanted; {path} holds no weight, bias, mean, scale "
            f"and superclass_names."
        ) from None
    encoder = str(file.get("encoder", ""))
    weight, bias, mean, scale = arrays
    classes, dim = weight.shape if weight.ndim == 2 else (-1, -1)
    fault = None
    if (bias.shape, mean.shape, scale.shape) != ((classes,), (dim,), (dim,)):
        fault = "its weight, bias, mean and scale do not fit together"
    elif len(names) != classes:
        fault = f"it has {classes} rows of weights for {len(names)} superclasses"
    elif not all(np.isfinite(each).all() for each in arrays) or (scale <= 0).any():
        fault = "not all its numbers are finite, or a scale is not above 0"
    if fault:
        raise DataError(f"{path} is damaged: {fault}. Make it anew: thanos robust --help")
    return Head(weight, bias, mean, scale, encoder), names


def is_head(file: Path) -> bool:
    """Whether it holds a head."""
    try:
        read_head(file)
    except DataError:
        return False
    return True


@dataclass(frozen=True)
class Standardised:
    """Training embeddings with zero mean and unit deviation, and what brought them there."""

    x: Rows
    y: Ids
    classes: int
    mean: Rows
    scale: Rows

    def take(self, rows: Ids) -> "Standardised":
        return Standardised(self.x[rows], self.y[rows], self.classes, self.mean, self.scale)


def standardise(vectors: NDArray, superclass: Ids, classes: int) -> Standardised:
    """Embeddings (n, dim) with their superclass (n,) of ``classes``."""
    x = vectors.astype(np.float64)
    mean, scale = x.mean(axis=0), x.std(axis=0)
    scale = np.maximum(scale, 1e-6 * (scale.max(initial=0.0) or 1.0))
    return Standardised((x - mean) / scale, superclass, classes, mean, scale)


def fit_weighted(data: Standardised, weight: Rows | None, strength: float) -> Head:
    """Multinomial logistic regression: the weighted mean of the cross-entropies and an L2 penalty.

    Args:
        data: Training embeddings.
        weight: Of each image, shape (n,); only their ratios count. None: alike.
        strength: Of the penalty, > 0.
    """
    share = np.full(len(data.y), 1 / len(data.y)) if weight is None else weight / weight.sum()
    return _solve(data, lambda losses: (float(share @ losses), share), strength, None)


def fit_groupdro(data: Standardised, group: Ids, strength: float, adjustment: float = 0.0) -> Head:
    """The largest of the groups' mean cross-entropies, made as small as it gets. Source: Sagawa et al., ICLR 2020.

    Their stochastic weights converge to this minimax; here the maximum is smoothed, ever less, and minimised whole.

    Args:
        data: Training embeddings.
        group: Ids, shape (n,); every id below the largest has images.
        strength: Of the L2 penalty, > 0.
        adjustment: ``adjustment / sqrt(n_g)`` is added to a group's loss.
    """
    size = np.bincount(group).astype(np.float64)
    margin = adjustment / np.sqrt(size)
    head = None
    for sharpness in SHARPNESS:

        def worst(losses: Rows, sharpness: float = sharpness) -> tuple[float, Rows]:
            each = sharpness * (np.bincount(group, weights=losses) / size + margin)
            top = each.max()
            grown = np.exp(each - top)
            value = (top + np.log(grown.sum() / len(size))) / sharpness
            return float(value), (grown / grown.sum() / size)[group]

        last = sharpness == SHARPNESS[-1]
        head = _solve(data, worst, strength, head, tolerance=1e-6 if last else 1e-4)
    assert head is not None
    return head


def fit_near(data: Standardised, weight: Rows, start: Head, strength: float) -> Head:
    """The weighted cross-entropy, and a penalty on the distance from ``start`` instead of from zero."""
    share = weight / weight.sum()
    return _solve(data, lambda losses: (float(share @ losses), share), strength, start, near=start)


def _solve(
    data: Standardised,
    weigh: Callable[[Rows], tuple[float, Rows]],
    strength: float,
    start: Head | None,
    near: Head | None = None,
    tolerance: float = 1e-6,
) -> Head:
    """Minimise ``weigh`` of the images' losses, which returns its value and its gradient by loss."""
    from scipy.optimize import minimize

    x, y, classes = data.x, data.y, data.classes
    rows, dim = np.arange(len(y)), x.shape[1]
    zero = np.zeros(classes * (dim + 1))
    first = zero if start is None else np.concatenate([start.weight.ravel(), start.bias])
    centre = zero if near is None else first
    penalised = np.ones(len(zero))
    if near is None:
        penalised[classes * dim :] = 0  # the bias is free

    def value(flat: Rows) -> tuple[float, Rows]:
        weight, bias = flat[: classes * dim].reshape(classes, dim), flat[classes * dim :]
        logits = x @ weight.T + bias
        logits -= logits.max(axis=1, keepdims=True)
        grown = np.exp(logits)
        total = grown.sum(axis=1)
        objective, share = weigh(np.log(total) - logits[rows, y])
        slope = grown / total[:, None]
        slope[rows, y] -= 1
        slope *= share[:, None]
        away = penalised * (flat - centre)
        gradient = np.concatenate([(slope.T @ x).ravel(), slope.sum(axis=0)]) + strength * away
        return objective + strength / 2 * float(away @ away), gradient

    options = {"maxiter": 2000, "maxfun": 4000, "gtol": tolerance}
    found = minimize(value, first, jac=True, method="L-BFGS-B", options=options)
    weight, bias = found.x[: classes * dim].reshape(classes, dim), found.x[classes * dim :]
    return Head(weight, bias, data.mean, data.scale)
