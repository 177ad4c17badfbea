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
WATCHED = ("clusters", "pooled", "twins", "early")
"""Whose groups the rule looks at, beside the superclasses themselves: where labels are wrong, inferred groups are the
wrong labels, and what is fair to them is wrong about a whole superclass. Not those of ``mistakes`` and ``surest``,
which a plain head gets wrong by definition; nor the many slices of ``mixture``, of a few images each."""
WITNESS = "pooled"
"""No head is fitted on its groups: those that were would score best over them, and so over ``clusters`` that are alike,
and outvote the others."""
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
SERVED = 16.0
"""How much more a partition counts whose groups some head can serve all at once, see :func:`weights`."""
ERRORS = 2.0
"""By so many standard errors the pick must be above plain ERM, else ERM is kept. All of these were settled on Gaussian
worlds of odd number and on pairs of CelebA's attributes (benchmarks/portfolio.py)."""
SEEN = 3.0
"""By so many standard errors plain ERM may be better, left out, on training images than on validation images; beyond,
the encoder has seen them with their labels, and they are no evidence."""
RESAMPLES = 200
"""Bootstrap samples of the images, for the standard error."""


@dataclass(frozen=True)
class Candidate:
    """One head, and what it was made with."""

    inferrer: str
    """Empty: none."""
    method: RobustMethod | Literal["mean"]
    settings: dict[str, Any]
    head: Head = field(repr=False)
    left_out: Rows = field(repr=False)
    """Logits (n, classes) of the training images, each by the head fitted without it."""

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
    """A candidate on images that it was not fitted on, of which superclasses alone are known."""

    candidate: Candidate
    score: float
    """What the rule compares: how near it comes to the best head over every partition at once, at most 1 (see
    :func:`nearness`)."""
    accuracy: float
    """Over validation images."""
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
    """Fit every candidate on the training vectors; choose by validation vectors and by training vectors left out.

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
    watched = {name: found[name] for name in WATCHED if name in found}
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
    """Heads without groups, then heads on each inferrer's; one that cannot be fitted is noted in ``aside``.

    All are fitted on training images, DFR too (the published DFR on training groups): validation images, on which the
    rule looks at them, favour whatever was fitted on them.
    """
    for method in WITHOUT:
        yield from _of(seen, "", method, None, aside)
    for name, groups in ((name, groups) for name, groups in found.items() if name != WITNESS):
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
        for fitted in METHODS[method](task):
            assert isinstance(fitted.head, Head)
            assert fitted.left_out is not None
            yield Candidate(name, method, fitted.settings, fitted.head, fitted.left_out())
    except DataError as error:
        aside[f"{name} {method}".strip()] = str(error)


@dataclass(frozen=True)
class Evidence:
    """Images that no candidate was fitted on, with all that is known of them: superclasses and inferred groups."""

    y: Ids
    """Superclasses: validation images, then training images."""
    partitions: dict[str, Ids]
    """Their groups, each inside one superclass; the superclasses themselves come first."""
    rows: Ids | None
    """Training images that count; None: all."""

    def logits(self, held_out: Rows, left_out: Rows) -> Rows:
        """Of a head on validation images, and on training images without it, shape (n, classes)."""
        return np.concatenate([held_out, left_out if self.rows is None else left_out[self.rows]])


def evidence_of(seen: Seen, partitions: Mapping[str, Inferred], plain: Candidate) -> Evidence:
    """Validation images, and training images left out, unless the encoder has seen their labels.

    Then plain ERM is better on training images, each left out, than on validation images by more than chance; of
    those, only the ones that the encoder was not trained on count, where some were set aside.
    """
    rows = None if seen.unseen is None else np.flatnonzero(seen.unseen)
    y = seen.train.y if rows is None else seen.train.y[rows]
    left_out = plain.left_out if rows is None else plain.left_out[rows]
    inside, outside = left_out.argmax(axis=1) == y, plain.head.of_standardised(seen.held_out).argmax(axis=1)
    outside = outside == seen.held_out_y
    error = np.sqrt(sum(part.var() / len(part) for part in (inside, outside) if len(part)))
    if not len(inside) or inside.mean() - outside.mean() > SEEN * error:
        rows = np.empty(0, dtype=np.int64)
    parts = {"superclasses": Inferred(seen.train.y, seen.held_out_y), **partitions}
    every = {
        name: np.concatenate([of.held_out, of.train if rows is None else of.train[rows]]) for name, of in parts.items()
    }
    return Evidence(every["superclasses"], every, rows)


def choose(
    every: tuple[Candidate, ...], seen: Seen, partitions: Mapping[str, Inferred]
) -> tuple[Candidate, Candidate, str, tuple[Scored, ...]]:
    """The rule: the mean of the heads that come nearest to the best one over every partition, unless plain ERM does so.

    Args:
        every: With a plain ERM among them.
        seen: Its images are looked at.
        partitions: Inferred groups, by inferrer; the superclasses are looked at beside them.
    Returns:
        The pick, the plain ERM, the reason, and all scores, the pick's among them.
    """
    held_out = [each.head.of_standardised(seen.held_out) for each in every]
    accuracy = [float((logits.argmax(axis=1) == seen.held_out_y).mean()) for logits in held_out]
    plain = max((i for i, each in enumerate(every) if each.method == "erm"), key=lambda i: accuracy[i])
    evidence = evidence_of(seen, partitions, every[plain])
    y, groups = evidence.y, evidence.partitions
    logits = [evidence.logits(mine, each.left_out) for mine, each in zip(held_out, every, strict=True)]
    soft = np.array([soft_accuracy(each, y) for each in logits])
    best, weight = over_groups(soft, y, groups)[0].max(axis=1), weights(soft, y, groups, plain)
    score = nearness(over_groups(soft, y, groups), best, weight)[0]
    mean = _mean_of_best(every, score, logits, y)
    mine = mean.head.of_standardised(seen.held_out)
    every, logits, plain = (mean, *every), [evidence.logits(mine, mean.left_out), *logits], plain + 1
    accuracy = [float((mine.argmax(axis=1) == seen.held_out_y).mean()), *accuracy]
    both = np.array([soft_accuracy(logits[i], y) for i in (0, plain)])
    score = np.append(nearness(over_groups(both[:1], y, groups), best, weight)[0], score)
    gain = float(score[0] - score[plain])
    error = _standard_error(both, y, groups, best, weight, seen.seed)
    kept = gain <= ERRORS * error
    told = f"{mean.short} scores {score[0]:.3f} of 1 over {', '.join(groups)} (1: best over each of them)"
    beside = f"plain {every[plain].short} {score[plain]:.3f} (difference {gain:+.3f}, standard error {error:.3f})"
    reason = f"{'plain ERM is as good: ' if kept else ''}{told}, {beside}."
    right = np.array([each.argmax(axis=1) == y for each in logits])
    worst = np.min([_by_group(right, p).min(axis=1) for p in groups.values()], axis=0)
    scored = tuple(Scored(*each) for each in zip(every, score.tolist(), accuracy, worst.tolist(), strict=True))
    return every[plain] if kept else mean, every[plain], reason, scored


def over_groups(soft: Rows, y: Ids, partitions: Mapping[str, Ids], times: Rows | None = None) -> Rows:
    """How well heads serve each partition's groups: ``WORST`` of the worst one, the rest of the mean.

    Args:
        soft: Soft accuracies (heads, n).
        y: Superclasses (n,), which stand in for a group that a sample leaves without an image.
        partitions: Groups (n,), each inside one superclass.
        times: How often each image counts (samples, n), for the bootstrap; once.
    Returns:
        (samples, partitions, heads)
    """
    each = (_of_groups(soft, y, group, times) for group in partitions.values())
    return np.stack([WORST * of.min(axis=2) + (1 - WORST) * of.mean(axis=2) for of in each], axis=1)


def weights(soft: Rows, y: Ids, partitions: Mapping[str, Ids], plain: int) -> Rows:
    """How much each partition counts, (partitions,); the first one, the superclasses, counts 1.

    As much as plain ERM falls short in its worst group, a partition counts: where ERM is best it only says again what
    superclasses say. And the more, the further above chance some head brings all of its groups at once: where a group
    is wrong labels, whatever serves it fails on the images that these are taken for, and no head gets beyond.

    Args:
        soft, y, partitions: As for :func:`over_groups`.
        plain: The head that is plain ERM.
    """
    found, chance = [1.0], 1 / (int(y.max()) + 1)
    for group in list(partitions.values())[1:]:
        worst = _of_groups(soft, y, group)[0].min(axis=1)
        above = max(float(worst.max() - chance) / (1 - chance), 0.0)
        found.append((1 + SERVED * above) * float(worst.max() - worst[plain]))
    return np.array(found)


def nearness(found: Rows, best: Rows, weight: Rows) -> Rows:
    """One less the weighted root mean square of what heads lack, over partitions, to the best one.

    Squared, so that a head must not fail in any: by plain means two partitions in which ERM is best outvote the one in
    which it is hopeless.

    Args:
        found: (samples, partitions, heads), of :func:`over_groups`.
        best: Of each partition the best head's, (partitions,).
        weight: Of the partitions, (partitions,).
    Returns:
        (samples, heads)
    """
    lacks = np.maximum(best[:, None] - found, 0)
    return np.asarray(1 - np.sqrt(np.einsum("p,sph->sh", weight / weight.sum(), lacks**2)))


def _of_groups(soft: Rows, y: Ids, group: Ids, times: Rows | None = None) -> Rows:
    """Mean soft accuracies (samples, heads, groups)."""
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


def _standard_error(soft: Rows, y: Ids, partitions: Mapping[str, Ids], best: Rows, weight: Rows, seed: int) -> float:
    """Of the difference between two heads' scores, by the bootstrap."""
    rng, n = np.random.default_rng(seed), len(y)
    drawn = (rng.multinomial(n, np.full(n, 1 / n), 10).astype(np.float64) for _ in range(RESAMPLES // 10))
    samples = (nearness(over_groups(soft, y, partitions, times), best, weight) @ (1, -1) for times in drawn)
    return float(np.concatenate(list(samples)).std())


def _mean_of_best(every: tuple[Candidate, ...], score: Rows, logits: list[Rows], y: Ids) -> Candidate:
    """The mean of the best heads, each in units of its own margin."""
    order = np.argsort(-score, kind="stable")[:TOP]
    best = [(every[i], margin_unit(logits[i], y)) for i in order]
    weight, bias, left_out = (
        np.mean([of / unit for of, unit in each], axis=0)
        for each in (
            [(one.head.weight, unit) for one, unit in best],
            [(one.head.bias, unit) for one, unit in best],
            [(one.left_out, unit) for one, unit in best],
        )
    )
    first = best[0][0].head
    return Candidate(
        "", "mean", {"of": [one.name for one, _ in best]}, Head(weight, bias, first.mean, first.scale), left_out
    )


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
