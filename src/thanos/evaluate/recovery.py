"""How well discovered clusters match the true subclasses, superclass by superclass.

No published code defines the recovery F1 of the paper's Table 4; the definition here is ours. Inside a superclass, with
``N[c, s]`` images of cluster c and subclass s, a cluster taken for a subclass has precision ``N[c, s] / N[c, .]`` and
recall ``N[c, s] / N[., s]``; F1 is their harmonic mean. A subclass scores the F1 of its best cluster. Two baselines
always stand beside: one cluster that holds the whole superclass scores ``2p / (1 + p)`` for a subclass of share p; and
the same clusters with their images shuffled score what many small clusters get by chance.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thanos.data.labels import Labels, SplitName
from thanos.evaluate.scores import Scores

SHUFFLES = 5
"""Draws behind what chance scores."""


def f1_table(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """F1 of every cluster (rows) taken for every subclass (columns): ``2 N[c, s] / (N[c, .] + N[., s])``."""
    return np.asarray(2 * counts / (counts.sum(axis=1, keepdims=True) + counts.sum(axis=0, keepdims=True)))


@dataclass(frozen=True)
class Rarest(Scores):
    """F1 of the smallest subclass of each superclass."""

    mean: float
    lowest: float


@dataclass(frozen=True)
class OneCluster(Scores):
    """What one cluster a superclass scores."""

    macro_f1: float
    rarest_f1: Rarest
    purity: float


@dataclass(frozen=True)
class Shuffled(Scores):
    """What the same clusters score with the images of a superclass drawn into them at random, mean of 5 draws."""

    best_f1: dict[str, float]
    macro_f1: float


@dataclass(frozen=True)
class Recovery(Scores):
    """Discovered clusters against true subclasses."""

    best_f1: dict[str, float]
    """Of each subclass, by name."""
    macro_f1: float
    """Their mean."""
    rarest_f1: Rarest
    one_to_one_f1: float
    """Clusters assigned to subclasses so that the sum of F1 is largest, subclasses left over score 0; mean over
    subclasses."""
    purity: float
    """Share of images that are of their cluster's most frequent subclass."""
    adjusted_rand: float
    adjusted_mutual_information: float
    """scikit-learn's, as the one before; unweighted mean over superclasses."""
    one_cluster: OneCluster
    shuffled: Shuffled
    n: int


JUDGED: tuple[SplitName, SplitName] = ("train", "test")
"""Splits on which recovery is measured."""


@dataclass(frozen=True)
class Recovered(Scores):
    """Clusters of all images against the true subclasses; nothing where none are known."""

    recovery: dict[str, Recovery]
    """By split: training and test."""
    recovery_by_level: dict[int, dict[str, Recovery]]
    """The same by each level of fine labels above the finest; the key is so many below the superclass."""

    def named(self) -> list[tuple[str, Recovery]]:
        """All of them, each with what it is of."""
        coarser = [
            (f"{split}, labels {depth} below the superclass", each)
            for depth, scores in self.recovery_by_level.items()
            for split, each in scores.items()
        ]
        return [*self.recovery.items(), *coarser]


def recovery_by_split(labels: Labels, found: NDArray[np.int64]) -> Recovered:
    """Clusters of all images against the true subclasses.

    Args:
        labels: Of the images.
        found: Their clusters, shape (n,).
    """
    judged = {depth: _of_splits(record, found) for depth, record in labels.by_level().items()}
    return Recovered(_of_splits(labels, found), {depth: scores for depth, scores in judged.items() if scores})


def _of_splits(labels: Labels, found: NDArray[np.int64]) -> dict[str, Recovery]:
    if labels.subclass is None:
        return {}
    scores: dict[str, Recovery] = {}
    for split in JUDGED:
        rows = labels.rows(split)
        against = recovery_scores(found[rows], labels.subclass[rows], labels.superclass[rows], labels.subclass_names)
        scores |= {} if against is None else {split: against}
    return scores


def recovery_scores(
    found: NDArray[np.int64],
    true: NDArray[np.int64],
    superclass: NDArray[np.int64],
    subclass_names: tuple[str, ...] = (),
) -> Recovery | None:
    """Discovered clusters against true subclasses; superclasses of one subclass and images without one are left out.

    Args:
        found: Cluster of each image, shape (n,); clusters of different superclasses count apart.
        true: Subclass ids, shape (n,), -1 unknown.
        superclass: Ids, shape (n,).
        subclass_names: Of the ids.
    Returns:
        None without a superclass of two or more subclasses.
    """
    rng = np.random.default_rng(0)
    inside = []
    for value in np.unique(superclass):
        rows = np.flatnonzero((superclass == value) & (true >= 0))
        if len(np.unique(true[rows])) > 1:
            inside.append(_inside(found[rows], true[rows], subclass_names, rng))
    if not inside:
        return None
    best, by_chance = ({k: v for each in inside for k, v in getattr(each, name).items()} for name in ("best", "chance"))
    alone = [value for each in inside for value in each.alone]
    images = sum(each.images for each in inside)
    return Recovery(
        best_f1=best,
        macro_f1=float(np.mean([*best.values()])),
        rarest_f1=_rarest([each.rarest for each in inside]),
        one_to_one_f1=float(np.mean([value for each in inside for value in each.assigned])),
        purity=sum(each.pure for each in inside) / images,
        adjusted_rand=float(np.mean([each.rand for each in inside])),
        adjusted_mutual_information=float(np.mean([each.information for each in inside])),
        one_cluster=OneCluster(
            macro_f1=float(np.mean(alone)),
            rarest_f1=_rarest([each.rarest_alone for each in inside]),
            purity=sum(each.pure_alone for each in inside) / images,
        ),
        shuffled=Shuffled(by_chance, float(np.mean([*by_chance.values()]))),
        n=images,
    )


@dataclass(frozen=True)
class _Inside:
    """One superclass."""

    best: dict[str, float]
    chance: dict[str, float]
    alone: list[float]
    """F1 of each subclass if one cluster held all."""
    rarest: float
    rarest_alone: float
    assigned: list[float]
    rand: float
    information: float
    pure: int
    """Images of their cluster's most frequent subclass; and if one cluster held all."""
    pure_alone: int
    images: int


def _inside(
    found: NDArray[np.int64], true: NDArray[np.int64], subclass_names: tuple[str, ...], rng: np.random.Generator
) -> _Inside:
    from scipy.optimize import linear_sum_assignment
    from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score
    from sklearn.metrics.cluster import contingency_matrix

    kinds, sizes = np.unique(true, return_counts=True)
    counts = contingency_matrix(found, true)
    f1 = f1_table(counts)
    names = [subclass_names[kind] if subclass_names else str(kind) for kind in kinds]
    drawn = [contingency_matrix(rng.permutation(found), true) for _ in range(SHUFFLES)]
    chance = np.mean([f1_table(each).max(axis=0) for each in drawn], axis=0)
    whole = 2 * sizes / (len(true) + sizes)
    smallest = int(sizes.argmin())
    chosen = np.zeros(len(kinds))
    cluster, kind = linear_sum_assignment(f1, maximize=True)
    chosen[kind] = f1[cluster, kind]
    return _Inside(
        best=dict(zip(names, f1.max(axis=0).tolist(), strict=True)),
        chance=dict(zip(names, chance.tolist(), strict=True)),
        alone=whole.tolist(),
        rarest=float(f1[:, smallest].max()),
        rarest_alone=float(whole[smallest]),
        assigned=chosen.tolist(),
        rand=float(adjusted_rand_score(true, found)),
        information=float(adjusted_mutual_info_score(true, found)),
        pure=int(counts.max(axis=1).sum()),
        pure_alone=int(sizes.max()),
        images=len(true),
    )


def _rarest(values: list[float]) -> Rarest:
    return Rarest(float(np.mean(values)), float(np.min(values)))
