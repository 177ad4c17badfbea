"""Hidden subclasses: clusters of embeddings inside each superclass, how many, and how surely each image belongs.

Every superclass is reduced and clustered by itself, fitted on its training images and applied to all. What a cluster is
not: a protected group, or a cause of anything; it is a set of images that this embedding puts together.
"""

import math
import warnings
from dataclasses import dataclass, field, replace
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


class _Reduction(Protocol):
    def transform(self, x: Rows) -> Rows: ...


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
    fitted: "Fitted | None" = field(default=None, repr=False)
    """Tells the cluster of vectors that had no part in it."""


@dataclass(frozen=True)
class Fitted:
    """What was fitted to find the clusters, to tell those of further vectors of the same embedding."""

    config: DiscoverConfig
    mean: NDArray[np.float64]
    size: float
    superclasses: dict[int, "_Superclass"]

    def predict(self, vectors: NDArray[np.float32], superclass: Ids) -> tuple[Ids, Rows, Rows]:
        """Cluster, distance and confidence of each row, as in :class:`Discovered`.

        Args:
            vectors: Embeddings, (n, dim).
            superclass: Their superclasses, (n,), ids of which each had training embeddings.
        """
        x = (_of_length(vectors, self.config) - self.mean) / self.size
        cluster, distance, confidence = np.zeros(len(x), dtype=np.int64), np.zeros(len(x)), np.ones(len(x))
        for value in np.unique(superclass):
            rows = superclass == value
            cluster[rows], distance[rows], confidence[rows] = self.superclasses[int(value)].place(x[rows])
        return cluster, distance, confidence


@dataclass(frozen=True)
class _Superclass:
    """The clusters of one superclass; their ids run from ``first`` on."""

    reduction: _Reduction
    clusters: "_Clusters"
    centres: Rows
    first: int

    def place(self, x: Rows) -> tuple[Ids, Rows, Rows]:
        reduced = np.asarray(self.reduction.transform(x), dtype=np.float64)
        found = self.clusters.predict(reduced)
        apart = np.sqrt(np.maximum(_squared_distances(reduced, self.centres), 0))
        rows = np.arange(len(x))
        own, confidence = apart[rows, found], np.ones(len(x))
        if len(self.centres) > 1:
            apart[rows, found] = np.inf
            confidence = np.clip(1 - own / np.maximum(apart.min(axis=1), 1e-12), 0, 1)
        return found + self.first, own, confidence


@dataclass(frozen=True)
class _Clusters:
    """A clustering, the parts that its clusters were split in, and where each cluster went in the order of sizes."""

    model: _Model | None
    """None: one cluster."""
    parts: dict[int, _Model] = field(default_factory=dict)
    kept: dict[int, int] = field(default_factory=dict)
    """The new cluster of each part that stands by itself."""
    order: Ids | None = None

    def predict(self, reduced: Rows) -> Ids:
        found = np.zeros(len(reduced), dtype=np.int64)
        if self.model is not None:
            found = np.asarray(self.model.predict(reduced), dtype=np.int64)
        result = found.copy()
        for c, model in self.parts.items():
            mine = np.flatnonzero(found == c)
            if len(mine):
                part = PARTS * c + np.asarray(model.predict(reduced[mine]))
                result[mine] = [self.kept.get(int(each), c) for each in part]
        return result if self.order is None else self.order[result]


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
    x = _of_length(embeddings.vectors, config)
    train = embeddings.in_split("train")
    if not train.any():
        train[:] = True
    mean, size = _standardize(x, train)
    cluster = np.zeros(len(x), dtype=np.int64)
    distance, confidence = np.zeros(len(x)), np.ones(len(x))
    names: list[str] = []
    facts: dict[str, dict[str, Any]] = {}
    fitted: dict[int, _Superclass] = {}
    for value in np.unique(embeddings.superclass):
        name = embeddings.superclass_names[value]
        rows = np.flatnonzero(embeddings.superclass == value)
        mine = train[rows]
        _check(name, x[rows][mine], config)
        reduction, kept = _reduction(x, embeddings.superclass, int(value), train, config)
        reduced = np.asarray(reduction.transform(x[rows]), dtype=np.float64)
        validation, losses = embeddings.split[rows] == 1, None if loss is None else loss[rows]
        clusters, fact = _cluster(reduced, mine, validation, config, losses)
        clusters, found = _by_size(clusters, clusters.predict(reduced), mine)
        centres = np.stack([reduced[mine & (found == c)].mean(axis=0) for c in range(found.max() + 1)])
        fitted[int(value)] = _Superclass(reduction, clusters, centres, len(names))
        cluster[rows], distance[rows], confidence[rows] = fitted[int(value)].place(x[rows])
        names += [f"{name}/{c}" for c in range(len(centres))]
        sizes = np.bincount(found, minlength=len(centres)).tolist()
        facts[name] = {"clusters": len(centres), "sizes": sizes, "images": len(rows), "variance_kept": kept} | fact
    return Discovered(cluster, tuple(names), distance, confidence, facts, Fitted(config, mean, size, fitted))


def _of_length(vectors: NDArray[np.float32], config: DiscoverConfig) -> Rows:
    """Embeddings in float64, of unit length unless they are to keep their own."""
    if config.length == "own":
        return vectors.astype(np.float64)
    x = ordinary_size(vectors).astype(np.float64)
    return np.asarray(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-6))


def _standardize(x: Rows, train: NDArray[np.bool_]) -> tuple[NDArray[np.float64], float]:
    """In place, training rows at mean 0 and root mean square length 1: no finding hangs on the embedding's units.

    Penalties and least variances further down are absolute.
    """
    share = train / train.sum()
    mean = share @ x
    x -= mean
    size = math.sqrt(np.einsum("ij,ij,i->", x, x, share)) or 1.0
    x /= size
    return mean, size


def _check(name: str, train: Rows, config: DiscoverConfig) -> None:
    if not len(train):
        raise DataError(f"clusters are fitted on training images; superclass {name!r} has none. Give it some.")
    wanted = config.clusters or 1
    distinct = _distinct(train, wanted)
    if distinct < wanted:
        raise DataError(
            f"{wanted} clusters need {wanted} different training embeddings; superclass {name!r} has {distinct}. Lower "
            f"`clusters`, or give more images."
        )


def _distinct(x: Rows, enough: int) -> int:
    """How many different rows there are, or any number from ``enough`` on."""
    first = len(np.unique(x[: 100 * enough], axis=0))
    return first if first >= enough else len(np.unique(x, axis=0))


class _Whole:
    """Leaves rows as they are."""

    def transform(self, x: Rows) -> Rows:
        return x


@dataclass(frozen=True)
class _Harder:
    """The score along the direction that tells the superclass, then components of the rest."""

    direction: NDArray[np.float64]
    rest: _Reduction | None

    def transform(self, x: Rows) -> Rows:
        score = x @ self.direction
        if self.rest is None:
            return np.asarray(score[:, None])
        return np.concatenate([score[:, None], self.rest.transform(x - np.outer(score, self.direction))], axis=1)


def _reduction(
    x: Rows, superclass: Ids, value: int, train: NDArray[np.bool_], config: DiscoverConfig
) -> tuple[_Reduction, float | None]:
    """What brings rows of a superclass into the reduced space; and the share of variance kept, where it is defined."""
    fitted = x[(superclass == value) & train]
    components = min(config.components, *fitted.shape)
    if config.reduce == "none" or (config.reduce == "pca" and components == x.shape[1]) or _distinct(fitted, 2) < 2:
        return _Whole(), None
    if config.reduce == "umap":
        return _umap(fitted, config), None
    if config.reduce == "pca":
        return _pca(fitted, components, config.seed)
    direction = _harder_direction(x[train], superclass[train] == value)
    if config.components == 1:
        return _Harder(direction, None), None
    rest, kept = _pca(fitted - np.outer(fitted @ direction, direction), components - 1, config.seed)
    return _Harder(direction, rest), kept


def _pca(fitted: Rows, components: int, seed: int) -> tuple[_Reduction, float]:
    from sklearn.decomposition import PCA

    pca = PCA(components, random_state=seed).fit(fitted)
    return pca, float(pca.explained_variance_ratio_.sum())


def _harder_direction(x: Rows, member: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The unit normal of a logistic regression between a superclass and the others."""
    from sklearn.linear_model import LogisticRegression

    if member.all():
        raise ConfigError("hardness is the direction between superclasses; there is one only. Use `reduce=pca`.")
    weights = LogisticRegression(max_iter=1000).fit(x, member).coef_[0]
    return np.asarray(weights / np.linalg.norm(weights))


def _umap(fitted: Rows, config: DiscoverConfig) -> _Reduction:
    try:
        from umap import UMAP
    except ModuleNotFoundError:
        raise ConfigError("`reduce=umap` needs its package; install it with `pip install thanos-repr[umap]`.") from None
    reducer = UMAP(n_components=config.components, n_neighbors=10, min_dist=0.0, random_state=config.seed, n_jobs=1)
    return reducer.fit(fitted)


def _cluster(
    x: Rows,
    train: NDArray[np.bool_],
    validation: NDArray[np.bool_],
    config: DiscoverConfig,
    loss: NDArray[np.float64] | None,
) -> tuple[_Clusters, dict[str, Any]]:
    """The clustering of a superclass, and how its number of clusters was found."""
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
        return _Clusters(None), facts
    found = np.asarray(chosen.predict(x), dtype=np.int64)
    if config.clusters and config.clusters > 1 and len(np.unique(found[train])) < 2:
        raise DataError("one cluster took all training images. Lower `clusters`, or use another `reduce` or `method`.")
    if config.overcluster:
        return _overcluster(x, chosen, found, train, validation, sample, apart, config, loss), facts
    return _Clusters(chosen), facts


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
    model: _Model,
    found: Ids,
    train: NDArray[np.bool_],
    validation: NDArray[np.bool_],
    sample: Ids,
    apart: Rows,
    config: DiscoverConfig,
    loss: NDArray[np.float64] | None,
) -> _Clusters:
    """Split each cluster in five; a part stays if it stands apart better than before, is large enough, and is hard.

    The rest of a cluster stays together.
    """
    parts, models = np.full(len(x), -1), {}
    for c in np.unique(found):
        mine = np.flatnonzero(found == c)
        fitted = x[mine[train[mine]]]
        if len(np.unique(fitted, axis=0)) >= PARTS:
            models[int(c)] = _fit(PARTS, fitted, config)
            parts[mine] = PARTS * c + models[int(c)].predict(x[mine])
    fine = np.where(parts < 0, PARTS * found, parts)
    chosen = np.flatnonzero(train)[sample]
    before = silhouettes(apart, found[chosen]) if len(np.unique(found[chosen])) > 1 else np.zeros(len(chosen))
    after = silhouettes(apart, fine[chosen])
    smallest = max(SMALLEST_SHARE * train.sum(), SMALLEST_TRAIN)
    apart_now: dict[int, int] = {}
    number = int(found.max()) + 1
    for part in np.unique(parts[parts >= 0]):
        here, seen = parts == part, parts[chosen] == part
        parent = train & (found == part // PARTS)
        stands = (
            seen.any()
            and after[seen].mean() > max(before[seen].mean(), 0.0)
            and (here & train).sum() >= smallest
            and (not validation.any() or (here & validation).sum() >= SMALLEST_VALIDATION)
            and (loss is None or loss[here & train].mean() >= loss[parent].mean())
        )
        if stands:
            apart_now[int(part)], number = number, number + 1
    return _Clusters(model, models, apart_now)


def _by_size(clusters: _Clusters, found: Ids, train: NDArray[np.bool_]) -> tuple[_Clusters, Ids]:
    """Ids in the order of their training images; a cluster without any joins the largest."""
    count = max(int(found.max()), *clusters.kept.values(), *clusters.parts, 0) + 1
    model = clusters.model
    known = getattr(model, "n_clusters", getattr(model, "n_components", 1))
    size = np.bincount(found[train], minlength=max(count, known))
    place = np.zeros(len(size), dtype=np.int64)
    order = np.argsort(-size, kind="stable")
    place[order] = np.arange(len(size))
    place[size == 0] = 0
    return replace(clusters, order=place), place[found]
