"""Every way to infer groups, heads on them in several settings; and a rule that picks without any group label."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from thanos.config import RobustMethod
from thanos.embeddings import Embeddings
from thanos.errors import DataError
from thanos.robust.head import Head
from thanos.robust.infer import INFERRERS, Inferred, Seen
from thanos.robust.methods import METHODS, Task

Rows = NDArray[np.float64]
Ids = NDArray[np.int64]
WITHOUT: tuple[RobustMethod, ...] = ("erm", "jtt", "afr")
"""Heads that need no groups. Not ``dpe``: on worlds of odd number it adds nothing to them, and
where it scores best alone it may be far off."""
WITH: tuple[RobustMethod, ...] = ("reweight", "groupdro", "dfr")
INFERRED, YOURS = "inferred groups", "your groups"
"""For which groups a classifier is chosen."""
WATCHED = ("clusters", "twins", "early")
"""Whose groups the rule looks at, beside the superclasses themselves: where labels are wrong, inferred groups are the
wrong labels, and what is fair to them is wrong about a whole superclass. Not those of ``mistakes`` and ``surest``,
which a plain head gets wrong by definition; nor the many slices of ``mixture``, of a few images each."""
STRENGTHS = (1e-2, 1e-1)
"""Of the penalties; weaker ones take longest."""
DRAWN = 1000
"""Images of a balanced draw for DFR, which is of several: scikit-learn's sparse heads on more take minutes."""
SHARPNESS = 4.0
"""Of soft accuracies: an image whose margin is the root mean square counts as 98% right, at half of it as 88%."""
TOP = 4
"""Of so many best heads the pick is the mean: single scores are noisy, and what they err in differs."""
WORST = 0.5
"""How much the worst group of a partition counts beside the mean over its groups."""
PULL = 5.0
"""A group is scored as if it had so many more images, on which the head is as right as over the group's superclass:
else the worst group is whichever has two images."""
ERRORS = 0.75
"""By so many standard errors the pick must be above plain ERM, else ERM is kept. All of these were settled on Gaussian
worlds of odd number and on pairs of CelebA's attributes (benchmarks/portfolio.py)."""
RESAMPLES = 200
"""Bootstrap samples of the validation images, for the standard error."""


@dataclass(frozen=True)
class Candidate:
    """One head, and what it was made with."""

    inferrer: str
    """Empty: none."""
    method: RobustMethod | Literal["mean"]
    settings: dict[str, Any]
    head: Head = field(repr=False)

    @property
    def name(self) -> str:
        """Inferrer, head and settings."""
        if self.method == "mean":
            return f"the mean of {'; '.join(self.settings['of'])}"
        told = ", ".join(f"{key} {value:g}" for key, value in self.settings.items() if key != "errors")
        return " ".join(filter(None, (self.inferrer, self.method, told and f"({told})")))

    @property
    def short(self) -> str:
        """Without settings; of a mean its heads, counted."""
        if self.method != "mean":
            return " ".join(filter(None, (self.inferrer, self.method)))
        counted = Counter(name.partition(" (")[0] for name in self.settings["of"])
        return f"the mean of {', '.join(name if n == 1 else f'{n} of {name}' for name, n in counted.items())}"


@dataclass(frozen=True)
class Scored:
    """A candidate on validation images, of which superclasses alone are known."""

    candidate: Candidate
    score: float
    """What the rule compares: of soft accuracies, the mean over a partition's groups and the worst one (see
    :func:`over_groups`)."""
    accuracy: float
    """Over all images."""
    worst: float
    """Of the group, among all that the rule looks at, that it does worst on."""


@dataclass(frozen=True)
class Portfolio:
    """What the rule chose, why, and what it chose from."""

    chosen: Candidate
    plain: Candidate
    """The plain ERM that it is held against: that of the highest validation accuracy."""
    reason: str
    scored: tuple[Scored, ...] = field(repr=False)
    inferred: dict[str, Inferred] = field(repr=False)
    rule: str
    """Whose groups it was chosen for: :data:`INFERRED` or :data:`YOURS`."""
    aside: dict[str, str]
    """Inferrers and heads that could not be fitted, and why."""


def fit_portfolio(
    embeddings: Embeddings, seed: int = 0, known: Ids | None = None, *, for_these: bool = False
) -> Portfolio:
    """Fit every candidate on the training vectors and choose one on the validation vectors.

    Args:
        embeddings: With the splits train and validation; their groups and subclasses are not looked at.
        seed: Of all draws.
        known: Discovered subclasses of all embeddings, (n,), in the place of clusters of its own.
        for_these: They are the groups to be fair to: beside superclasses the rule looks at no others.
    Raises:
        DataError: without training or validation images, or if the training images have one superclass only.
    """
    if not (embeddings.in_split("train").any() and embeddings.in_split("validation").any()):
        raise DataError("heads are fitted on training images and chosen on validation images. Name some of each.")
    if len(np.unique(embeddings.superclass[embeddings.in_split("train")])) < 2:
        raise DataError("a head tells superclasses apart; the training images have one only. Add another.")
    seen = Seen.of(embeddings, seed, known)
    found, aside = infer_all(seen)
    every = tuple(candidates(seen, found, aside))
    watched = {name: found[name].held_out for name in WATCHED if name in found}
    if for_these and "clusters" in watched:
        watched = {YOURS: watched["clusters"]}
    return Portfolio(*choose(every, seen, watched), found, YOURS if YOURS in watched else INFERRED, aside)


def infer_all(seen: Seen) -> tuple[dict[str, Inferred], dict[str, str]]:
    """The groups of every inferrer; and of those that are left out, why."""
    found, aside = {}, {}
    for name, infer in INFERRERS.items():
        try:
            found[name] = infer(seen)
        except DataError as error:
            aside[name] = str(error)
    return found, aside


def candidates(seen: Seen, found: Mapping[str, Inferred], aside: dict[str, str]) -> Iterator[Candidate]:
    """Heads without groups, then heads on each inferrer's groups; one that cannot be fitted is noted in ``aside``.

    All are fitted on training images, DFR too (the published DFR on training groups): validation images, on which the
    rule looks at them, favour whatever was fitted on them.
    """
    for method in WITHOUT:
        yield from _of(seen, "", method, None, aside)
    for name, groups in found.items():
        for method in WITH:
            yield from _of(seen, name, method, groups, aside)


def _of(
    seen: Seen, name: str, method: RobustMethod, groups: Inferred | None, aside: dict[str, str]
) -> Iterator[Candidate]:
    data = seen.train
    group = None if groups is None else groups.train
    training = (data.x * data.scale + data.mean, data.y)
    task = Task(data, group, training, group, seen.seed, strengths=STRENGTHS, most=DRAWN, unseen=seen.unseen)
    try:
        for settings, head, _ in METHODS[method](task):
            assert isinstance(head, Head)
            yield Candidate(name, method, settings, head)
    except DataError as error:
        aside[f"{name} {method}".strip()] = str(error)


def choose(
    every: tuple[Candidate, ...], seen: Seen, partitions: Mapping[str, Ids]
) -> tuple[Candidate, Candidate, str, tuple[Scored, ...]]:
    """The rule: the mean of the heads that serve all inferred groups and the worst one best, unless plain ERM does so.

    Args:
        every: With a plain ERM among them.
        seen: Its validation images are looked at.
        partitions: Their inferred groups (n,), by inferrer; the superclasses are looked at beside them.
    Returns:
        The pick, the plain ERM, the reason, and all scores, the pick's among them.
    """
    y, partitions = seen.held_out_y, {"superclasses": seen.held_out_y, **partitions}
    logits = [each.head.of_standardised(seen.held_out) for each in every]
    soft = np.array([soft_accuracy(each, y) for each in logits])
    plain = max((i for i, each in enumerate(every) if each.method == "erm"), key=lambda i: _right(logits[i], y))
    best = _mean_of_best(every, over_groups(soft, y, partitions)[0], logits, y)
    every, logits, plain = (best, *every), [best.head.of_standardised(seen.held_out), *logits], plain + 1
    soft = np.concatenate([[soft_accuracy(logits[0], y)], soft])
    right, total = np.array([each.argmax(axis=1) == y for each in logits]), over_groups(soft, y, partitions)[0]
    gain = float(total[0] - total[plain])
    error = _standard_error(soft[[0, plain]], y, partitions, seen.seed)
    kept = gain <= ERRORS * error
    told = f"{best.short} scores {total[0]:.3f} of 1 over {', '.join(partitions)} (half the worst group, half the mean)"
    beside = f"plain {every[plain].short} {total[plain]:.3f} (difference {gain:+.3f}, standard error {error:.3f})"
    reason = f"{'plain ERM is as good: ' if kept else ''}{told}, {beside}."
    worst = np.min([_by_group(right, p).min(axis=1) for p in partitions.values()], axis=0)
    numbers = (total.tolist(), right.mean(axis=1).tolist(), worst.tolist())
    scored = tuple(Scored(*each) for each in zip(every, *numbers, strict=True))
    return every[plain] if kept else best, every[plain], reason, scored


def over_groups(soft: Rows, y: Ids, partitions: Mapping[str, Ids], times: Rows | None = None) -> Rows:
    """How well heads serve all groups: ``WORST`` of the worst one, the rest of the mean, mean over partitions.

    Args:
        soft: Soft accuracies (heads, n).
        y: Superclasses (n,).
        partitions: Groups (n,), each inside one superclass.
        times: How often each image counts (samples, n), for the bootstrap; once.
    Returns:
        (samples, heads)
    """
    times = np.ones((1, len(y))) if times is None else times
    of_class, size = _summed(soft, times, y)
    of_class /= np.maximum(size, 1)[:, None]
    found = []
    for group in partitions.values():
        _, first, dense = np.unique(group, return_index=True, return_inverse=True)
        total, size = _summed(soft, times, dense)
        score = (total + PULL * of_class[:, :, y[first]]) / (size[:, None] + PULL)
        found.append(WORST * score.min(axis=2) + (1 - WORST) * score.mean(axis=2))
    return np.asarray(np.mean(found, axis=0))


def _summed(soft: Rows, times: Rows, group: Ids) -> tuple[Rows, Rows]:
    """Sums over dense groups (samples, heads, groups), and how many images are in each (samples, groups)."""
    member = np.eye(group.max() + 1)[group]
    return np.stack([(times * each) @ member for each in soft], axis=1), times @ member


def _standard_error(soft: Rows, y: Ids, partitions: Mapping[str, Ids], seed: int) -> float:
    """Of the difference between two heads' scores, by the bootstrap."""
    rng, n = np.random.default_rng(seed), len(y)
    drawn = (rng.multinomial(n, np.full(n, 1 / n), 10).astype(np.float64) for _ in range(RESAMPLES // 10))
    return float(np.concatenate([over_groups(soft, y, partitions, times) @ (1, -1) for times in drawn]).std())


def _mean_of_best(every: tuple[Candidate, ...], score: Rows, logits: list[Rows], y: Ids) -> Candidate:
    """The mean of the best heads, each in units of its own margin."""
    order = np.argsort(-score, kind="stable")[:TOP]
    heads = [(every[i].head, margin_unit(logits[i], y)) for i in order]
    first = heads[0][0]
    weight = np.mean([head.weight / unit for head, unit in heads], axis=0)
    bias = np.mean([head.bias / unit for head, unit in heads], axis=0)
    return Candidate("", "mean", {"of": [every[i].name for i in order]}, Head(weight, bias, first.mean, first.scale))


def _right(logits: Rows, y: Ids) -> float:
    return float((logits.argmax(axis=1) == y).mean())


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


def _by_group(right: NDArray[np.bool_], group: Ids) -> Rows:
    """Accuracies (candidates, groups)."""
    kinds, dense = np.unique(group, return_inverse=True)
    member = np.eye(len(kinds))[dense]
    return np.asarray(right @ member / member.sum(axis=0))
