"""What discovery found, and what was fitted to find it: places for vectors that had no part in it; kept as one .npz."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from thanos.embeddings import ordinary_size

if TYPE_CHECKING:
    from thanos.subclasses.cuts import Cuts

Rows = NDArray[np.float64]
Ids = NDArray[np.int64]


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
    """By superclass: ``clusters``, ``sizes``, ``images``, ``variance_kept``, and by subclass the probability that it
    ``holds`` in a fresh draw. Where merging chose the number: ``p`` of one cloud, corrected for the number of
    superclasses, the ``excess`` and ``valley`` it rests on, and the ``scores`` of all numbers. Where the silhouette
    did: the ``silhouette`` of every number, ``unstructured`` (what clouds without clusters and of the same covariance
    reach), and ``silhouette_images`` (fewer than ``images`` where sampled)."""
    fitted: "Fitted | None" = field(default=None, repr=False)
    """Tells the cluster of vectors that had no part in it."""
    standing_out: dict[str, float] = field(default_factory=dict, repr=False)
    """Where the part of the embeddings was chosen: of each, how many times as far as clouds without clusters its
    clusters stand out, by the silhouette, mean over superclasses; the chosen one first."""
    cuts: "Cuts | None" = field(default=None, repr=False)
    """Coarser and finer ones (:func:`thanos.subclasses.cuts.with_cuts`)."""
    marks: dict[str, str] = field(default_factory=dict, repr=False)
    """What a person marked subclasses as, by name: harmful, look again."""

    def is_named(self, superclass_names: tuple[str, ...]) -> bool:
        """Whether a person named or cut some: a name is not a superclass and a number."""
        parts = [name.rpartition("/") for name in self.names]
        return any(superclass not in superclass_names or not number.isdigit() for superclass, _, number in parts)

    def typical(self, number: int, count: int) -> Ids:
        """The rows of a cluster that are nearest to its centre, ``count`` of them at most."""
        rows = np.flatnonzero(self.cluster == number)
        return rows[np.argsort(self.distance[rows], kind="stable")][:count]


class Model(Protocol):
    """Tells the cluster of rows in the reduced space."""

    @property
    def count(self) -> int: ...

    def predict(self, x: Rows) -> Ids: ...


class Reduction(Protocol):
    """Brings rows into the reduced space."""

    def transform(self, x: Rows) -> Rows: ...


@dataclass(frozen=True)
class Centres:
    """k-means: the nearest centre."""

    centres: Rows
    """(clusters, dim)"""

    @property
    def count(self) -> int:
        return len(self.centres)

    def predict(self, x: Rows) -> Ids:
        from sklearn.metrics import pairwise_distances_argmin

        return np.asarray(pairwise_distances_argmin(x, self.centres), dtype=np.int64)


@dataclass(frozen=True)
class Turned(Centres):
    """The nearest centre once rows are turned and whitened."""

    mean: Rows
    """(dim,)"""
    turn: Rows
    """(dim, directions)"""

    def turned(self, x: Rows) -> Rows:
        return np.asarray((x - self.mean) @ self.turn)

    def predict(self, x: Rows) -> Ids:
        return super().predict(self.turned(x))


@dataclass(frozen=True)
class Mixture:
    """Gaussians, with full or with diagonal covariances: the likeliest."""

    weights: Rows
    """(clusters,)"""
    means: Rows
    """(clusters, dim)"""
    precisions: Rows
    """Cholesky factors (clusters, dim, dim), or of diagonal ones (clusters, dim)."""

    @property
    def count(self) -> int:
        return len(self.weights)

    def predict(self, x: Rows) -> Ids:
        from sklearn.mixture import GaussianMixture

        kind = "full" if self.precisions.ndim == 3 else "diag"
        model = GaussianMixture(len(self.weights), covariance_type=kind)
        model.weights_, model.means_, model.precisions_cholesky_ = self.weights, self.means, self.precisions
        return np.asarray(model.predict(x), dtype=np.int64)


@dataclass(frozen=True)
class Whole:
    """Leaves rows as they are."""

    def transform(self, x: Rows) -> Rows:
        return x


@dataclass(frozen=True)
class Components:
    """Principal components."""

    mean: Rows
    """(dim,)"""
    directions: Rows
    """(components, dim)"""

    def transform(self, x: Rows) -> Rows:
        return np.asarray(x @ self.directions.T - self.mean[None] @ self.directions.T)


@dataclass(frozen=True)
class Harder:
    """The score along the direction that tells the superclass, then components of the rest."""

    direction: Rows
    """(dim,), of unit length."""
    rest: Components | None

    def transform(self, x: Rows) -> Rows:
        score = x @ self.direction
        if self.rest is None:
            return np.asarray(score[:, None])
        return np.concatenate([score[:, None], self.rest.transform(x - np.outer(score, self.direction))], axis=1)


@dataclass(frozen=True)
class Clusters:
    """A clustering, the parts that its clusters were split in, and where each cluster went in the order of sizes."""

    model: Model | None
    """None: one cluster."""
    parts: Mapping[int, Model] = field(default_factory=dict)
    kept: dict[int, int] = field(default_factory=dict)
    """The new cluster of each part that stands by itself: ``each * cluster + part``."""
    each: int = 0
    """Parts of a cluster that was split."""
    order: Ids | None = None

    @property
    def count(self) -> int:
        """Clusters before any was split."""
        return 1 if self.model is None else self.model.count

    def predict(self, reduced: Rows) -> Ids:
        found = np.zeros(len(reduced), dtype=np.int64)
        if self.model is not None:
            found = np.asarray(self.model.predict(reduced), dtype=np.int64)
        result = found.copy()
        for c, model in self.parts.items():
            mine = np.flatnonzero(found == c)
            if len(mine):
                part = self.each * c + np.asarray(model.predict(reduced[mine]))
                result[mine] = [self.kept.get(int(one), c) for one in part]
        return result if self.order is None else self.order[result]


@dataclass(frozen=True)
class FittedSuperclass:
    """The clusters of one superclass; their ids run from ``first`` on."""

    reduction: Reduction
    clusters: Clusters
    centres: Rows
    first: int

    def space(self, x: Rows) -> Rows:
        """The rows where they were clustered."""
        reduced = np.asarray(self.reduction.transform(x), dtype=np.float64)
        return self.clusters.model.turned(reduced) if isinstance(self.clusters.model, Turned) else reduced

    def place(self, x: Rows, alike: Ids | None = None) -> tuple[Ids, Rows, Rows]:
        """Cluster, distance and confidence of each row; clusters that are ``alike`` count as one."""
        reduced = np.asarray(self.reduction.transform(x), dtype=np.float64)
        found = self.clusters.predict(reduced)
        apart = np.sqrt(squared_distances(reduced, self.centres))
        rows = np.arange(len(x))
        own, confidence = apart[rows, found], np.ones(len(x))
        if len(self.centres) > 1:
            group = np.arange(len(self.centres)) if alike is None else alike[self.first :][: len(self.centres)]
            apart[group[found][:, None] == group] = np.inf
            confidence = np.clip(1 - own / np.maximum(apart.min(axis=1), 1e-12), 0, 1)
        return found + self.first, own, confidence


@dataclass(frozen=True)
class Erased:
    """Takes directions out of vectors."""

    left: Rows
    """(dim, directions)"""
    right: Rows
    """(dim, directions)"""

    def transform(self, x: Rows) -> Rows:
        return np.asarray(x - (x @ self.right) @ self.left.T)


@dataclass(frozen=True)
class Fitted:
    """What was fitted to find the clusters, to tell those of further vectors of the same embedding."""

    length: str
    """Of vectors, as :class:`thanos.DiscoverConfig` has it."""
    mean: NDArray[np.float64]
    size: float
    superclasses: dict[int, FittedSuperclass]
    columns: tuple[int, int] | None = None
    """From which number of a vector to which; None: all."""
    erased: Erased | None = None
    """What was taken out first."""

    def predict(
        self, vectors: NDArray[np.float32], superclass: Ids, alike: Ids | None = None
    ) -> tuple[Ids, Rows, Rows]:
        """Cluster, distance and confidence of each row, as in :class:`Discovered`.

        Args:
            vectors: Embeddings, (n, dim).
            superclass: Their superclasses, (n,), ids of which each had training embeddings.
            alike: A number for each cluster; those of one number count as one (a person merged them). None: none do.
        """
        x = self._standardized(vectors)
        cluster, distance, confidence = np.zeros(len(x), dtype=np.int64), np.zeros(len(x)), np.ones(len(x))
        for value in np.unique(superclass):
            rows = superclass == value
            cluster[rows], distance[rows], confidence[rows] = self.superclasses[int(value)].place(x[rows], alike)
        return cluster, distance, confidence

    def spaces(self, vectors: NDArray[np.float32], superclass: Ids) -> Iterator[tuple[int, Ids, Rows]]:
        """By superclass its id, which rows are of it, and where they were clustered. Args: as :meth:`predict`."""
        x = self._standardized(vectors)
        for value in np.unique(superclass):
            rows = np.flatnonzero(superclass == value)
            yield int(value), rows, self.superclasses[int(value)].space(x[rows])

    def _standardized(self, vectors: NDArray[np.float32]) -> Rows:
        x = (of_length(vectors[:, slice(*self.columns or (None,))], self.length) - self.mean) / self.size
        return x if self.erased is None else self.erased.transform(x)


def of_length(vectors: NDArray[np.float32], length: str) -> Rows:
    """Embeddings in float64, of unit length unless they are to keep their own."""
    if length == "own":
        return vectors.astype(np.float64)
    x = ordinary_size(vectors).astype(np.float64)
    return np.asarray(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-6))


def squared_distances(x: Rows, y: Rows) -> Rows:
    """Between all rows, (n, m)."""
    apart: Rows = (x**2).sum(axis=1)[:, None] + (y**2).sum(axis=1)
    apart -= x @ (2 * y).T
    np.maximum(apart, 0, out=apart)
    return apart
