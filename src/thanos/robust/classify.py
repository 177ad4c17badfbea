"""What a classifier on embeddings says of images, and in which discovered subclass of what it says they lie."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from thanos.embeddings import Embeddings
from thanos.errors import DataError
from thanos.evaluate.intervals import Interval, share_interval
from thanos.robust.head import Classifier


@dataclass(frozen=True)
class Classified:
    """Row i of every array speaks of image i."""

    predicted: NDArray[np.int64] = field(repr=False)
    """Ids into ``names``."""
    probability: NDArray[np.float64] = field(repr=False)
    """Of what is predicted."""
    names: tuple[str, ...]
    """The superclasses that the classifier tells."""
    true: tuple[str, ...] = field(default=(), repr=False)
    """The superclass of each image; empty where it is not known, or is none of the classifier's."""
    subclass: tuple[str, ...] = field(default=(), repr=False)
    """The discovered subclass of each image inside what is predicted; empty where none were asked for."""
    confidence: NDArray[np.float64] | None = field(default=None, repr=False)
    """How much nearer the centre of that subclass is than the next one's, 0 to 1."""

    def accuracy(self, rows: NDArray[np.int64]) -> tuple[float, Interval]:
        """The share of these rows that is right, with its 95% interval."""
        right = float(np.mean([self.names[self.predicted[i]] == self.true[i] for i in rows]))
        return right, share_interval(right, len(rows))


SAME = 1e-3
"""Vectors of one image may differ by that share of their distance from the mean: sums are taken in another order."""


def among_training(vectors: NDArray[np.float32], known: Embeddings) -> NDArray[np.bool_]:
    """Whether each vector, (n, dim), is that of one of the training images of ``known``; none is, of another width.

    Only those are compared that lie alike along one direction: a few of each million pairs.
    """
    x, train = vectors.astype(np.float64), known.of("train").vectors.astype(np.float64)
    if not len(train) or x.shape[1] != train.shape[1]:
        return np.zeros(len(x), dtype=bool)
    x, train = x - train.mean(axis=0), train - train.mean(axis=0)
    direction = np.random.default_rng(0).normal(size=x.shape[1])
    direction /= float(np.linalg.norm(direction))
    train = train[np.argsort(train @ direction)]
    place, along, reach = x @ direction, train @ direction, SAME * np.linalg.norm(x, axis=1)
    first, last = np.searchsorted(along, place - reach), np.searchsorted(along, place + reach, side="right")
    same, rows = np.zeros(len(x), dtype=bool), np.flatnonzero(first < last)
    while len(rows):
        same[rows] = np.linalg.norm(x[rows] - train[first[rows]], axis=1) <= reach[rows]
        first[rows] += 1
        rows = rows[~same[rows] & (first[rows] < last[rows])]
    return same


def classify(
    head: Classifier, names: tuple[str, ...], embeddings: Embeddings, *, classifier: str, of: str, again: str
) -> Classified:
    """The superclass of each image as the head tells it.

    Args:
        head, names: The classifier and its superclasses.
        embeddings: The images.
        classifier, of, again: For messages: what the classifier and the embeddings are called, and what is typed to
            make one for them.
    Raises:
        DataError: if the classifier is for other embeddings.
    """
    if embeddings.vectors.shape[1] != len(head.mean):
        raise DataError(
            f"{classifier} is for embeddings of {len(head.mean)} dimensions; those of {of} have "
            f"{embeddings.vectors.shape[1]}. Give the classifier that was made for them."
        )
    if "" not in (head.encoder, embeddings.encoder) and head.encoder != embeddings.encoder:
        raise DataError(
            f"{classifier} is for embeddings of another encoder, or of other weights, than those of {of}. Make one "
            f"for these: thanos robust {again}"
        )
    probability = head.probabilities(embeddings.vectors)
    predicted = np.asarray(probability.argmax(axis=1), dtype=np.int64)
    known = set(embeddings.superclass_names) <= set(names)
    true = tuple(embeddings.superclass_names[i] for i in embeddings.superclass) if known else ()
    return Classified(predicted, probability[np.arange(len(predicted)), predicted], names, true)
