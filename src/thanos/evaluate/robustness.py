"""Accuracy group by group, four ways to sum it up under names that cannot be confused, and scores of probabilities.

Public code calls both the mean over groups and the mean weighted by the training set's groups "adjusted" or "average";
here they are ``group_mean`` and ``train_weighted_mean``, beside ``sample_mean`` and ``worst_group``.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thanos.errors import DataError
from thanos.evaluate.intervals import FEW, lowest_share, mean_share_interval, share_interval

BINS = 15


def group_scores(
    right: NDArray[np.bool_],
    group: NDArray[np.int64],
    group_names: Sequence[str],
    *,
    train_share: NDArray[np.float64] | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Accuracy of each group and its summaries, with 95% intervals that know how many images each rests on.

    Args:
        right: Whether each prediction is right, shape (n,).
        group: Group ids, shape (n,), all >= 0.
        group_names: Of the ids; groups without images are left out.
        train_share: Share of each group among the training images, by id; without it no ``train_weighted_mean``.
        seed: Of the draws behind the intervals of means.
    Returns:
        ``groups`` (by name: ``accuracy``, ``n``, ``interval``, and ``small``: n < 50), ``worst_group`` (the same with
        its ``name``; its interval is that of the lowest true accuracy, whichever group has it), ``group_mean``
        (unweighted), ``train_weighted_mean`` and ``sample_mean`` (``accuracy``, ``interval``). See
        :mod:`thanos.evaluate.intervals`.
    Raises:
        DataError: for an image without a group.
    """
    if (group < 0).any():
        raise DataError(f"group scores need every image's group; image {int((group < 0).argmax())} has none.")
    groups = _by_kind(right, group, group_names)
    accuracy, n = (np.array([each[key] for each in groups.values()]) for key in ("accuracy", "n"))

    def mean(weight: NDArray[np.float64]) -> dict[str, Any]:
        return {"accuracy": float(accuracy @ weight), "interval": mean_share_interval(accuracy, n, weight, seed)}

    scores: dict[str, Any] = {
        "groups": groups,
        "worst_group": lowest_share(groups),
        "group_mean": mean(np.full(len(n), 1 / len(n))),
        "sample_mean": {"accuracy": float(right.mean()), "interval": share_interval(float(right.mean()), len(right))},
    }
    if train_share is not None:
        there = train_share[np.unique(group)]
        scores["train_weighted_mean"] = mean(there / there.sum())
    return scores


def _by_kind(right: NDArray[np.bool_], kind: NDArray[np.int64], names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Of every kind that there is: ``accuracy``, ``n``, ``interval`` and whether that is ``small``."""
    found = {}
    for value in np.unique(kind).tolist():
        mine = right[kind == value]
        accuracy, n = float(mine.mean()), len(mine)
        around = share_interval(accuracy, n)
        found[names[value]] = {"accuracy": accuracy, "n": n, "small": n < FEW, "interval": around}
    return found


def worst_class(right: NDArray[np.bool_], superclass: NDArray[np.int64], names: Sequence[str]) -> dict[str, Any]:
    """The lowest accuracy of a superclass: what can be watched where no group is known.

    Returns:
        As ``worst_group`` of :func:`group_scores`.
    """
    return lowest_share(_by_kind(right, superclass, names))


def pairwise_auroc(
    score: NDArray[np.float64],
    positive: NDArray[np.bool_],
    subclass: NDArray[np.int64],
    subclass_names: Sequence[str],
) -> dict[str, Any]:
    """AUROC over all images, and between every subclass of the positives and every one of the negatives.

    Args:
        score: Higher for the positive superclass, shape (n,).
        positive: Whether an image is of the positive superclass, shape (n,).
        subclass: Ids, shape (n,).
        subclass_names: Of the ids.
    Returns:
        ``overall``, ``pairs`` (by "positive subclass / negative subclass"), ``n`` (images of either subclass, by pair)
        and ``worst_pair`` with its name, its ``n`` and whether that is ``small`` (either below 50).
    Raises:
        DataError: if one of the two superclasses has no image.
    """
    from sklearn.metrics import roc_auc_score

    if positive.all() or not positive.any():
        raise DataError("an AUROC compares positives with negatives; one of the two has no image.")
    pairs, sizes = {}, {}
    for a in np.unique(subclass[positive]):
        for b in np.unique(subclass[~positive]):
            rows = (positive & (subclass == a)) | (~positive & (subclass == b))
            name = f"{subclass_names[a]} / {subclass_names[b]}"
            pairs[name] = float(roc_auc_score(positive[rows], score[rows]))
            sizes[name] = [int((positive & rows).sum()), int((~positive & rows).sum())]
    worst = min(pairs, key=lambda pair: pairs[pair])
    return {
        "overall": float(roc_auc_score(positive, score)),
        "pairs": pairs,
        "n": sizes,
        "worst_pair": {"name": worst, "auroc": pairs[worst], "n": sizes[worst], "small": min(sizes[worst]) < FEW},
    }


def calibration_error(probability: NDArray[np.float64], superclass: NDArray[np.int64]) -> float:
    """Expected calibration error: ``|accuracy - confidence|`` in 15 equal bins of confidence, weighted by their images.

    Args:
        probability: Of each superclass, shape (n, superclasses).
        superclass: True ids, shape (n,).
    """
    confidence = probability.max(axis=1)
    right = probability.argmax(axis=1) == superclass
    place = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gap = np.bincount(place, weights=right, minlength=BINS) - np.bincount(place, weights=confidence, minlength=BINS)
    return float(np.abs(gap).sum() / len(superclass))
