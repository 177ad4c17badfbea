"""Accuracy group by group, four ways to sum it up under names that cannot be confused, and scores of probabilities.

Public code calls both the mean over groups and the mean weighted by the training set's groups "adjusted" or "average";
here they are ``group_mean`` and ``train_weighted_mean``, beside ``sample_mean`` and ``worst_group``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thanos.errors import DataError
from thanos.evaluate.intervals import FEW, Interval, lowest_share, mean_share_interval, share_interval
from thanos.evaluate.scores import Scores

BINS = 15


@dataclass(frozen=True)
class Share(Scores):
    """The accuracy on a group of images."""

    accuracy: float
    n: int
    interval: Interval
    """95%; of a worst group that of the lowest true accuracy, whichever group has it."""
    small: bool
    """Whether it rests on fewer than 50 images."""
    name: str | None = None
    """Of a worst group."""


@dataclass(frozen=True)
class Mean(Scores):
    """A mean of accuracies."""

    accuracy: float
    interval: Interval


@dataclass(frozen=True)
class GroupScores(Scores):
    """Accuracy of each group, and its summaries (:mod:`thanos.evaluate.intervals` has the intervals)."""

    groups: dict[str, Share]
    worst_group: Share
    group_mean: Mean
    """Unweighted."""
    sample_mean: Mean
    train_weighted_mean: Mean | None = None
    """Weighted by the groups' share of the training images, where that is known."""
    images_without_group: int | None = None
    """Test images that were left out."""


def group_scores(
    right: NDArray[np.bool_],
    group: NDArray[np.int64],
    group_names: Sequence[str],
    *,
    train_share: NDArray[np.float64] | None = None,
    seed: int = 0,
) -> GroupScores:
    """Accuracy of each group and its summaries, with 95% intervals that know how many images each rests on.

    Args:
        right: Whether each prediction is right, shape (n,).
        group: Group ids, shape (n,), all >= 0.
        group_names: Of the ids; groups without images are left out.
        train_share: Share of each group among the training images, by id; without it no ``train_weighted_mean``.
        seed: Of the draws behind the intervals of means.
    Raises:
        DataError: for an image without a group.
    """
    if (group < 0).any():
        raise DataError(f"group scores need every image's group; image {int((group < 0).argmax())} has none.")
    groups = _by_kind(right, group, group_names)
    accuracy, n = (np.array([each[key] for each in groups.values()]) for key in ("accuracy", "n"))

    def mean(weight: NDArray[np.float64]) -> Mean:
        return Mean(float(accuracy @ weight), mean_share_interval(accuracy, n, weight, seed))

    weighted = None
    if train_share is not None:
        there = train_share[np.unique(group)]
        weighted = mean(there / there.sum())
    return GroupScores(
        groups={name: Share(**each) for name, each in groups.items()},
        worst_group=Share(**lowest_share(groups)),
        group_mean=mean(np.full(len(n), 1 / len(n))),
        sample_mean=Mean(float(right.mean()), share_interval(float(right.mean()), len(right))),
        train_weighted_mean=weighted,
    )


def _by_kind(right: NDArray[np.bool_], kind: NDArray[np.int64], names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Of every kind that there is: ``accuracy``, ``n``, ``interval`` and whether that is ``small``."""
    found = {}
    for value in np.unique(kind).tolist():
        mine = right[kind == value]
        accuracy, n = float(mine.mean()), len(mine)
        around = share_interval(accuracy, n)
        found[names[value]] = {"accuracy": accuracy, "n": n, "small": n < FEW, "interval": around}
    return found


def worst_class(right: NDArray[np.bool_], superclass: NDArray[np.int64], names: Sequence[str]) -> Share:
    """The lowest accuracy of a superclass: what can be watched where no group is known."""
    return Share(**lowest_share(_by_kind(right, superclass, names)))


@dataclass(frozen=True)
class WorstPair(Scores):
    """The pair of subclasses with the lowest AUROC."""

    name: str
    auroc: float
    n: list[int]
    """Images of either subclass."""
    small: bool
    """Whether either has fewer than 50."""


@dataclass(frozen=True)
class Auroc(Scores):
    """AUROC over all images, and between subclasses of the positives and of the negatives."""

    overall: float
    pairs: dict[str, float]
    """By "positive subclass / negative subclass"."""
    n: dict[str, list[int]]
    """Images of either subclass, by pair."""
    worst_pair: WorstPair


def pairwise_auroc(
    score: NDArray[np.float64],
    positive: NDArray[np.bool_],
    subclass: NDArray[np.int64],
    subclass_names: Sequence[str],
) -> Auroc:
    """AUROC over all images, and between every subclass of the positives and every one of the negatives.

    Args:
        score: Higher for the positive superclass, shape (n,).
        positive: Whether an image is of the positive superclass, shape (n,).
        subclass: Ids, shape (n,).
        subclass_names: Of the ids.
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
    lowest = WorstPair(worst, pairs[worst], sizes[worst], min(sizes[worst]) < FEW)
    return Auroc(float(roc_auc_score(positive, score)), pairs, sizes, lowest)


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
