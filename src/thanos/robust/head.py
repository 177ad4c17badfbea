"""Linear heads on frozen embeddings: every method's last stage as a convex problem, solved in seconds.

All of them minimise a weighting of the images' cross-entropies plus ``strength / 2 * |weight|^2`` on standardised
embeddings; they differ in how the images are weighed. Two classes are solved by Newton's method, more by L-BFGS. What
is not linear, an ensemble of prototypes, is fitted in :mod:`thanos.robust.prototypes`.
"""

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thanos.errors import DataError
from thanos.robust.newton import Basis, Weigh, minimise
from thanos.storage import names_in, read_npz, write_marked_npz

Rows = NDArray[np.float64]
Ids = NDArray[np.int64]
SHARPNESS = (1.0, 10.0, 100.0, 1000.0)
"""How sharply GroupDRO's maximum over groups is taken, from step to step; the last one is off by log(groups) / 1000."""


class _Standardising:
    """Tells classes from embeddings, which it standardises first."""

    mean: Rows
    scale: Rows

    def of_standardised(self, x: Rows) -> Rows:
        """Logits (n, classes) of embeddings that are standardised already."""
        raise NotImplementedError

    def logits(self, vectors: NDArray[Any]) -> Rows:
        """Of embeddings (n, dim), shape (n, classes)."""
        return self.of_standardised((vectors - self.mean) / self.scale)

    def predict(self, vectors: NDArray[Any]) -> Ids:
        """The superclass of embeddings (n, dim), shape (n,)."""
        return np.asarray(self.logits(vectors).argmax(axis=1))

    def probabilities(self, vectors: NDArray[Any]) -> Rows:
        """Of the superclasses of embeddings (n, dim), shape (n, classes)."""
        return softmax(self.logits(vectors))


@dataclass(frozen=True)
class Head(_Standardising):
    """``(x - mean) / scale @ weight.T + bias``."""

    weight: Rows
    """(classes, dim)"""
    bias: Rows
    """(classes,)"""
    mean: Rows
    scale: Rows
    encoder: str = ""
    """The fingerprint of the encoder whose embeddings it is for; empty: not known."""
    share: Rows | None = field(default=None, repr=False)
    """What each training image's loss weighs at the optimum, (n,); not known of a head from a file."""

    def of_standardised(self, x: Rows) -> Rows:
        return np.asarray(x @ self.weight.T + self.bias)

    def calibrated(self, vectors: NDArray[Any], true: Ids) -> "Head":
        """The same predictions, with probabilities that hold: all logits times one number (Guo et al. 2017).

        It is the one by which held-out images are most probable, with targets smoothed by their count (Platt 1999).

        Args:
            vectors: Held-out embeddings, (n, dim), n > 0.
            true: Their classes, (n,).
        """
        from scipy.optimize import minimize_scalar
        from scipy.special import log_softmax

        logits = self.logits(vectors)
        count, classes = logits.shape
        miss = 1 / (count + 2)
        target = np.full_like(logits, miss / (classes - 1))
        target[np.arange(count), true] = 1 - miss

        def loss(log_factor: float) -> float:
            return -float((target * log_softmax(np.exp(log_factor) * logits, axis=1)).sum())

        factor = float(np.exp(minimize_scalar(loss, bounds=(-6, 6), method="bounded").x))
        return replace(self, weight=factor * self.weight, bias=factor * self.bias)


@dataclass(frozen=True)
class Prototypes(_Standardising):
    """The mean of members' probabilities; a member's are the softmax of minus its sharpness times the distances.

    Distances are those between unit vectors: the standardised embedding's direction and each class's prototype.
    """

    prototypes: Rows
    """(members, classes, dim), of unit length"""
    sharpness: Rows
    """(members,), >= 0"""
    mean: Rows
    scale: Rows
    encoder: str = ""

    def of_standardised(self, x: Rows) -> Rows:
        """Logarithms of the mean probabilities."""
        unit = unit_rows(x)
        each = zip(self.prototypes, self.sharpness, strict=True)
        return np.asarray(np.log(np.mean([softmax(-sharp * apart(unit, p)) for p, sharp in each], axis=0)))


Classifier = Head | Prototypes


def unit_rows(x: Rows) -> Rows:
    """Rows (n, dim) at length one; of zeros zeros."""
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return np.asarray(x / np.where(length > 0, length, 1))


def apart(unit: Rows, prototypes: Rows) -> Rows:
    """Distances (n, classes) between unit vectors (n, dim) and (classes, dim)."""
    return np.asarray(np.sqrt(np.maximum(2 - 2 * unit @ prototypes.T, 1e-12)))


def softmax(logits: Rows) -> Rows:
    """Probabilities (n, classes) of logits."""
    grown = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(grown / grown.sum(axis=1, keepdims=True))


_LINEAR, _NEAREST = ("weight", "bias", "mean", "scale"), ("prototypes", "sharpness", "mean", "scale")
"""The arrays of a head and of prototypes in a file."""


def write_head(head: Classifier, superclass_names: tuple[str, ...], path: Path | str) -> None:
    """One .npz that numpy alone reads: the fields of :class:`Head` (or of the prototypes), superclass_names, a mark."""
    fields = (*(_LINEAR if isinstance(head, Head) else _NEAREST), "encoder")
    arrays = {name: getattr(head, name) for name in fields}
    write_marked_npz(Path(path), arrays | {"superclass_names": np.array(superclass_names)})


def read_head(path: Path | str) -> tuple[Classifier, tuple[str, ...]]:
    """A head (or prototypes) and its superclasses.

    Raises:
        DataError: if the file holds none, or one whose numbers cannot be those of a classifier.
    """
    file = read_npz(Path(path))
    fields = _NEAREST if "prototypes" in file else _LINEAR
    try:
        names = tuple(str(name) for name in file["superclass_names"])
        arrays = [file[name].astype(np.float64) for name in fields]
    except (KeyError, ValueError, TypeError):
        raise DataError(
            f"a classifier's .npz, as thanos robust writes it, is wanted; {path} holds no {', '.join(fields)} "
            f"and superclass_names."
        ) from None
    first, second, mean, scale = arrays
    right = first.ndim == (3 if fields is _NEAREST else 2)
    classes, dim = first.shape[-2:] if right else (-1, -1)
    fault = None
    if (second.shape, mean.shape, scale.shape) != (first.shape[:1], (dim,), (dim,)):
        fault = f"its {', '.join(fields[:3])} and scale do not fit together"
    elif len(names) != classes:
        fault = f"it has {classes} rows of weights for {len(names)} superclasses"
    elif len(set(names)) < len(names):
        fault = "two of its superclasses have one name"
    elif not all(np.isfinite(each).all() for each in arrays) or (scale <= 0).any():
        fault = "not all its numbers are finite, or a scale is not above 0"
    if fault:
        raise DataError(f"{path} is damaged: {fault}. Make it anew: thanos robust --help")
    kind = Prototypes if fields is _NEAREST else Head
    return kind(first, second, mean, scale, str(file.get("encoder", ""))), names


def is_head(file: Path) -> bool:
    """Whether it holds a head or prototypes, be they damaged inside."""
    return any({*fields, "superclass_names"} <= names_in(file) for fields in (_LINEAR, _NEAREST))


@dataclass(frozen=True)
class Standardised:
    """Training embeddings with zero mean and unit deviation, and what brought them there."""

    x: Rows
    y: Ids
    classes: int
    mean: Rows
    scale: Rows

    @cached_property
    def basis(self) -> Basis:
        """Of the embeddings; every head fitted on them shares it."""
        return Basis.of(self.x)

    def take(self, rows: Ids) -> "Standardised":
        return Standardised(self.x[rows], self.y[rows], self.classes, self.mean, self.scale)


def standardise(vectors: NDArray[Any], superclass: Ids, classes: int) -> Standardised:
    """Embeddings (n, dim) with their superclass (n,) of ``classes``."""
    x = vectors.astype(np.float64)
    mean, scale = x.mean(axis=0), x.std(axis=0)
    scale = np.maximum(scale, 1e-6 * (scale.max(initial=0.0) or 1.0))
    return Standardised((x - mean) / scale, superclass, classes, mean, scale)


def fit_weighted(data: Standardised, weight: Rows | None, strength: float, start: Head | None = None) -> Head:
    """Multinomial logistic regression: the weighted mean of the cross-entropies and an L2 penalty.

    Args:
        data: Training embeddings.
        weight: Of each image, shape (n,); only their ratios count. None: alike.
        strength: Of the penalty, > 0.
        start: A head of the same embeddings that is thought to be near, to begin with.
    """
    return _solve(data, _mean(weight, len(data.y)), strength, start)


def fit_groupdro(
    data: Standardised, group: Ids, strength: float, adjustment: float = 0.0, start: Head | None = None
) -> Head:
    """The largest of the groups' mean cross-entropies, made as small as it gets. Source: Sagawa et al., ICLR 2020.

    Their stochastic weights converge to this minimax; here the maximum is smoothed, ever less, and minimised whole.

    Args:
        data: Training embeddings.
        group: Ids, shape (n,); every id below the largest has images.
        strength: Of the L2 penalty, > 0.
        adjustment: ``adjustment / sqrt(n_g)`` is added to a group's loss.
        start: As for :func:`fit_weighted`.
    """
    size = np.bincount(group).astype(np.float64)
    return _fit_worst(data, np.eye(len(size))[group], strength, adjustment / np.sqrt(size), start)


def fit_pairs(data: Standardised, group: Ids, strength: float, start: Head | None = None) -> Head:
    """GroupDRO over pairs of groups of different classes, each pair's images taken together.

    Between such a pair AUROC is measured, so the pair takes the group's place in the maximum. Source: the AUROC form of
    George's published code (Sohoni et al., NeurIPS 2020), there for two classes.

    Args:
        data: Training embeddings.
        group: Ids, shape (n,), each inside one class; every id below the largest has images.
        strength: Of the L2 penalty, > 0.
        start: As for :func:`fit_weighted`.
    """
    of = data.y[np.unique(group, return_index=True)[1]]
    first, second = np.nonzero(of[:, None] < of)
    member = np.eye(len(of))[group]
    return _fit_worst(data, member[:, first] + member[:, second], strength, np.zeros(len(first)), start)


def _fit_worst(data: Standardised, member: Rows, strength: float, margin: Rows, start: Head | None) -> Head:
    """The largest of the sets' mean losses; ``member`` (n, sets) says which images are in which."""
    member = member / member.sum(axis=0)
    head = start
    for sharpness in SHARPNESS if start is None else SHARPNESS[2:]:
        head = _solve(data, _worst(member, margin, sharpness), strength, head, rough=sharpness != SHARPNESS[-1])
    assert head is not None
    return head


def fit_near(data: Standardised, weight: Rows, start: Head, strength: float) -> Head:
    """The weighted cross-entropy, and a penalty on the distance from ``start`` instead of from zero."""
    return _solve(data, _mean(weight, len(data.y)), strength, start, near=start)


def _mean(weight: Rows | None, n: int) -> Weigh:
    share = np.full(n, 1 / n) if weight is None else weight / weight.sum()
    return lambda losses: (float(share @ losses), share, None)


def _worst(member: Rows, margin: Rows, sharpness: float) -> Weigh:
    """The log-mean-exp of the sets' mean losses, which is their maximum as ``sharpness`` grows.

    Args:
        member: One column a set: 1 / its size for its images, else 0; (n, sets).
        margin: Added to each set's loss.
        sharpness: Of the maximum.
    """

    def weigh(losses: Rows) -> tuple[float, Rows, Rows]:
        each = sharpness * (losses @ member + margin)
        top = each.max()
        grown = np.exp(each - top)
        value, q = (top + np.log(grown.sum() / len(each))) / sharpness, grown / grown.sum()
        bend = (np.eye(len(q)) - q[:, None]) * np.sqrt(sharpness * q)  # its square is sharpness * (diag(q) - q q')
        return float(value), member @ q, member @ bend

    return weigh


def _solve(
    data: Standardised,
    weigh: Weigh,
    strength: float,
    start: Head | None,
    near: Head | None = None,
    rough: bool = False,
) -> Head:
    """Minimise ``weigh`` of the images' losses and the penalty; ``rough``: for a start, not for an answer."""
    from scipy.special import log_softmax

    weight, bias = (_one_logit if data.classes == 2 else _all_logits)(data, weigh, strength, start, near, rough)
    losses = -log_softmax(data.x @ weight.T + bias, axis=1)[np.arange(len(data.y)), data.y]
    return Head(weight, bias, data.mean, data.scale, share=weigh(losses)[1])


def _one_logit(
    data: Standardised, weigh: Weigh, strength: float, start: Head | None, near: Head | None, rough: bool
) -> tuple[Rows, Rows]:
    """Of two classes by the difference of their logits, u = w1 - w0: the penalty of both is half that of u."""
    basis, tolerance = data.basis, 1e-5 if rough else 1e-9
    penalty = np.full(basis.rows.shape[1] + 1, strength / 2)
    first = np.zeros(len(penalty))
    if near is not None:
        offset = data.x @ (near.weight[1] - near.weight[0]) + near.bias[1] - near.bias[0]
        flat = minimise(basis, data.y, weigh, penalty, first, offset, tolerance)
        half = np.append(basis.back(flat[:-1]), flat[-1]) / 2
        return near.weight + np.stack([-half[:-1], half[:-1]]), near.bias + np.array([-half[-1], half[-1]])
    penalty[-1] = 0  # the bias is free
    if start is not None:
        first = np.append(basis.into(start.weight[1] - start.weight[0]), start.bias[1] - start.bias[0])
    flat = minimise(basis, data.y, weigh, penalty, first, tolerance=tolerance)
    half, bias = basis.back(flat[:-1]) / 2, flat[-1] / 2
    return np.stack([-half, half]), np.array([-bias, bias])


def _all_logits(
    data: Standardised, weigh: Weigh, strength: float, start: Head | None, near: Head | None, rough: bool
) -> tuple[Rows, Rows]:
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
        objective, share, _ = weigh(np.log(total) - logits[rows, y])
        slope = grown / total[:, None]
        slope[rows, y] -= 1
        slope *= share[:, None]
        away = penalised * (flat - centre)
        gradient = np.concatenate([(slope.T @ x).ravel(), slope.sum(axis=0)]) + strength * away
        return objective + strength / 2 * float(away @ away), gradient

    options = {"maxiter": 2000, "maxfun": 4000, "gtol": 1e-4 if rough else 1e-6}
    found = minimize(value, first, jac=True, method="L-BFGS-B", options=options)
    return found.x[: classes * dim].reshape(classes, dim), found.x[classes * dim :]
