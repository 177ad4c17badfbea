"""What the portfolio's rule compares heads by: images that no head was fitted on, and how near each comes to the best.

Of an image the superclass is known and groups that were inferred, no true group. Its constants were settled on Gaussian
worlds of odd number and on pairs of CelebA's attributes (benchmarks/portfolio.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thanos.robust.infer import Inferred, Seen

Rows = NDArray[np.float64]
Ids = NDArray[np.int64]
SHARPNESS = 4.0
"""Of soft accuracies: an image whose margin is the root mean square counts as 98% right, at half of it as 88%."""
WORST = 0.5
"""How much the worst group of a partition counts beside the mean over its groups."""
SERVED, SURE = 16.0, 2.0
"""How much more a partition counts whose groups some head serves all at once, see :class:`Standard`; that it does is
taken to be known less two standard errors, of half of a group's images: few images are served by accident."""
SEEN = 2.0
"""By so many standard errors plain ERM may be better on training images, left out, than on validation images; beyond,
they are no evidence: an encoder that has seen their labels puts them where they belong."""
RESAMPLES = 200
"""Bootstrap samples of the images, for the standard error."""


@dataclass(frozen=True)
class Evidence:
    """Validation images, then training images, each of which a head is fitted without."""

    y: Ids = field(repr=False)
    """Superclasses (n,)."""
    inferred: dict[str, Ids] = field(repr=False)
    """Groups (n,), each inside one superclass."""
    validation: int
    """So many of the images are for validation."""
    rows: Ids | None = field(default=None, repr=False)
    """Training images that count; None: all."""

    @classmethod
    def of(
        cls, seen: Seen, inferred: Mapping[str, Inferred], held_out: NDArray[Any], left_out: NDArray[Any]
    ) -> "Evidence":
        """All validation images, and those training images that are as new to the encoder.

        Where it is known which ones the encoder was not trained on, these; else all, unless plain ERM is surely better
        on them, each left out, than on validation images.

        Args:
            seen: The images.
            inferred: Groups, to stand beside the superclasses.
            held_out: Plain ERM's logits of validation images, (n, classes).
            left_out: Those of training images, each by the head fitted without it, (n, classes); empty where none can
                count.
        """
        rows = None if seen.unseen is None else np.flatnonzero(seen.unseen)
        if rows is None and _surely_more(
            left_out.argmax(axis=1) == seen.train.y, held_out.argmax(axis=1) == seen.held_out_y
        ):
            rows = np.empty(0, dtype=np.int64)
        groups = {name: _joined(of.held_out, of.train, rows) for name, of in inferred.items()}
        return cls(_joined(seen.held_out_y, seen.train.y, rows), groups, len(held_out), rows)

    @property
    def partitions(self) -> dict[str, Ids]:
        """The superclasses, and the inferred groups."""
        return {"superclasses": self.y, **self.inferred}

    @property
    def told(self) -> str:
        """How many images of which kind."""
        train = len(self.y) - self.validation
        also = f" and {train:,} training images, each left out"
        alone = "; training images, which the encoder knows better, do not count"
        return f"{self.validation:,} validation images{also if train else alone}"

    def logits(self, held_out: NDArray[Any], left_out: NDArray[Any]) -> Rows:
        """Of a head on validation images, and on training images without it, (n, classes)."""
        return _joined(held_out, left_out, self.rows)


def _joined(held_out: NDArray[Any], train: NDArray[Any], rows: Ids | None) -> NDArray[Any]:
    return np.concatenate([held_out, train if rows is None else train[rows]])


def _surely_more(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> bool:
    """Whether a share is above another beyond errors; each with one right and one wrong more (Agresti, Caffo 2000)."""
    (first, n), (second, m) = (((of.sum() + 1) / (len(of) + 2), len(of) + 2) for of in (one, other))
    return bool(first - second > SEEN * np.sqrt(first * (1 - first) / n + second * (1 - second) / m))


@dataclass(frozen=True)
class Standard:
    """The best that heads do over each partition, and how much each partition counts.

    The superclasses count 1: where labels are wrong, what is fair to inferred groups is wrong about a whole class. A
    partition counts as much as plain ERM falls short in its worst group: where ERM is best it only says again what
    superclasses say. And the more, the further surely above chance some head brings all of its groups at once: where a
    group is wrong labels, or what no head can tell, whatever serves it fails on the images that these are taken for.
    """

    best: Rows
    """(partitions,)"""
    weight: Rows
    """(partitions,)"""

    @classmethod
    def of(cls, soft: Rows, evidence: Evidence, plain: int) -> "Standard":
        """Of soft accuracies (heads, n), of which one is plain ERM's."""
        weight, chance = [1.0], 1 / max(len(np.unique(evidence.y)), 2)
        for group in evidence.inferred.values():
            served, size = of_groups(soft, evidence.y, group)[0], np.unique(group, return_counts=True)[1]
            surely, worst = (served - SURE * 0.5 / np.sqrt(size)).min(axis=1), served.min(axis=1)
            above = max(float(surely.max() - chance) / (1 - chance), 0.0)
            weight.append((1 + SERVED * above) * float(worst.max() - worst[plain]))
        return cls(over_groups(soft, evidence)[0].max(axis=1), np.array(weight))

    def nearness(self, found: Rows) -> Rows:
        """One less the weighted root mean square of what heads lack, over partitions, to the best one.

        Squared, so that a head must not fail in any: by plain means two partitions in which ERM is best outvote the one
        in which it is hopeless.

        Args:
            found: (samples, partitions, heads), of :func:`over_groups`.
        Returns:
            (samples, heads)
        """
        lacks = np.maximum(self.best[:, None] - found, 0)
        return np.asarray(1 - np.sqrt(np.einsum("p,sph->sh", self.weight / self.weight.sum(), lacks**2)))

    def error(self, soft: Rows, evidence: Evidence, seed: int) -> float:
        """The standard error, by the bootstrap, of the difference in nearness between two heads (2, n).

        As if heads and standard had been given: that they were chosen on these images is not in it.
        """
        rng, n = np.random.default_rng(seed), len(evidence.y)
        drawn = (rng.multinomial(n, np.full(n, 1 / n), 10).astype(np.float64) for _ in range(RESAMPLES // 10))
        return float(
            np.concatenate([self.nearness(over_groups(soft, evidence, times)) @ (1, -1) for times in drawn]).std()
        )


def over_groups(soft: Rows, evidence: Evidence, times: Rows | None = None) -> Rows:
    """How well heads serve each partition's groups: ``WORST`` of the worst one, the rest of the mean.

    Args:
        soft: Soft accuracies (heads, n).
        evidence: A group that a sample leaves without an image has its superclass's accuracy.
        times: How often each image counts (samples, n), for the bootstrap; once.
    Returns:
        (samples, partitions, heads)
    """
    each = (of_groups(soft, evidence.y, group, times) for group in evidence.partitions.values())
    return np.stack([WORST * of.min(axis=2) + (1 - WORST) * of.mean(axis=2) for of in each], axis=1)


def of_groups(soft: Rows, y: Ids, group: Ids, times: Rows | None = None) -> Rows:
    """Mean soft accuracies (samples, heads, groups); of a group without an image its superclass's."""
    times = np.ones((1, len(y))) if times is None else times
    of_class, of_size = _summed(soft, times, y)
    of_class /= np.maximum(of_size, 1)[:, None]
    _, first, dense = np.unique(group, return_index=True, return_inverse=True)
    total, size = _summed(soft, times, dense)
    mean = total / np.maximum(size, 1)[:, None]
    return np.where(size[:, None] > 0, mean, of_class[:, :, y[first]])


def _summed(soft: Rows, times: Rows, group: Ids) -> tuple[Rows, Rows]:
    """Sums over dense groups (samples, heads, groups), and how many images are in each (samples, groups)."""
    member = np.eye(group.max() + 1)[group]
    return np.stack([(times * each) @ member for each in soft], axis=1), times @ member


def soft_accuracy(logits: Rows, y: Ids) -> Rows:
    """How right each image is, 0 to 1, (n,): its margin, in units of the head's own, through a logistic curve.

    An accuracy over a group of five images moves in steps of a fifth; this one sees how near to the boundary they lie.
    """
    return np.asarray(0.5 * (1 + np.tanh(SHARPNESS * _margin(logits, y) / margin_unit(logits, y) / 2)))


def margin_unit(logits: Rows, y: Ids) -> float:
    """The root mean square of the margins: a head's own unit."""
    return float(np.sqrt((_margin(logits, y) ** 2).mean())) or 1.0


def _margin(logits: Rows, y: Ids) -> Rows:
    rows, other = np.arange(len(y)), logits.copy()
    other[rows, y] = -np.inf
    return np.asarray(logits[rows, y] - other.max(axis=1))
