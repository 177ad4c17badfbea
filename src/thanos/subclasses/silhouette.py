"""How many clusters by the silhouette, if clouds without clusters cannot be cut up as well; and silhouettes."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thanos.config import DiscoverConfig
from thanos.subclasses.fitted import Ids, Rows, squared_distances
from thanos.subclasses.models import FittedModel, distinct, fit_clusters

EXACT = 10_000
"""Up to so many images of a superclass silhouettes are exact; above, those of a seeded sample of so many."""
UNSTRUCTURED, CLOUD = 3, 3000
"""Draws of a normal and of a uniform cloud that a clustering must beat, all of them, to count as more than one
subclass; and the most points of such a cloud."""
MARGIN = 1.1
"""By this factor; and a head's clusters must stand out further than its features' do by as much."""


@dataclass(frozen=True)
class Sampled:
    """Rows that silhouettes are taken of: all, or of many a seeded sample."""

    rows: Ids
    apart: Rows
    """Distances between them, float32."""

    @classmethod
    def of(cls, x: Rows, rng: np.random.Generator) -> "Sampled":
        rows = np.sort(rng.permutation(len(x))[:EXACT])
        return cls(rows, distances(x[rows]))


def choose_by_silhouette(
    fitted: Rows, sampled: Sampled, config: DiscoverConfig, rng: np.random.Generator
) -> tuple[FittedModel | None, dict[str, Any]]:
    """The number of clusters with the highest silhouette (mean over clusters; of equals the larger); None for one.

    One, if one may be and a normal or a uniform cloud of the same covariance can be cut up as well.
    """
    models: dict[int, FittedModel] = {}
    tried: dict[int, float] = {}
    for k in range(max(2, config.least), min(config.largest, distinct(fitted, config.largest + 1) - 1) + 1):
        models[k] = fit_clusters(k, fitted, config)
        tried[k] = mean_silhouette(sampled.apart, models[k].predict(fitted[sampled.rows]))
    if not tried:
        return None, {}
    best = max(tried, key=lambda k: (tried[k], k))
    if config.least > 1:
        return models[best], {"silhouette": tried}
    spread, axes = np.linalg.eigh(np.atleast_2d(np.cov(fitted.T)))
    shape = (min(len(fitted), CLOUD), len(spread))
    draws = [rng.normal(size=shape) for _ in range(UNSTRUCTURED)]
    draws += [rng.uniform(-math.sqrt(3), math.sqrt(3), shape) for _ in range(UNSTRUCTURED)]
    clouds = []
    for draw in draws:
        cloud = draw * np.sqrt(np.maximum(spread, 0)) @ axes.T
        clouds.append(mean_silhouette(distances(cloud), fit_clusters(best, cloud, config).predict(cloud)))
    found = models[best] if tried[best] > MARGIN * max(clouds) else None
    return found, {"silhouette": tried, "unstructured": clouds}


def distances(x: Rows) -> Rows:
    """Between all rows, (n, n), float32."""
    x = x.astype(np.float32)
    return np.sqrt(squared_distances(x, x))


def silhouettes(apart: Rows, label: Ids) -> NDArray[np.float64]:
    """Of each row (Rousseeuw 1987), from all distances (n, n); 0 in clusters of one.

    ``(b - a) / max(a, b)``: a is the mean distance to the own cluster's others, b the smallest one to another cluster.
    """
    kinds, label = np.unique(label, return_inverse=True)
    size = np.bincount(label)
    member = np.zeros((len(label), len(kinds)), dtype=apart.dtype)
    member[np.arange(len(label)), label] = 1
    total = (apart @ member).astype(np.float64)
    rows = np.arange(len(label))
    own = total[rows, label] / np.maximum(size[label] - 1, 1)
    other = total / size
    other[rows, label] = np.inf
    nearest = other.min(axis=1)
    value = (nearest - own) / np.maximum(np.maximum(own, nearest), 1e-12)
    return np.where(size[label] > 1, value, 0.0)


def mean_silhouette(apart: Rows, label: Ids) -> float:
    """The mean over clusters of their mean silhouette; -1 where there is one cluster."""
    if len(np.unique(label)) < 2:
        return -1.0
    each = silhouettes(apart, label)
    return float(np.mean([each[label == c].mean() for c in np.unique(label)]))
