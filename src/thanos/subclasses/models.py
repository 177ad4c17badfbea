"""What is fitted to a superclass: reductions and clusterings, by scikit-learn, kept as plain arrays."""

import warnings

import numpy as np
from numpy.typing import NDArray

from thanos.config import DiscoverConfig
from thanos.errors import ConfigError
from thanos.subclasses.fitted import Centres, Components, Harder, Ids, Mixture, Reduction, Rows, Whole

FULL_COVARIANCE = 20_000
"""Up to so many images mixtures have full covariances."""
FittedModel = Centres | Mixture


def fit_reduction(
    x: Rows, superclass: Ids, value: int, train: NDArray[np.bool_], config: DiscoverConfig
) -> tuple[Reduction, float | None]:
    """What brings rows of a superclass into the reduced space; and the share of variance kept, where it is defined."""
    fitted = x[(superclass == value) & train]
    components = min(config.components, *fitted.shape)
    if config.reduce == "none" or (config.reduce == "pca" and components == x.shape[1]) or distinct(fitted, 2) < 2:
        return Whole(), None
    if config.reduce == "umap":
        return _umap(fitted, config), None
    if config.reduce == "pca":
        return _pca(fitted, components, config.seed)
    direction = _harder_direction(x[train], superclass[train] == value)
    if config.components == 1:
        return Harder(direction, None), None
    rest, kept = _pca(fitted - np.outer(fitted @ direction, direction), components - 1, config.seed)
    return Harder(direction, rest), kept


def _pca(fitted: Rows, components: int, seed: int) -> tuple[Components, float]:
    from sklearn.decomposition import PCA

    pca = PCA(components, random_state=seed).fit(fitted)
    return Components(pca.mean_, pca.components_), float(pca.explained_variance_ratio_.sum())


def _harder_direction(x: Rows, member: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The unit normal of a logistic regression between a superclass and the others."""
    from sklearn.linear_model import LogisticRegression

    if member.all():
        raise ConfigError("hardness is the direction between superclasses; there is one only. Use `reduce=pca`.")
    weights = LogisticRegression(max_iter=1000).fit(x, member).coef_[0]
    return np.asarray(weights / np.linalg.norm(weights))


def _umap(fitted: Rows, config: DiscoverConfig) -> Reduction:
    try:
        from umap import UMAP
    except ModuleNotFoundError:
        raise ConfigError("`reduce=umap` needs its package; install it with `pip install thanos-repr[umap]`.") from None
    reducer = UMAP(n_components=config.components, n_neighbors=10, min_dist=0.0, random_state=config.seed, n_jobs=1)
    reduction: Reduction = reducer.fit(fitted)
    return reduction


def fit_clusters(k: int, x: Rows, config: DiscoverConfig) -> FittedModel:
    """k clusters of the rows."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    covariance = "full" if len(x) <= FULL_COVARIANCE else "diag"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # rows that are almost equal
        if config.method == "kmeans":
            return Centres(KMeans(k, n_init=3, random_state=config.seed).fit(x).cluster_centers_)
        mixture = GaussianMixture(k, covariance_type=covariance, n_init=3, random_state=config.seed).fit(x)
        return Mixture(mixture.weights_, mixture.means_, mixture.precisions_cholesky_)


def distinct(x: Rows, enough: int) -> int:
    """How many different rows there are, or any number from ``enough`` on."""
    first = len(np.unique(x[: 100 * enough], axis=0))
    return first if first >= enough else len(np.unique(x, axis=0))
