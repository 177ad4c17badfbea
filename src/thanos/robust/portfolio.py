"""Every way to infer groups, heads on them in several settings; and a rule that picks without any group label."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
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
from thanos.robust.rule import Evidence, Standard, margin_unit, of_groups, over_groups, soft_accuracy

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
TOP = 4
"""Of so many best heads the pick is the mean: single scores are noisy, and what they err in differs."""
ERRORS = 2.5
"""By so many standard errors the pick must be above plain ERM, else ERM is kept: the error is of given heads, and these
are the best of many. All of this was settled on Gaussian worlds of odd number, with as few as 150 training images too,
and on pairs of CelebA's attributes (benchmarks/portfolio.py)."""
CLOSE = 0.5
"""Within so many standard errors of that another seed or name may decide otherwise, and the reason says so."""


@dataclass(frozen=True)
class Candidate:
    """One head, and what it was made with."""

    inferrer: str
    """Empty: none."""
    method: RobustMethod | Literal["mean"]
    settings: dict[str, Any]
    head: Head = field(repr=False)
    left_out: NDArray[np.float32] = field(repr=False)
    """Logits (n, classes) of the training images, each by the head fitted without it; empty where none can count."""

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
    :meth:`Standard.nearness`)."""
    accuracy: float
    """Over validation images."""
    worst: float
    """Of the group, among all that the rule looks at, that it does worst on."""


@dataclass(frozen=True)
class Choice:
    """What the rule chose, and why."""

    chosen: Candidate
    plain: Candidate
    """The plain ERM that it is held against: that of the highest validation accuracy."""
    reason: str
    scored: tuple[Scored, ...] = field(repr=False)
    """All, the mean of the best first."""


@dataclass(frozen=True)
class Portfolio(Choice):
    """What the rule chose, why, and what it chose from."""

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
        for_these: ``known`` are the groups to be fair to: beside superclasses the rule looks at no others.
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
    if for_these:
        assert seen.known is not None
        of_all = seen.embeddings.superclass * (int(seen.known.max()) + 1) + seen.known
        watched = {YOURS: Inferred(*(of_all[seen.embeddings.in_split(split)] for split in ("train", "validation")))}
    choice = choose(every, seen, watched)
    return Portfolio(**vars(choice), inferred=found, rule=YOURS if for_these else INFERRED, aside=aside)


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
    training = (data.x[:0], data.y[:0]) if method != "dfr" else (data.x * data.scale + data.mean, data.y)
    task = Task(data, group, training, group, seen.seed, strengths=STRENGTHS, most=DRAWN, unseen=seen.unseen)
    try:
        for fitted in METHODS[method](task):
            assert isinstance(fitted.head, Head)
            assert fitted.left_out is not None
            left_out = fitted.left_out() if seen.any_new else np.empty((0, data.classes))
            yield Candidate(name, method, fitted.settings, fitted.head, left_out.astype(np.float32))
    except DataError as error:
        aside[f"{name} {method}".strip()] = str(error)


def choose(every: tuple[Candidate, ...], seen: Seen, partitions: Mapping[str, Inferred]) -> Choice:
    """The rule: the mean of the heads that come nearest to the best one over every partition, unless plain ERM does so.

    Args:
        every: With a plain ERM among them.
        seen: Its images are looked at.
        partitions: Inferred groups, by inferrer; the superclasses are looked at beside them.
    """
    held_out = [each.head.of_standardised(seen.held_out) for each in every]
    accuracy = [float((logits.argmax(axis=1) == seen.held_out_y).mean()) for logits in held_out]
    plain = max((i for i, each in enumerate(every) if each.method == "erm"), key=lambda i: accuracy[i])
    evidence = Evidence.of(seen, partitions, held_out[plain], every[plain].left_out)
    logits = [evidence.logits(*both) for both in zip(held_out, (each.left_out for each in every), strict=True)]
    soft = np.array([soft_accuracy(each, evidence.y) for each in logits])
    standard = Standard.of(soft, evidence, plain)
    score = standard.nearness(over_groups(soft, evidence))[0]
    mean = _mean_of_best(every, score, logits, evidence.y)
    of_mean = mean.head.of_standardised(seen.held_out)
    logits_of_mean = evidence.logits(of_mean, mean.left_out)
    two = np.stack([soft_accuracy(logits_of_mean, evidence.y), soft[plain]])
    score_of_mean = standard.nearness(over_groups(two, evidence))[0, 0]
    gain, error = float(score_of_mean - score[plain]), standard.error(two, evidence, seen.seed)
    kept, over = gain <= ERRORS * error, ", ".join(evidence.partitions)
    told = f"{mean.short} scores {score_of_mean:.3f} of 1 over {over} (1: best over each of them)"
    close = ": a close call" if abs(gain - ERRORS * error) < CLOSE * error else ""
    beside = (
        f"plain {every[plain].short} {score[plain]:.3f} (difference {gain:+.3f}, standard error {error:.3f}{close})"
    )
    stays = f"plain ERM stays, as nothing is surely better ({ERRORS:g} standard errors are asked): " if kept else ""
    reason = f"{stays}{told}, {beside}, on {evidence.told}."
    right = np.array([each.argmax(axis=1) == evidence.y for each in (logits_of_mean, *logits)], dtype=np.float64)
    by_group = [of_groups(right, evidence.y, group)[0].min(axis=1) for group in evidence.partitions.values()]
    accuracy_of_mean = float((of_mean.argmax(axis=1) == seen.held_out_y).mean())
    columns = ((score_of_mean, *score), (accuracy_of_mean, *accuracy), np.min(by_group, axis=0))
    rows = zip((mean, *every), *columns, strict=True)
    scored = tuple(Scored(one, float(near), share, float(worst)) for one, near, share, worst in rows)
    return Choice(every[plain] if kept else mean, every[plain], reason, scored)


def _mean_of_best(every: tuple[Candidate, ...], score: Rows, logits: list[Rows], y: Ids) -> Candidate:
    """The mean of the best heads, each in units of its own margin."""
    order = np.argsort(-score, kind="stable")[:TOP]
    best = [(every[i], margin_unit(logits[i], y)) for i in order]

    def mean(of: Callable[[Candidate], NDArray[Any]]) -> NDArray[Any]:
        return np.asarray(np.mean([of(one) / unit for one, unit in best], axis=0))

    first = best[0][0].head
    head = Head(mean(lambda one: one.head.weight), mean(lambda one: one.head.bias), first.mean, first.scale)
    return Candidate("", "mean", {"of": [one.name for one, _ in best]}, head, mean(lambda one: one.left_out))
