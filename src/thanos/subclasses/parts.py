"""George's overclustering: every cluster split in five, of which the parts stay that stand apart (NeurIPS 2020)."""

import numpy as np
from numpy.typing import NDArray

from thanos.config import DiscoverConfig
from thanos.subclasses.fitted import Clusters, Ids, Rows
from thanos.subclasses.models import FittedModel, fit_clusters
from thanos.subclasses.silhouette import Sampled, silhouettes

PARTS = 5
"""George's sub-clusters of each cluster."""
SMALLEST_SHARE, SMALLEST_TRAIN, SMALLEST_VALIDATION = 0.005, 25, 25
"""George keeps a sub-cluster of no fewer images: of the superclass's share, in training, in validation."""


def split_in_parts(
    x: Rows,
    model: FittedModel,
    found: Ids,
    train: NDArray[np.bool_],
    validation: NDArray[np.bool_],
    sampled: Sampled,
    config: DiscoverConfig,
    loss: NDArray[np.float64] | None,
) -> Clusters:
    """Split each cluster in five; a part stays if it stands apart better than before, is large enough, and is hard.

    The rest of a cluster stays together.
    """
    parts, models = np.full(len(x), -1), {}
    for c in np.unique(found):
        mine = np.flatnonzero(found == c)
        fitted = x[mine[train[mine]]]
        if len(np.unique(fitted, axis=0)) >= PARTS:
            models[int(c)] = fit_clusters(PARTS, fitted, config)
            parts[mine] = PARTS * c + models[int(c)].predict(x[mine])
    fine = np.where(parts < 0, PARTS * found, parts)
    chosen, apart = np.flatnonzero(train)[sampled.rows], sampled.apart
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
    return Clusters(model, models, apart_now, PARTS)
