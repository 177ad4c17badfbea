"""Hidden subclasses as a scikit-learn clusterer: fit on vectors and their classes, predict for new ones."""

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import ValidationError
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.linear_model import LogisticRegression
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from thanos.config import DiscoverConfig, explain
from thanos.embeddings import Embeddings
from thanos.subclasses.discovery import discover

ORDINARY = 100
"""Lengths between 2 to the minus this and 2 to this are left as they are."""
LARGEST = 1e38
"""What of new vectors float32 could not hold lies at its border."""


class SubclassDiscovery(ClusterMixin, BaseEstimator):
    """Clusters inside each class, as many as are seen, or one where nothing speaks for more.

    Args:
        clusters: In each class; None: chosen, or one where nothing speaks for more.
        number: How it is chosen: "silhouette", or "merging" (of many small clusters, with a test of whether there is
            more than one at all).
        least, most: Smallest and largest number that is tried; None: 10, by merging 60.
        reduce: "pca", "none", "hardness" or "umap" (an extra), before the clustering.
        components: Dimensions after the reduction.
        length: "unit" brings vectors to unit length first, "own" leaves them theirs.
        method: "kmeans" or "mixture" (of Gaussians).
        overcluster: Split each cluster in five and keep the parts that stand apart (George, NeurIPS 2020).
        random_state: Seed, or numpy's RandomState.

    Attributes:
        labels_: The cluster of each vector of ``fit``, shape (n,); ids run on from class to class, by size in each.
        names_: Of the ids: the class and a number.
        distance_, confidence_: Of each vector of ``fit`` from its cluster's centre; how surely it is of it, 0 to 1.
        classes_: The classes seen in ``fit``.
        superclasses_: By class, what was tried and found (:class:`thanos.Discovered`).

    Example:
        >>> from sklearn.datasets import make_blobs
        >>> X, kind = make_blobs([60] * 4, 8, random_state=0)
        >>> SubclassDiscovery(random_state=0).fit(X, kind % 2).names_
        ('0/0', '0/1', '1/0', '1/1')
    """

    def __init__(
        self,
        clusters: int | None = None,
        *,
        number: str = "silhouette",
        least: int = 1,
        most: int | None = None,
        reduce: str = "pca",
        components: int = 32,
        length: str = "unit",
        method: str = "kmeans",
        overcluster: bool = False,
        random_state: Any = None,
    ):
        self.clusters = clusters
        self.number = number
        self.least = least
        self.most = most
        self.reduce = reduce
        self.components = components
        self.length = length
        self.method = method
        self.overcluster = overcluster
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> Self:
        """Find the clusters.

        Args:
            X: Vectors, (n, features).
            y: Their classes, (n,); None: they are of one.
        Raises:
            ValueError: for other shapes, values that are no numbers, or settings that do not fit.
        """
        if y is None:
            vectors = validate_data(self, X, dtype=np.float64, ensure_min_samples=2)
            label: NDArray[Any] = np.zeros(len(vectors), dtype=np.int64)
        else:
            vectors, label = validate_data(self, X, y, dtype=np.float64, ensure_min_samples=2)
            check_classification_targets(label)
        self.classes_, superclass = np.unique(label, return_inverse=True)
        names = tuple(str(each) for each in self.classes_)
        split = np.zeros(len(vectors), dtype=np.int8)
        self._exponent = int(np.frexp(np.abs(vectors).max(initial=0.0))[1])
        embeddings = Embeddings(
            vectors=self._scaled(vectors), superclass=superclass.astype(np.int64), superclass_names=names, split=split
        )
        found = discover(embeddings, self._config())
        self.labels_, self.names_ = found.cluster, found.names
        self.distance_, self.confidence_ = found.distance, found.confidence
        self.superclasses_ = found.superclasses
        self.fitted_ = found.fitted
        self.classifier_ = None
        if len(self.classes_) > 1:
            self.classifier_ = LogisticRegression(max_iter=1000).fit(embeddings.vectors, superclass)
        return self

    def predict(self, X: ArrayLike, y: ArrayLike | None = None) -> NDArray[np.int64]:
        """The cluster of new vectors; those of ``fit`` get their ``labels_``.

        Args:
            X: Vectors, (n, features).
            y: Their classes, (n,), as in ``fit``; None: told by a logistic regression that was fitted beside.
        Raises:
            NotFittedError: before ``fit``.
            ValueError: for other shapes, or a class that ``fit`` has not seen.
        """
        return self._place(X, y)[0]

    def confidence(self, X: ArrayLike, y: ArrayLike | None = None) -> NDArray[np.float64]:
        """How surely new vectors are of the clusters that :meth:`predict` tells, (n,), 0 to 1."""
        return self._place(X, y)[2]

    def _place(
        self, X: ArrayLike, y: ArrayLike | None
    ) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
        check_is_fitted(self)
        vectors = self._scaled(validate_data(self, X, dtype=np.float64, reset=False))
        assert self.fitted_ is not None
        if y is None:
            superclass = np.zeros(len(vectors), dtype=np.int64)
            if self.classifier_ is not None:
                superclass = self.classifier_.predict(vectors)
            return self.fitted_.predict(vectors, superclass)
        label = np.asarray(y)
        if label.shape != (len(vectors),):
            raise ValueError(f"y has one class for each of the {len(vectors)} vectors; got shape {label.shape}.")
        unseen = np.setdiff1d(label, self.classes_)
        if len(unseen):
            raise ValueError(f"y holds classes of fit ({', '.join(map(str, self.classes_))}); got {unseen[0]}.")
        return self.fitted_.predict(vectors, np.searchsorted(self.classes_, label))

    def _scaled(self, X: NDArray[np.float64]) -> NDArray[np.float32]:
        """In float32; lengths that would overflow or vanish there by the power of two that suited ``fit``."""
        if abs(self._exponent) > ORDINARY:
            X = np.ldexp(X, -self._exponent)
        return np.clip(X, -LARGEST, LARGEST).astype(np.float32)

    def _config(self) -> DiscoverConfig:
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        names = ("clusters", "number", "least", "most", "reduce", "components", "length", "method", "overcluster")
        try:
            return DiscoverConfig(**{name: getattr(self, name) for name in names}, seed=seed)
        except ValidationError as error:
            raise ValueError(explain(error)) from None
