"""Groups that no label tells, inferred from vectors and superclasses: one function for each way, from a paper's text.

Each returns groups inside the superclasses, of training images (to be fair to) and of validation images (to watch), or
is left out with a line that says why. What a network does in the papers a linear head does here, on frozen vectors.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from thanos.config import DiscoverConfig
from thanos.embeddings import Embeddings
from thanos.errors import DataError
from thanos.robust.head import Head, Standardised, fit_weighted, softmax, standardise
from thanos.subclasses.discovery import discover
from thanos.subclasses.models import distinct, fit_clusters
from thanos.subclasses.silhouette import Sampled, mean_silhouette

Rows = NDArray[np.float64]
Ids = NDArray[np.int64]
FIRST = 0.1
"""Strength of the penalty that holds first heads back, as few epochs hold back a network."""
LEAST = 5
"""A group of fewer training images joins the largest of its superclass: no head is made fair to four images."""
ROUNDS = 10
"""How often twins flip labels."""
EARLY = 3
"""Steps of gradient descent after which a head is looked at."""
MOST = 5
"""Most clusters of an early head's outputs in a superclass."""
SLICES, WEIGHT, COMPONENTS = 25, 10.0, 128
"""Of Domino: slices, how much labels and predictions weigh, principal components; as published."""


@dataclass(frozen=True, eq=False)
class Seen:
    """Training and validation vectors with their superclass: all that an inferrer sees."""

    embeddings: Embeddings = field(repr=False)
    """Of training and validation images alone; true groups and subclasses are taken away."""
    train: Standardised = field(repr=False)
    held_out: Rows = field(repr=False)
    """Validation vectors, standardised as the training vectors are."""
    held_out_y: Ids = field(repr=False)
    seed: int
    known: Ids | None = field(default=None, repr=False)
    """Discovered subclasses of ``embeddings``, where some were found (and perhaps named) before."""
    heads: dict[float, Head] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, embeddings: Embeddings, seed: int = 0, known: Ids | None = None) -> "Seen":
        """Embeddings with the splits train and validation; ``known``: their discovered subclasses, (n,)."""
        train, held_out = embeddings.rows("train"), embeddings.rows("validation")
        rows = np.sort(np.concatenate([train, held_out]))
        blind = embeddings.take(rows).without_hidden()
        data = standardise(embeddings.vectors[train], embeddings.superclass[train], len(embeddings.superclass_names))
        other = (embeddings.vectors[held_out] - data.mean) / data.scale
        return cls(blind, data, other, embeddings.superclass[held_out], seed, None if known is None else known[rows])

    @property
    def unseen(self) -> NDArray[np.bool_] | None:
        """Training images that the encoder was not trained on, where some were set aside."""
        kept = self.embeddings.unseen
        return None if kept is None else kept[self.embeddings.in_split("train")]

    @property
    def any_new(self) -> bool:
        """Whether there may be training images that the encoder was not trained on."""
        return self.unseen is None or bool(self.unseen.any())

    def first_head(self, strength: float) -> Head:
        """Plain logistic regression on the training vectors, fitted once."""
        if strength not in self.heads:
            self.heads[strength] = fit_weighted(self.train, None, strength)
        return self.heads[strength]


@dataclass(frozen=True)
class Inferred:
    """Dense group ids, each group inside one superclass; every group has training images."""

    train: Ids = field(repr=False)
    held_out: Ids = field(repr=False)

    @property
    def count(self) -> int:
        return int(self.train.max()) + 1


def clusters(seen: Seen) -> Inferred:
    """Clusters inside each superclass, at least two, as :func:`thanos.discover` finds them; or those found before."""
    embeddings, found = seen.embeddings, seen.known
    if found is None or len(np.unique(found)) <= len(np.unique(embeddings.superclass)):
        found = _at_least_two(embeddings, seen.seed)
    return _groups(seen, found[embeddings.in_split("train")], found[embeddings.in_split("validation")])


def pooled(seen: Seen) -> Inferred:
    """Clusters of all images at once, at least two, each cut by superclass.

    An attribute that superclasses share has many images in one of them, and shows there; the few of another one are no
    cluster of their own.
    """
    embeddings = seen.embeddings
    together = replace(embeddings, superclass=np.zeros_like(embeddings.superclass), superclass_names=("all",))
    found = _at_least_two(together, seen.seed)
    return _groups(seen, found[embeddings.in_split("train")], found[embeddings.in_split("validation")])


def mistakes(seen: Seen) -> Inferred:
    """What a first head gets wrong, and the rest. Source: Liu et al., ICML 2021 (JTT)."""
    head = seen.first_head(FIRST)
    wrong, other = (
        (head.of_standardised(x).argmax(axis=1) != y).astype(np.int64)
        for x, y in ((seen.train.x, seen.train.y), (seen.held_out, seen.held_out_y))
    )
    return _groups(seen, wrong, other)


def twins(seen: Seen) -> Inferred:
    """What the head of the other half gets wrong. Source: Pezeshki et al., 2023 (XRM).

    Twin heads are each fitted on a random half. Again and again every label is flipped to what the twin that has not
    seen the image predicts, with probability ``(p - 1 / classes) * classes / (classes - 1)`` where it is sure by p: so
    both learn what is easy only. Neither has seen a validation image: it counts as wrong where either twin is.
    """
    data, rng = seen.train, np.random.default_rng(seen.seed)
    n, classes = len(data.y), data.classes
    half = rng.random(n) < 0.5
    rows = (np.flatnonzero(half), np.flatnonzero(~half))
    if not all(len(mine) for mine in rows):
        raise DataError("twins are fitted on halves, and one half has no training image.")
    parts, label, out = tuple(data.take(mine) for mine in rows), data.y, np.zeros((n, classes))
    heads: list[Head | None] = [None, None]
    for _ in range(ROUNDS):
        for i in (0, 1):
            heads[i] = head = fit_weighted(replace(parts[i], y=label[rows[i]]), None, FIRST, heads[i])
            out[rows[1 - i]] = softmax(head.of_standardised(parts[1 - i].x))
        sure = (out.max(axis=1) - 1 / classes) * classes / (classes - 1)
        label = np.where(rng.random(n) < sure, out.argmax(axis=1), label)
    wrong = [head.of_standardised(seen.held_out).argmax(axis=1) != seen.held_out_y for head in heads if head]
    return _groups(seen, (out.argmax(axis=1) != data.y).astype(np.int64), (wrong[0] | wrong[1]).astype(np.int64))


def surest(seen: Seen) -> Inferred:
    """What a head predicts that was fitted on the easier half of each superclass: the half a first head is surest of.

    Such a head knows what is easy only; superclass x prediction are the groups, as in Zhang et al., ICML 2022 (CnC).
    """
    data = seen.train
    right = softmax(seen.first_head(FIRST).of_standardised(data.x))[np.arange(len(data.y)), data.y]
    easy = np.zeros(len(right), dtype=bool)
    for kind in np.unique(data.y):
        mine = np.flatnonzero(data.y == kind)
        easy[mine[np.argsort(-right[mine], kind="stable")[: (len(mine) + 1) // 2]]] = True
    head = fit_weighted(data.take(np.flatnonzero(easy)), None, FIRST)
    return _groups(seen, *(head.of_standardised(x).argmax(axis=1) for x in (data.x, seen.held_out)))


def mixture(seen: Seen, slices: int = SLICES) -> Inferred:
    """Slices of vectors, labels and a first head's predictions. Source: Eyuboglu et al., ICLR 2022 (Domino)."""
    data, head = seen.train, seen.first_head(FIRST)
    spread, axes = np.linalg.eigh(data.x.T @ data.x)
    axes = axes[:, np.argsort(-spread)[:COMPONENTS]]
    train, held_out = (
        Sliced(x @ axes, np.eye(data.classes)[y], softmax(head.of_standardised(x)))
        for x, y in ((data.x, data.y), (seen.held_out, seen.held_out_y))
    )
    cell = data.y * data.classes + train.predicted.argmax(axis=1)
    model = fit_slices(train, first_slices(cell, slices, np.random.default_rng(seen.seed)))
    return _groups(seen, *(model.posterior(part)[0].argmax(axis=1) for part in (train, held_out)))


def early(seen: Seen) -> Inferred:
    """Clusters of a head's first outputs in each superclass. Source: Yang et al., AISTATS 2024 (SPARE).

    What is easy is learned in the first steps. k-means; the number of clusters has the highest silhouette.
    """
    data = seen.train
    weight = early_weight(data)
    train, held_out = (softmax(x @ weight.T) for x in (data.x, seen.held_out))
    found, other = np.zeros(len(train), dtype=np.int64), np.zeros(len(held_out), dtype=np.int64)
    rng = np.random.default_rng(seen.seed)
    for kind in np.unique(data.y):
        mine, config = train[data.y == kind], DiscoverConfig(seed=seen.seed)
        sampled, best = Sampled.of(mine, rng), -1.0
        for k in range(2, min(MOST, distinct(mine, MOST + 1) - 1) + 1):
            model = fit_clusters(k, mine, config)
            score = mean_silhouette(sampled.apart, model.predict(mine[sampled.rows]))
            if score >= best:
                best, found[data.y == kind] = score, model.predict(mine)
                if (seen.held_out_y == kind).any():
                    other[seen.held_out_y == kind] = model.predict(held_out[seen.held_out_y == kind])
    return _groups(seen, found, other)


INFERRERS: dict[str, Callable[[Seen], Inferred]] = {
    "clusters": clusters,
    "pooled": pooled,
    "mistakes": mistakes,
    "twins": twins,
    "surest": surest,
    "mixture": mixture,
    "early": early,
}


def _at_least_two(embeddings: Embeddings, seed: int) -> Ids:
    """Clusters in each superclass, (n,)."""
    settings = DiscoverConfig(number="silhouette", least=2, most=10, seed=seed)
    return discover(embeddings, settings, stability=False).cluster


def early_weight(data: Standardised) -> Rows:
    """Of a head without bias (classes, dim), after so many steps of gradient descent from zero."""
    x, n = data.x, len(data.y)
    top = np.ones(x.shape[1])
    for _ in range(10):  # the largest eigenvalue of x'x / n, roughly
        top = x.T @ (x @ top) / n
        size = float(np.linalg.norm(top)) or 1.0
        top /= size
    weight = np.zeros((data.classes, x.shape[1]))
    for _ in range(EARLY):
        weight -= 2 / size * (softmax(x @ weight.T) - np.eye(data.classes)[data.y]).T @ x / n
    return weight


@dataclass(frozen=True)
class Sliced:
    """What Domino's mixture sees of images."""

    x: Rows
    label: Rows
    """One at the superclass, (n, classes)."""
    predicted: Rows
    """Probabilities, (n, classes)."""


@dataclass(frozen=True)
class Slices:
    """A mixture: each slice draws a vector from a normal with diagonal covariance, a label and a prediction."""

    share: Rows
    mean: Rows
    variance: Rows
    label: Rows
    predicted: Rows
    weight: float

    def posterior(self, seen: Sliced) -> tuple[Rows, float]:
        """Of each slice for each image (n, slices), and the mean log-likelihood."""
        precision = 1 / self.variance
        apart = (
            seen.x**2 @ precision.T - 2 * seen.x @ (self.mean * precision).T + (self.mean**2 * precision).sum(axis=1)
        )
        log = -0.5 * (apart + np.log(2 * np.pi * self.variance).sum(axis=1)) + np.log(self.share)
        for given, told in ((seen.label, self.label), (seen.predicted, self.predicted)):
            log += self.weight * given @ np.log(np.maximum(told, 1e-12)).T
        top = log.max(axis=1, keepdims=True)
        total = np.exp(log - top).sum(axis=1, keepdims=True)
        return np.exp(log - top) / total, float((top + np.log(total)).mean())


def first_slices(cell: Ids, count: int, rng: np.random.Generator) -> Rows:
    """Where the mixture starts: the slices are dealt out over the cells of the confusion matrix, (n, slices)."""
    kinds, cell = np.unique(cell, return_inverse=True)
    count = max(count, len(kinds))
    owner = np.arange(count) % len(kinds)
    member = np.zeros((len(cell), count))
    for kind in range(len(kinds)):
        mine, its = np.flatnonzero(cell == kind), np.flatnonzero(owner == kind)
        member[mine, rng.choice(its, len(mine))] = 1
    return member[:, member.sum(axis=0) > 0]


def fit_slices(seen: Sliced, member: Rows, weight: float = WEIGHT, steps: int = 100) -> Slices:
    """Expectation and maximisation from first memberships (n, slices) until the likelihood stands still."""
    last = -np.inf
    for _ in range(steps):
        size = member.sum(axis=0) + 10 * np.finfo(float).eps
        mean = member.T @ seen.x / size[:, None]
        variance = member.T @ seen.x**2 / size[:, None] - mean**2 + 1e-6
        label, predicted = (member.T @ each / size[:, None] for each in (seen.label, seen.predicted))
        model = Slices(size / size.sum(), mean, np.maximum(variance, 1e-6), label, predicted, weight)
        member, likelihood = model.posterior(seen)
        if abs(likelihood - last) < 1e-3:
            break
        last = likelihood
    return model


def _groups(seen: Seen, train: Ids, held_out: Ids) -> Inferred:
    """Superclass x what was found.

    Raises:
        DataError: if that is one group in each superclass, or as many groups as images.
    """
    width = int(max(train.max(), held_out.max(initial=0))) + 1
    mine, other = seen.train.y * width + train, seen.held_out_y * width + held_out
    size = np.bincount(mine, minlength=seen.train.classes * width)
    if (size > 0).sum() >= len(mine):
        raise DataError("it finds as many groups as images.")
    home = np.arange(len(size))
    for first in range(0, len(size), width):
        few = np.arange(first, first + width)
        home[few[size[few] < LEAST]] = first + int(size[few].argmax())
    kinds, dense = np.unique(home[mine], return_inverse=True)
    if len(kinds) <= len(np.unique(seen.train.y)):
        raise DataError("no group is found inside a superclass.")
    place = np.full(len(size), -1)
    place[kinds] = np.arange(len(kinds))
    known = place[home[other]]
    if (known < 0).any():
        raise DataError("a superclass of validation images has no training image.")
    return Inferred(np.asarray(dense), known)
