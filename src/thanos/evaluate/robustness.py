"""Accuracy group by group, four ways to sum it up under names that cannot be confused, and scores of probabilities.

Public code calls both the mean over groups and the mean weighted by the training set's groups "adjusted" or "average";
here they are ``group_mean`` and ``train_weighted_mean``, beside ``sample_mean`` and ``worst_group``.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thanos.errors import DataError

DRAWS = 2000
SMALL = 50
"""A group of fewer test images is marked: its accuracy moves by more than two points for one image."""
BINS = 15


def group_scores(
    right: NDArray[np.bool_],
    group: NDArray[np.int64],
    group_names: Sequence[str],
    *,
    train_share: NDArray[np.float64] | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Accuracy of each group and its summaries, with 95% bootstrap intervals (images drawn anew inside each group).

    Args:
        right: Whether each prediction is right, shape (n,).
        group: Group ids, shape (n,), all >= 0.
        group_names: Of the ids; groups without images are left out.
        train_share: Share of each group among the training images, by id; without it no ``train_weighted_mean``.
        seed: Of the bootstrap.
    Returns:
        ``groups`` (by name: ``accuracy``, ``n``, ``small``), ``worst_group`` with its ``name``, ``group_mean``
        (unweighted), ``train_weighted_mean`` and ``sample_mean``; each with ``interval``.
    Raises:
        DataError: for an image without a group.
    """
    if (group < 0).any():
        raise DataError(f"group scores need every image's group; image {int((group < 0).argmax())} has none.")
    size = np.bincount(group, minlength=len(group_names))
    there = np.flatnonzero(size)
    accuracy = np.bincount(group, weights=right, minlength=len(size))[there] / size[there]
    # n draws from 0 and 1 are a binomial draw: the bootstrap without drawing images
    drawn = np.random.default_rng(seed).binomial(size[there], accuracy, (DRAWS, len(there))) / size[there]
    names = [group_names[g] for g in there.tolist()]
    scores: dict[str, Any] = {
        "groups": {
            name: {"accuracy": float(a), "n": int(n), "small": bool(n < SMALL)}
            for name, a, n in zip(names, accuracy, size[there], strict=True)
        },
        "worst_group": {"name": names[int(accuracy.argmin())], **_summary(accuracy.min(), drawn.min(axis=1))},
        "group_mean": _summary(accuracy.mean(), drawn.mean(axis=1)),
        "sample_mean": _summary(right.mean(), drawn @ size[there] / size.sum()),
    }
    if train_share is not None:
        weight = train_share[there] / train_share[there].sum()
        scores["train_weighted_mean"] = _summary(accuracy @ weight, drawn @ weight)
    return scores


def _summary(value: float, drawn: NDArray[np.float64]) -> dict[str, Any]:
    low, high = np.quantile(drawn, (0.025, 0.975))
    return {"accuracy": float(value), "interval": (float(low), float(high))}


def worst_class(right: NDArray[np.bool_], superclass: NDArray[np.int64], names: Sequence[str]) -> dict[str, Any]:
    """The lowest accuracy of a superclass: what can be watched where no group is known."""
    kinds = np.unique(superclass)
    accuracy = np.array([right[superclass == kind].mean() for kind in kinds])
    return {"name": names[int(kinds[accuracy.argmin()])], "accuracy": float(accuracy.min())}


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
        ``overall``, ``pairs`` (by "positive subclass / negative subclass") and ``worst_pair`` with its name.
    Raises:
        DataError: if one of the two superclasses has no image.
    """
    from sklearn.metrics import roc_auc_score

    if positive.all() or not positive.any():
        raise DataError("an AUROC compares positives with negatives; one of the two has no image.")
    pairs = {}
    for a in np.unique(subclass[positive]):
        for b in np.unique(subclass[~positive]):
            rows = (positive & (subclass == a)) | (~positive & (subclass == b))
            pairs[f"{subclass_names[a]} / {subclass_names[b]}"] = float(roc_auc_score(positive[rows], score[rows]))
    name = min(pairs, key=lambda pair: pairs[pair])
    return {
        "overall": float(roc_auc_score(positive, score)),
        "pairs": pairs,
        "worst_pair": {"name": name, "auroc": pairs[name]},
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
