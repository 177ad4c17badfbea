"""Hidden subclasses: clusters of embeddings inside each superclass, how many, and how surely each image belongs.

Every superclass is reduced and clustered by itself, fitted on its training images and applied to all. What a cluster is
not: a protected group, or a cause of anything; it is a set of images that this embedding puts together.
"""

import math
import warnings
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from thanos.config import DiscoverConfig
from thanos.embeddings import Embeddings, ordinary_size
from thanos.errors import ConfigError, DataError

EXACT = 10_000
"""Up to so many images of a superclass silhouettes are exact; above, those of a seeded sample of so many."""
FULL_COVARIANCE = 20_000
"""Up to so many images mixtures have full covariances."""
PARTS = 5
"""George's sub-clusters of each cluster."""
SMALLEST_SHARE, SMALLEST_TRAIN, SMALLEST_VALIDATION = 0.005, 25, 25
"""George keeps a sub-cluster of no fewer images: of the superclass's share, in training, in validation."""
UNSTRUCTURED, CLOUD = 3, 3000
"""Draws of a normal and of a uniform cloud that a clustering must beat, all of them, to count as more than one
subclass; and the most points of such a cloud."""
MARGIN = 1.1
"""By this factor."""

Rows = NDArray[np.float64]
Ids = NDArray[np.int64]


class _Model(Protocol):
    def predict(self, x: Rows) -> Ids: ...


@dataclass(frozen=True)
class Discovered:
    """Clusters of all images; ids run on from superclass to superclass."""

    cluster: Ids = field(repr=False)
    names: tuple[str, ...]
    """Of the ids: the superclass and a number, by size."""
    distance: NDArray[np.float64] = field(repr=False)
    """Of each image from its cluster's centre, in the reduced space; 1 is the root mean square distance of training
    embeddings from their mean."""
    confidence: NDArray[np.float64] = field(repr=False)
    """0 to 1: how much nearer the own centre is than the next one (1 - own / next); 1 with one cluster."""
    superclasses: dict[str, dict[str, Any]] = field(repr=False)
    """By superclass: ``clusters``, the ``silhouette`` of every number tried, ``unstructured`` (what clouds without
    clusters and of the same covariance reach), ``silhouette_images`` (fewer than ``images`` where sampled),
    ``variance_kept``."""


def discover(
    embeddings: Embeddings, config: DiscoverConfig | None = None, *, loss: NDArray[np.float64] | None = None
) -> Discovered:
    """Cluster each superclass.

    Args:
        embeddings: Superclasses are used, subclasses never.
        config: How.
        loss: Of each image under a plain classifier, shape (n,): with it George keeps a sub-cluster only if it is
            harder than its parent.
    Raises:
        DataError: if a superclass has no training embedding, or fewer distinct ones than clusters, or if one cluster
            took everything.
        ConfigError: for umap without its package, or hardness with one superclass.
    """
    config = config or DiscoverConfig()
    x = embeddings.vectors.astype(np.float64)
    if config.length == "unit":
        x = ordinary_size(embeddings.vectors).astype(np.float64)
        x /= np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-6)
    train = embeddings.split == 0
    if not train.any():
        train[:] = True
    _standardize(x, train)
    cluster = np.zeros(len(x), dtype=np.int64)
    distance, confidence = np.zeros(len(x)), np.ones(len(x))
    names: list[str] = []
    facts: dict[str, dict[str, Any]] = {}
    for value in np.unique(embeddings.superclass):
        name = embeddings.superclass_names[value]
        rows = np.flatnonzero(embeddings.superclass == value)
        mine = train[rows]
        _check(name, x[rows][mine], config)
        reduced, kept = _reduce(x, embeddings.superclass, int(value), train, config)
        found, fact = _cluster(reduced, mine, embeddings.split[rows] == 1, config, None if loss is None else loss[rows])
        found = _by_size(found, mine)
        centres = np.stack([reduced[mine & (found == c)].mean(axis=0) for c in range(found.max() + 1)])
        apart = np.sqrt(np.maximum(_squared_distances(reduced, centres), 0))
        own = apart[np.arange(len(rows)), found]
        if len(centres) > 1:
            apart[np.arange(len(rows)), found] = np.inf
            confidence[rows] = np.clip(1 - own / np.maximum(apart.min(axis=1), 1e-12), 0, 1)
        cluster[rows], distance[rows] = found + len(names), own
        names += [f"{name}/{c}" for c in range(len(centres))]
        sizes = np.bincount(found, minlength=len(centres)).tolist()
        facts[name] = {"clusters": len(centres), "sizes": sizes, "images": len(rows), "variance_kept": kept} | fact
    return Discovered(cluster, tuple(names), distance, confidence, facts)


def _standardize(x: Rows, train: NDArray[np.bool_]) -> None:
    """In place, training rows at mean 0 and root mean square length 1: no finding hangs on the embedding's units.

    Penalties and least variances further down are absolute.
    """
    share = train / train.sum()
    x -= share @ x
    size = math.sqrt(np.einsum("ij,ij,i->", x, x, share))
    if size > 0:
        x /= size


def _check(name: str, train: Rows, config: DiscoverConfig) -> None:
    if not len(train):
        raise DataError(f"clusters are fitted on training images; superclass {name!r} has none. Give it some.")
    wanted = config.clusters or 1
    distinct = _distinct(train, wanted)
    if distinct < wanted:
        raise DataError(
            f"{wanted} clusters need {wanted} different training embeddings; superclass {name!r} has {distinct}. Lower "
            f"--clusters, or give more images."
        )


def _distinct(x: Rows, enough: int) -> int:
    """How many different rows there are, or any number from ``enough`` on."""
    first = len(np.unique(x[: 100 * enough], axis=0))
    return first if first >= enough else len(np.unique(x, axis=0))


def _reduce(
    x: Rows, superclass: Ids, value: int, train: NDArray[np.bool_], config: DiscoverConfig
) -> tuple[Rows, float | None]:
    """All rows of the superclass in the reduced space, and the share of variance kept where that is defined."""
    rows = superclass == value
    mine, fitted = x[rows], x[rows & train]
    components = min(config.components, *fitted.shape)
    if config.reduce == "none" or (config.reduce == "pca" and components == x.shape[1]) or _distinct(fitted, 2) < 2:
        return mine, None
    if config.reduce == "umap":
        return _umap(mine, fitted, config), None
    if config.reduce == "pca":
        return _pca(mine, fitted, components, config.seed)
    direction = _harder_direction(x[train], superclass[train] == value)
    score = mine @ direction
    if config.components == 1:
        return score[:, None], None
    rest, kept = _pca(
        mine - np.outer(score, direction),
        fitted - np.outer(fitted @ direction, direction),
        components - 1,
        config.seed,
    )
    return np.concatenate([score[:, None], rest], axis=1), kept


def _pca(x: Rows, fitted: Rows, components: int, seed: int) -> tuple[Rows, float]:
    from sklearn.decomposition import PCA

    pca = PCA(components, random_state=seed).fit(fitted)
    return np.asarray(pca.transform(x)), float(pca.explained_variance_ratio_.sum())


def _harder_direction(x: Rows, member: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The unit normal of a logistic regression between a superclass and the others."""
    from sklearn.linear_model import LogisticRegression

    if member.all():
        raise ConfigError("hardness is the direction between superclasses; there is one only. Use --reduce pca.")
    weights = LogisticRegression(max_iter=1000).fit(x, member).coef_[0]
    return np.asarray(weights / np.linalg.norm(weights))


def _umap(x: Rows, fitted: Rows, config: DiscoverConfig) -> Rows:
    try:
        from umap import UMAP
    except ModuleNotFoundError:
        raise ConfigError("--reduce umap needs its package; install it with `pip install thanos-repr[umap]`.") from None
    reducer = UMAP(n_components=config.components, n_neighbors=10, min_dist=0.0, random_state=config.seed, n_jobs=1)
    return np.asarray(reducer.fit(fitted).transform(x), dtype=np.float64)


def _cluster(
    x: Rows,
    train: NDArray[np.bool_],
    validation: NDArray[np.bool_],
    config: DiscoverConfig,
    loss: NDArray[np.float64] | None,
) -> tuple[Ids, dict[str, Any]]:
    """Clusters of all rows of a superclass, and how their number was found."""
    fitted = x[train]
    facts: dict[str, Any] = {}
    if config.clusters is None or config.overcluster:
        rng = np.random.default_rng(config.seed)
        sample = np.sort(rng.permutation(len(fitted))[:EXACT])
        apart = _distances(fitted[sample])
        facts["silhouette_images"] = len(sample)
    if config.clusters is not None:
        chosen: _Model | None = _fit(config.clusters, fitted, config)
    else:
        chosen, searched = _search(fitted, sample, apart, config, rng)
        facts |= searched
    if chosen is None:
        return np.zeros(len(x), dtype=np.int64), facts
    found = np.asarray(chosen.predict(x), dtype=np.int64)
    if config.clusters and config.clusters > 1 and len(np.unique(found[train])) < 2:
        raise DataError("one cluster took all training images. Lower --clusters, or use another --reduce or --method.")
    if config.overcluster:
        found = _overcluster(x, found, train, validation, sample, apart, config, loss)
    return found, facts


def _search(
    fitted: Rows, sample: Ids, apart: Rows, config: DiscoverConfig, rng: np.random.Generator
) -> tuple[_Model | None, dict[str, Any]]:
    """The number of clusters with the highest silhouette (mean over clusters; of equals the larger); None for one.

    One, if one may be and a normal or a uniform cloud of the same covariance can be cut up as well.
    """
    models: dict[int, _Model] = {}
    tried: dict[int, float] = {}
    for k in range(max(2, config.least), min(config.most, _distinct(fitted, config.most + 1) - 1) + 1):
        models[k] = _fit(k, fitted, config)
        tried[k] = _mean_silhouette(apart, models[k].predict(fitted[sample]))
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
        clouds.append(_mean_silhouette(_distances(cloud), _fit(best, cloud, config).predict(cloud)))
    found = models[best] if tried[best] > MARGIN * max(clouds) else None
    return found, {"silhouette": tried, "unstructured": clouds}


def _fit(k: int, x: Rows, config: DiscoverConfig) -> _Model:
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    covariance = "full" if len(x) <= FULL_COVARIANCE else "diag"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # rows that are almost equal
        if config.method == "kmeans":
            return KMeans(k, n_init=3, random_state=config.seed).fit(x)
        return GaussianMixture(k, covariance_type=covariance, n_init=3, random_state=config.seed).fit(x)


def _distances(x: Rows) -> Rows:
    """Between all rows, (n, n), float32."""
    x = x.astype(np.float32)
    return np.sqrt(np.maximum(_squared_distances(x, x), 0))


def _squared_distances(x: Rows, y: Rows) -> Rows:
    return (x**2).sum(axis=1)[:, None] + (y**2).sum(axis=1) - 2 * x @ y.T


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


def _mean_silhouette(apart: Rows, label: Ids) -> float:
    """The mean over clusters of their mean silhouette; -1 where there is one cluster."""
    if len(np.unique(label)) < 2:
        return -1.0
    each = silhouettes(apart, label)
    return float(np.mean([each[label == c].mean() for c in np.unique(label)]))


def _overcluster(
    x: Rows,
    found: Ids,
    train: NDArray[np.bool_],
    validation: NDArray[np.bool_],
    sample: Ids,
    apart: Rows,
    config: DiscoverConfig,
    loss: NDArray[np.float64] | None,
) -> Ids:
    """Split each cluster in five; a part stays if it stands apart better than before, is large enough, and is hard.

    The rest of a cluster stays together.
    """
    parts = np.full(len(x), -1)
    for c in np.unique(found):
        mine = np.flatnonzero(found == c)
        fitted = x[mine[train[mine]]]
        if len(np.unique(fitted, axis=0)) >= PARTS:
            parts[mine] = PARTS * c + _fit(PARTS, fitted, config).predict(x[mine])
    fine = np.where(parts < 0, PARTS * found, parts)
    chosen = np.flatnonzero(train)[sample]
    before = silhouettes(apart, found[chosen]) if len(np.unique(found[chosen])) > 1 else np.zeros(len(chosen))
    after = silhouettes(apart, fine[chosen])
    smallest = max(SMALLEST_SHARE * train.sum(), SMALLEST_TRAIN)
    result, number = found.copy(), int(found.max()) + 1
    for part in np.unique(parts[parts >= 0]):
        here, seen = parts == part, parts[chosen] == part
        parent = train & (found == part // PARTS)
        kept = (
            seen.any()
            and after[seen].mean() > max(before[seen].mean(), 0.0)
            and (here & train).sum() >= smallest
            and (not validation.any() or (here & validation).sum() >= SMALLEST_VALIDATION)
            and (loss is None or loss[here & train].mean() >= loss[parent].mean())
        )
        if kept:
            result[here], number = number, number + 1
    return np.unique(result, return_inverse=True)[1]


def _by_size(found: Ids, train: NDArray[np.bool_]) -> Ids:
    """Ids in the order of their training images; a cluster without any joins the largest."""
    size = np.bincount(found[train], minlength=int(found.max()) + 1)
    order = np.argsort(-size, kind="stable")
    place = np.zeros(len(size), dtype=np.int64)
    place[order] = np.arange(len(size))
    return np.where(size[found] > 0, place[found], 0)
