"""Other ways to choose the number of clusters, as their papers have them, on rows that are reduced as ours are."""

import warnings
from collections.abc import Callable

import numpy as np
from scipy.special import ive
from sklearn.cluster import HDBSCAN, KMeans
from sklearn.mixture import GaussianMixture

TRIED = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30, 35, 40)
ENOUGH = 3000
"""Rows that choose the number, at most."""
Rows = np.ndarray


def tried(x: Rows, each: int) -> list[int]:
    """Numbers with so many rows for each cluster."""
    return [k for k in TRIED if k == 1 or k * each <= len(x)]


def kmeans(x: Rows, k: int, seed: int = 0) -> KMeans:
    return KMeans(k, n_init=3, random_state=seed).fit(x)


def gap(x: Rows, rng: np.random.Generator, draws: int = 10) -> Rows:
    """The smallest number whose gap to boxes along the principal axes is within a standard error of the next one's.

    Source: Tibshirani, Walther and Hastie 2001.
    """
    _, _, axes = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    turned = (x - x.mean(axis=0)) @ axes.T
    low, high = turned.min(axis=0), turned.max(axis=0)
    numbers, own, clouds = tried(x, 6), [], []
    for k in numbers:
        own.append(np.log(kmeans(x, k).inertia_))
        boxes = [rng.uniform(low, high, turned.shape) for _ in range(draws)]
        clouds.append([np.log(KMeans(k, n_init=1, random_state=0).fit(box).inertia_) for box in boxes])
        mean, error = np.mean(clouds, axis=1), np.std(clouds, axis=1) * np.sqrt(1 + 1 / draws)
        if len(own) > 1 and mean[-2] - own[-2] >= mean[-1] - own[-1] - error[-1]:
            return kmeans(x, numbers[len(own) - 2]).labels_
    return kmeans(x, numbers[-1]).labels_


def prediction_strength(x: Rows, rng: np.random.Generator, draws: int = 5, wanted: float = 0.8) -> Rows:
    """The largest number of which every cluster of one half is mostly kept by the other half's centres.

    Source: Tibshirani and Walther 2005.
    """
    best = 1
    for k in tried(x, 12)[1:]:
        strength = []
        for _ in range(draws):
            order = rng.permutation(len(x))
            a, b = x[order[: len(x) // 2]], x[order[len(x) // 2 :]]
            told, own = kmeans(a, k).predict(b), kmeans(b, k).labels_
            kept = []
            for c in range(k):
                count = np.bincount(told[own == c])
                pairs = count.sum() * (count.sum() - 1)
                kept.append((count * (count - 1)).sum() / pairs if pairs else 0.0)
            strength.append(min(kept))
        best = k if np.mean(strength) >= wanted else best
    return kmeans(x, best).labels_


def mixture_bic(x: Rows, rng: np.random.Generator) -> Rows:
    """Gaussians with diagonal covariances, the number by BIC."""
    models = [
        GaussianMixture(k, covariance_type="diag", random_state=0, reg_covar=1e-4 * x.var()).fit(x) for k in tried(x, 6)
    ]
    return min(models, key=lambda model: model.bic(x)).predict(x)


def directions_bic(x: Rows, rng: np.random.Generator, steps: int = 30) -> Rows:
    """Von Mises-Fisher mixture of one concentration on unit rows, the number by BIC.

    Source: Banerjee et al. 2005.
    """
    unit = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    n, d = unit.shape
    best, found = np.inf, np.zeros(n, dtype=np.int64)
    for k in tried(x, 6):
        soft = np.eye(k)[kmeans(unit, k).labels_]
        for _ in range(steps):
            total = soft.T @ unit
            length = np.linalg.norm(total, axis=1)
            mean, share = total / np.maximum(length, 1e-12)[:, None], np.maximum(soft.mean(axis=0), 1e-12)
            r = min(length.sum() / n, 1 - 1e-6)
            concentration = (r * d - r**3) / (1 - r**2)
            log = concentration * unit @ mean.T + np.log(share)
            top = log.max(axis=1, keepdims=True)
            soft = np.exp(log - top)
            norm = soft.sum(axis=1, keepdims=True)
            soft /= norm
        v = d / 2 - 1
        constant = v * np.log(concentration) - np.log(ive(v, concentration)) - concentration - d / 2 * np.log(2 * np.pi)
        score = -2 * float((top + np.log(norm)).sum() + n * constant) + (k * d) * np.log(n)
        if score < best:
            best, found = score, soft.argmax(axis=1)
    return found


def hdbscan(x: Rows, rng: np.random.Generator) -> Rows:
    """scikit-learn's, clusters from a fiftieth of the rows on; what is noise goes to the nearest cluster's mean."""
    found = HDBSCAN(min_cluster_size=max(5, len(x) // 50)).fit_predict(x)
    if found.max() < 1:
        return np.zeros(len(x), dtype=np.int64)
    means = np.stack([x[found == c].mean(axis=0) for c in range(found.max() + 1)])
    return ((x[:, None] - means) ** 2).sum(axis=2).argmin(axis=1)


RIVALS: dict[str, Callable[[Rows, np.random.Generator], Rows]] = {
    "gap statistic": gap,
    "prediction strength": prediction_strength,
    "BIC, normal mixtures": mixture_bic,
    "BIC, von Mises-Fisher mixtures": directions_bic,
    "HDBSCAN": hdbscan,
}


def clusters(way: str, x: Rows, rng: np.random.Generator) -> Rows:
    """By one of RIVALS, chosen on ENOUGH rows at most, of all rows."""
    some = rng.permutation(len(x))[:ENOUGH]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = np.unique(RIVALS[way](x[some], rng), return_inverse=True)[1]
    if len(some) == len(x):
        whole = np.empty(len(x), dtype=np.int64)
        whole[some] = found
        return whole
    means = np.stack([x[some][found == c].mean(axis=0) for c in range(found.max() + 1)])
    return KMeans(len(means), init=means, n_init=1, max_iter=1).fit(x).labels_
