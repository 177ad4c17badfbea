"""Hidden subclasses: clusters of embeddings inside each superclass, how many, and how surely each image belongs.

Every superclass is reduced and clustered by itself, fitted on its training images and applied to all. What a cluster is
not: a protected group, or a cause of anything; it is a set of images that this embedding puts together.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thanos.config import DiscoverConfig
from thanos.embeddings import Embeddings
from thanos.errors import ConfigError, DataError
from thanos.evaluate.intervals import holm
from thanos.subclasses.count import choose_number
from thanos.subclasses.erase import Trace, fit_erased, trace_of
from thanos.subclasses.fitted import Clusters, Discovered, Fitted, FittedSuperclass, Ids, Rows, Turned, of_length
from thanos.subclasses.models import FittedModel, distinct, fit_clusters, fit_reduction
from thanos.subclasses.parts import split_in_parts
from thanos.subclasses.properties import Properties
from thanos.subclasses.silhouette import MARGIN, Sampled
from thanos.subclasses.stability import HELD, probability_of_holding


def discover(
    embeddings: Embeddings,
    config: DiscoverConfig | None = None,
    *,
    loss: NDArray[np.float64] | None = None,
    properties: Properties | None = None,
    stability: bool = True,
) -> Discovered:
    """Cluster each superclass.

    Args:
        embeddings: Superclasses are used, subclasses never.
        config: How.
        loss: Of each image under a plain classifier, shape (n,): with it George keeps a sub-cluster only if it is
            harder than its parent.
        properties: Of the images, for ``without``.
        stability: Whether to cluster parts of the images anew, to tell how surely each subclass would be found again.
    Raises:
        DataError: if a superclass has no training embedding, or fewer distinct ones than clusters, or if one cluster
            took everything.
        ConfigError: for umap without its package, hardness with one superclass, a part that there is not, or a
            property that there is not.
    """
    config = config or DiscoverConfig()
    if config.without is not None and properties is None:
        raise ConfigError(f"`without={config.without}` needs the images, or columns beside the vectors. Drop it.")
    trace = None if config.without is None or properties is None else trace_of(config.without, properties)
    if config.part not in ("auto", "whole", *embeddings.columns):
        raise ConfigError(
            f"`part={config.part}` chooses between a backbone's features and a head's embedding, and these embeddings "
            f"are not made of both. Drop it."
        )
    of_columns = partial(_discover, embeddings, loss=loss, trace=trace, stability=stability)
    if not embeddings.columns or config.part == "whole":
        return of_columns(None, config)
    if config.part != "auto":
        return of_columns(embeddings.columns[config.part], config)
    free = config.model_copy(update={"clusters": None, "overcluster": False, "least": 1})
    found = {name: of_columns(columns, free) for name, columns in embeddings.columns.items()}
    far = {name: standing_out(each) for name, each in found.items()}
    best = "head" if far["head"] > MARGIN * far["features"] else "features"  # what was there before needs no proof
    chosen = found[best] if config == free else of_columns(embeddings.columns[best], config)
    return replace(chosen, standing_out={best: far[best]} | far)


def standing_out(found: Discovered) -> float:
    """How many times as far as clouds without clusters the best clusters stand out, mean over superclasses.

    Where merging chose, by how many standard deviations of theirs.
    """
    if any("excess" in fact for fact in found.superclasses.values()):
        return float(np.mean([fact.get("excess", 0.0) for fact in found.superclasses.values()]))
    ratios = []
    for fact in found.superclasses.values():
        clouds = [value for value in fact.get("unstructured", ()) if value > 0]
        ratios.append(max(fact["silhouette"].values()) / max(clouds) if clouds else 1.0)
    return float(np.mean(ratios))


def _discover(
    embeddings: Embeddings,
    columns: tuple[int, int] | None,
    config: DiscoverConfig,
    loss: NDArray[np.float64] | None,
    trace: Trace | None,
    stability: bool,
) -> Discovered:
    """Of these numbers of each vector."""
    x = of_length(embeddings.vectors[:, slice(*columns or (None,))], config.length)
    train = embeddings.in_split("train")
    if not train.any():
        train[:] = True
    mean, size = _standardize(x, train)
    erased = None if trace is None else fit_erased(x, embeddings.superclass, train, trace)
    x = x if erased is None else erased.transform(x)
    cluster = np.zeros(len(x), dtype=np.int64)
    distance, confidence = np.zeros(len(x)), np.ones(len(x))
    names: list[str] = []
    facts: dict[str, dict[str, Any]] = {}
    fitted: dict[int, FittedSuperclass] = {}
    for value in np.unique(embeddings.superclass):
        name = embeddings.superclass_names[value]
        rows = np.flatnonzero(embeddings.superclass == value)
        mine = train[rows]
        _check(name, x[rows][mine], config)
        reduction, kept = fit_reduction(x, embeddings.superclass, int(value), train, config)
        reduced = np.asarray(reduction.transform(x[rows]), dtype=np.float64)
        validation, losses = embeddings.in_split("validation")[rows], None if loss is None else loss[rows]
        clusters, fact = _cluster(reduced, mine, validation, config, losses)
        clusters, found = _by_size(clusters, clusters.predict(reduced), mine)
        centres = np.stack([reduced[mine & (found == c)].mean(axis=0) for c in range(found.max() + 1)])
        fitted[int(value)] = FittedSuperclass(reduction, clusters, centres, len(names))
        cluster[rows], distance[rows], confidence[rows] = fitted[int(value)].place(x[rows])
        names += [f"{name}/{c}" for c in range(len(centres))]
        sizes = np.bincount(found, minlength=len(centres)).tolist()
        held = _holding(reduced[mine], found[mine], clusters, fact, config) if stability else []
        fact |= {"holds": {f"{name}/{c}": share for c, share in enumerate(held)}} if held else {}
        facts[name] = {"clusters": len(centres), "sizes": sizes, "images": len(rows), "variance_kept": kept} | fact
    if all("p" in fact for fact in facts.values()):
        corrected = holm(np.array([fact["p"] for fact in facts.values()]))
        facts = {name: fact | {"p": float(p)} for (name, fact), p in zip(facts.items(), corrected, strict=True)}
    return Discovered(
        cluster, tuple(names), distance, confidence, facts, Fitted(config.length, mean, size, fitted, columns, erased)
    )


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
    found = distinct(train, wanted)
    if found < wanted:
        raise DataError(
            f"{wanted} clusters need {wanted} different training embeddings; superclass {name!r} has {found}. Lower "
            f"`clusters`, or give more images."
        )


def _cluster(
    x: Rows,
    train: NDArray[np.bool_],
    validation: NDArray[np.bool_],
    config: DiscoverConfig,
    loss: NDArray[np.float64] | None,
) -> tuple[Clusters, dict[str, Any]]:
    """The clustering of a superclass, and how its number of clusters was found."""
    fitted = x[train]
    facts: dict[str, Any] = {}
    rng, sampled = np.random.default_rng(config.seed), None
    if config.overcluster or (config.clusters is None and config.number == "silhouette"):
        sampled = Sampled.of(fitted, rng)
        facts["silhouette_images"] = len(sampled.rows)
    if config.clusters is not None:
        chosen: FittedModel | None = fit_clusters(config.clusters, fitted, config)
    else:
        chosen, searched = choose_number(fitted, sampled, config, rng)
        facts |= searched
    if chosen is None:
        return Clusters(None), facts
    found = np.asarray(chosen.predict(x), dtype=np.int64)
    if config.clusters and config.clusters > 1 and len(np.unique(found[train])) < 2:
        raise DataError("one cluster took all training images. Lower `clusters`, or use another `reduce` or `method`.")
    if sampled is not None and config.overcluster:
        return split_in_parts(x, chosen, found, train, validation, sampled, config, loss), facts
    return Clusters(chosen), facts


def _holding(x: Rows, found: Ids, clusters: Clusters, fact: dict[str, Any], config: DiscoverConfig) -> list[float]:
    """The probability of each cluster that a fresh draw has it too, clustered as these were; of one, nothing."""
    if clusters.model is None or clusters.parts:
        return []
    turned = clusters.model.turned(x) if isinstance(clusters.model, Turned) else x

    def cluster(some: Rows, count: int) -> Callable[[Rows], Ids]:
        return fit_clusters(count, some, config).predict

    rng, whole = np.random.default_rng((config.seed, 1)), np.bincount(found) > HELD * len(found)
    held = probability_of_holding(turned, found, cluster, rng, numbers=fact.get("again", ()))
    one = fact.get("one_again", 0.0)
    return [(1 - one) * share + one * float(most) for share, most in zip(held, whole, strict=True)]


def _by_size(clusters: Clusters, found: Ids, train: NDArray[np.bool_]) -> tuple[Clusters, Ids]:
    """Ids in the order of their training images; a cluster without any joins the largest."""
    count = max(int(found.max()), *clusters.kept.values(), *clusters.parts, 0) + 1
    size = np.bincount(found[train], minlength=max(count, clusters.count))
    place = np.zeros(len(size), dtype=np.int64)
    order = np.argsort(-size, kind="stable")
    place[order] = np.arange(len(size))
    place[size == 0] = 0
    return replace(clusters, order=place), place[found]
