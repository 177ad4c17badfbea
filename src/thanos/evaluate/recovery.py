"""How well discovered clusters match the true subclasses, superclass by superclass.

No published code defines the recovery F1 of the paper's Table 4; the definition here is ours. Inside a superclass, with
``N[c, s]`` images of cluster c and subclass s, a cluster taken for a subclass has precision ``N[c, s] / N[c, .]`` and
recall ``N[c, s] / N[., s]``; F1 is their harmonic mean. A subclass scores the F1 of its best cluster. Two baselines
always stand beside: one cluster that holds the whole superclass scores ``2p / (1 + p)`` for a subclass of share p; and
the same clusters with their images shuffled score what many small clusters get by chance.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

SHUFFLES = 5
"""Draws behind what chance scores."""


def f1_table(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """F1 of every cluster (rows) taken for every subclass (columns): ``2 N[c, s] / (N[c, .] + N[., s])``."""
    return 2 * counts / (counts.sum(axis=1, keepdims=True) + counts.sum(axis=0, keepdims=True))


def recovery(
    found: NDArray[np.int64],
    true: NDArray[np.int64],
    superclass: NDArray[np.int64],
    subclass_names: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Discovered clusters against true subclasses; superclasses of one subclass and images without one are left out.

    Args:
        found: Cluster of each image, shape (n,); clusters of different superclasses count apart.
        true: Subclass ids, shape (n,), -1 unknown.
        superclass: Ids, shape (n,).
        subclass_names: Of the ids.
    Returns:
        ``best_f1`` (of each subclass, by name), ``macro_f1`` (their mean), ``rarest_f1`` (the smallest subclass of each
        superclass: mean and lowest), ``one_to_one_f1`` (clusters assigned to subclasses so that the sum of F1 is
        largest, subclasses left over score 0; mean over subclasses), ``purity`` (share of images that are of their
        cluster's most frequent subclass), ``adjusted_rand`` and ``adjusted_mutual_information`` (scikit-learn's,
        unweighted mean over superclasses), ``one_cluster`` (``macro_f1``, ``rarest_f1``, ``purity`` of one cluster a
        superclass), ``shuffled`` (``best_f1`` and ``macro_f1`` of the same clusters with the images of a superclass
        drawn into them at random, mean of 5 draws from a fixed seed) and ``n``. Empty without a superclass of two or
        more subclasses.
    """
    from scipy.optimize import linear_sum_assignment
    from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score
    from sklearn.metrics.cluster import contingency_matrix

    best: dict[str, float] = {}
    by_chance: dict[str, float] = {}
    rng = np.random.default_rng(0)
    alone: list[float] = []
    rarest, rarest_alone, assigned, rand, information = [], [], [], [], []
    pure = pure_alone = images = 0
    for value in np.unique(superclass):
        rows = np.flatnonzero((superclass == value) & (true >= 0))
        kinds, sizes = np.unique(true[rows], return_counts=True)
        if len(kinds) < 2:
            continue
        counts = contingency_matrix(found[rows], true[rows])
        f1 = f1_table(counts)
        names = [subclass_names[kind] if subclass_names else str(kind) for kind in kinds]
        best |= dict(zip(names, f1.max(axis=0).tolist(), strict=True))
        drawn = [contingency_matrix(rng.permutation(found[rows]), true[rows]) for _ in range(SHUFFLES)]
        chance = np.mean([f1_table(each).max(axis=0) for each in drawn], axis=0)
        by_chance |= dict(zip(names, chance.tolist(), strict=True))
        whole = 2 * sizes / (len(rows) + sizes)
        alone += whole.tolist()
        smallest = int(sizes.argmin())
        rarest.append(float(f1[:, smallest].max()))
        rarest_alone.append(float(whole[smallest]))
        chosen = np.zeros(len(kinds))
        cluster, kind = linear_sum_assignment(f1, maximize=True)
        chosen[kind] = f1[cluster, kind]
        assigned += chosen.tolist()
        rand.append(float(adjusted_rand_score(true[rows], found[rows])))
        information.append(float(adjusted_mutual_info_score(true[rows], found[rows])))
        pure += int(counts.max(axis=1).sum())
        pure_alone += int(sizes.max())
        images += len(rows)
    if not best:
        return {}
    return {
        "best_f1": best,
        "macro_f1": float(np.mean([*best.values()])),
        "rarest_f1": {"mean": float(np.mean(rarest)), "lowest": float(np.min(rarest))},
        "one_to_one_f1": float(np.mean(assigned)),
        "purity": pure / images,
        "adjusted_rand": float(np.mean(rand)),
        "adjusted_mutual_information": float(np.mean(information)),
        "one_cluster": {
            "macro_f1": float(np.mean(alone)),
            "rarest_f1": {"mean": float(np.mean(rarest_alone)), "lowest": float(np.min(rarest_alone))},
            "purity": pure_alone / images,
        },
        "shuffled": {"best_f1": by_chance, "macro_f1": float(np.mean([*by_chance.values()]))},
        "n": images,
    }
