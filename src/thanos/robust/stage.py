"""The last stage on frozen embeddings: groups, a method, a rule, and what the model scores on test images."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thanos.config import DiscoverConfig, RobustConfig
from thanos.embeddings import Embeddings
from thanos.errors import DataError, MissingLabels
from thanos.evaluate.intervals import Interval, difference_interval, paired_difference_interval, share_interval
from thanos.evaluate.recovery import JUDGED, Recovery, recovery_scores
from thanos.evaluate.robustness import (
    Auroc,
    GroupScores,
    Mean,
    Share,
    calibration_error,
    group_scores,
    pairwise_auroc,
    worst_class,
)
from thanos.evaluate.scores import Scores
from thanos.robust.head import Classifier
from thanos.robust.methods import Robust, fit_robust
from thanos.robust.plain import plain_head
from thanos.robust.portfolio import Portfolio, fit_portfolio
from thanos.robust.select import watch
from thanos.subclasses.discovery import discover
from thanos.subclasses.fitted import Discovered


@dataclass(frozen=True)
class RobustScores(Scores):
    """What a head does on test images; what is not known of them is None."""

    n: int
    sample_accuracy: float
    worst_class: Share
    calibration_error: float
    groups: GroupScores | None = None
    """By the true groups."""
    auroc: Auroc | None = None
    """Of two superclasses with known subclasses."""
    discovered_groups: GroupScores | None = None
    recovery: dict[str, Recovery | None] | None = None
    """Of discovered against true groups (or subclasses), by split."""

    @property
    def all_images(self) -> Mean:
        """The accuracy on all test images, with its interval."""
        return Mean(self.sample_accuracy, share_interval(self.sample_accuracy, self.n))


@dataclass(frozen=True)
class Difference(Scores):
    """Between two classifiers on the same test images."""

    difference: float
    interval: Interval


@dataclass(frozen=True)
class WorstDifference(Difference):
    """Between the worst groups of two classifiers."""

    of: str
    """group or superclass"""
    n: int
    """Images of either worst one."""
    small: bool
    """Whether either has fewer than 50."""


@dataclass(frozen=True)
class Gain(Scores):
    """What a method gives and takes beside a plain classifier."""

    worst: WorstDifference
    all_images: Difference
    right: float
    """On how many of all test images the method is."""
    most_frequent: float
    """How many are of the most frequent superclass: what a classifier that says nothing else is right on."""


@dataclass(frozen=True)
class Outcome:
    """A model, how it was chosen, and what it scores."""

    robust: Robust
    discovered: Discovered | None
    scores: RobustScores
    right: NDArray[np.bool_] = field(repr=False)
    """Whether it tells the superclass of each test image."""
    most_frequent: float
    """The share of test images that are of the most frequent superclass."""


def make_robust(
    embeddings: Embeddings,
    config: RobustConfig,
    *,
    clusters: DiscoverConfig | None = None,
    discovered: Discovered | None = None,
) -> Outcome:
    """Find groups where they are wanted, fit the method's candidates, choose by the rule, score on test images.

    Args:
        embeddings: With the splits train, validation and test.
        config: Method, groups and rule.
        clusters: How groups are discovered.
        discovered: Already found, instead.
    Raises:
        MissingLabels: if groups are wanted and not known.
        DataError: if a split is empty, or a group has no validation image.
    """
    _check_test_images(embeddings)
    return _scored(embeddings, *choose_head(embeddings, config, clusters=clusters, discovered=discovered))


def _check_test_images(embeddings: Embeddings) -> None:
    if not embeddings.in_split("test").any():
        raise DataError("a model is scored on test images, and there are none. Name some in a column (or array) split.")


def _scored(embeddings: Embeddings, robust: Robust, discovered: Discovered | None) -> Outcome:
    test = embeddings.of("test")
    scores = score_test_images(embeddings, robust.head, discovered)
    most = float(np.bincount(test.superclass).max() / len(test))
    return Outcome(robust, discovered, scores, robust.head.predict(test.vectors) == test.superclass, most)


def choose_head(
    embeddings: Embeddings,
    config: RobustConfig,
    *,
    clusters: DiscoverConfig | None = None,
    discovered: Discovered | None = None,
) -> tuple[Robust, Discovered | None]:
    """What :func:`make_robust` does before it scores; and the groups, where they were discovered.

    True groups and subclasses are taken away before anything starts, unless the configuration asks for them; they come
    back for the test scores alone.
    """
    if config.method == "portfolio":
        return of_portfolio(embeddings, fit_portfolio(embeddings, config.seed, _ids_of(discovered))), discovered
    seen = embeddings if config.sees_groups else embeddings.without_hidden()
    group: NDArray[np.int64] | None = None
    if config.groups == "given":
        if seen.group is None:
            raise MissingLabels(
                "`groups=given` needs the images' groups, and none are known. Give them a column group, or pass "
                "`groups=discovered`."
            )
        group = seen.group
    elif config.groups == "discovered":
        if discovered is None:
            discovered = find_groups(seen, clusters or DiscoverConfig())
        discovered = watchable(discovered, seen, least=2 if config.method == "dfr" else 1)  # which halves them
        group = discovered.cluster
    else:
        discovered = None
    looked_at = watch(
        config.rule,
        seen,
        discovered=None if discovered is None else discovered.cluster,
        names=() if discovered is None else discovered.names,
    )
    return fit_robust(config.method, seen, group, looked_at, config.seed), discovered


def _ids_of(discovered: Discovered | None) -> NDArray[np.int64] | None:
    return None if discovered is None else discovered.cluster


def of_portfolio(embeddings: Embeddings, found: Portfolio) -> Robust:
    """The pick of the portfolio's rule; its selection tells of every candidate, with test scores where there are any.

    The rule has chosen before test images or true groups are looked at. The pick, a mean of heads whose penalties
    differ, is calibrated on validation images.
    """
    test, held_out = embeddings.of("test"), embeddings.of("validation")
    head = found.chosen.head.calibrated(held_out.vectors, held_out.superclass)
    table = []
    for one in found.scored:
        row: dict[str, Any] = {"candidate": one.candidate.name, "score": one.score}
        row |= {"picked": True} if one.candidate is found.chosen else {}
        row |= {"validation_accuracy": one.accuracy, "worst_inferred_group": one.worst}
        if len(test):
            right = one.candidate.head.predict(test.vectors) == test.superclass
            row["test_accuracy"] = float(right.mean())
            if test.group is not None and (test.group >= 0).any():
                known = test.group >= 0
                row["test_worst_group"] = _true_groups_worst(right[known], test.group[known])
        table.append(row)
    chosen = next(one for one in found.scored if one.candidate is found.chosen)
    settings = {"inferrer": found.chosen.inferrer, "head": found.chosen.method} | found.chosen.settings
    selection = {"rule": found.rule, "n": {}, "accuracy": chosen.worst, "candidates": len(table)}
    selection |= {"reason": found.reason, "aside": found.aside, "table": table}
    return Robust("portfolio", head, settings, selection)


def _true_groups_worst(right: NDArray[np.bool_], group: NDArray[np.int64]) -> float:
    size = np.bincount(group)
    return float((np.bincount(group, weights=right)[size > 0] / size[size > 0]).min())


def beside_plain(
    embeddings: Embeddings, config: RobustConfig, discovered: Discovered | None = None, *, for_these: bool = False
) -> tuple[Outcome, Outcome]:
    """A method's model, and the plain classifier chosen by the same rule on the same groups.

    The portfolio's is the plain ERM that its rule holds every candidate against.

    Args, Raises: As :func:`make_robust`; ``for_these``: :func:`fit_portfolio`.
    """
    if config.method == "portfolio":
        _check_test_images(embeddings)
        found = fit_portfolio(embeddings, config.seed, _ids_of(discovered), for_these=for_these)
        erm = Robust("erm", found.plain.head, found.plain.settings, {"rule": "accuracy"})
        outcome = _scored(embeddings, of_portfolio(embeddings, found), discovered)
        return outcome, _scored(embeddings, erm, discovered)
    outcome = make_robust(embeddings, config, discovered=discovered)
    plain = RobustConfig(method="erm", groups=config.groups, select=config.select)
    return outcome, make_robust(embeddings, plain, discovered=outcome.discovered)


def gain(outcome: Outcome, plain: Outcome) -> Gain:
    """What a method gives and takes on the same test images as a plain classifier, with intervals."""
    mine, other = outcome.scores, plain.scores
    of = "group"
    a, b = mine.groups or mine.discovered_groups, other.groups or other.discovered_groups
    worst, beside = mine.worst_class, other.worst_class
    if a is None or b is None:
        of = "superclass"
    else:
        worst, beside = a.worst_group, b.worst_group
    around = difference_interval(worst.accuracy, worst.interval, beside.accuracy, beside.interval)
    small = worst.small or beside.small
    everyone = float(outcome.right.mean()) - float(plain.right.mean())
    return Gain(
        WorstDifference(worst.accuracy - beside.accuracy, around, of, min(worst.n, beside.n), small),
        Difference(everyone, paired_difference_interval(outcome.right, plain.right)),
        float(outcome.right.mean()),
        outcome.most_frequent,
    )


def find_groups(embeddings: Embeddings, config: DiscoverConfig) -> Discovered:
    """:func:`thanos.discover`, with every cluster large enough to be watched on validation images.

    How surely each would be found again is left out. Where George's overclustering asks for it, the losses are those of
    a plain classifier.
    """
    loss = None
    if config.overcluster:
        probability = plain_head(embeddings).probabilities(embeddings.vectors)
        loss = -np.log(np.maximum(probability[np.arange(len(embeddings)), embeddings.superclass], 1e-12))
    return watchable(discover(embeddings, config, loss=loss, stability=False), embeddings)


def watchable(found: Discovered, embeddings: Embeddings, least: int = 1) -> Discovered:
    """A cluster of fewer validation images than ``least`` joins the largest of its superclass that has so many.

    Where none has, but some have any, all of them become one.
    """
    size = np.bincount(found.cluster, minlength=len(found.names))
    seen = np.bincount(found.cluster[embeddings.in_split("validation")], minlength=len(found.names))
    cluster, facts = found.cluster.copy(), dict(found.superclasses)
    for value in np.unique(embeddings.superclass):
        rows = embeddings.superclass == value
        mine = np.unique(found.cluster[rows])
        watched = mine[seen[mine] >= least]
        if len(watched) == len(mine) or not seen[mine].any():
            continue
        if not len(watched):
            watched = mine[[size[mine].argmax()]]
        lone = np.setdiff1d(mine, watched)
        cluster[np.isin(found.cluster, lone)] = watched[size[watched].argmax()]
        name = embeddings.superclass_names[value]
        left = np.bincount(cluster[rows], minlength=len(found.names))[watched]
        if name in facts:
            facts[name] = facts[name] | {"clusters": len(watched), "sizes": left.tolist(), "joined": len(lone)}
    return replace(found, cluster=cluster, superclasses=facts)


def score_test_images(embeddings: Embeddings, head: Classifier, discovered: Discovered | None) -> RobustScores:
    """What a head does on test images, by true and by discovered groups."""
    test = embeddings.in_split("test")
    probability = head.probabilities(embeddings.vectors[test])
    superclass = embeddings.superclass[test]
    right = probability.argmax(axis=1) == superclass
    found = recovered = None
    if discovered is not None:
        found = group_scores(right, discovered.cluster[test], discovered.names)
        recovered = _recovered(embeddings, discovered)
    return RobustScores(
        n=int(test.sum()),
        sample_accuracy=float(right.mean()),
        worst_class=worst_class(right, superclass, embeddings.superclass_names),
        calibration_error=calibration_error(probability, superclass),
        groups=_true_groups(embeddings, test, right),
        auroc=_auroc(embeddings, test, probability),
        discovered_groups=found,
        recovery=recovered,
    )


def _true_groups(embeddings: Embeddings, test: NDArray[np.bool_], right: NDArray[np.bool_]) -> GroupScores | None:
    if embeddings.group is None or not (embeddings.group[test] >= 0).any():
        return None
    group = embeddings.group[test]
    known, share = group >= 0, _train_share(embeddings, embeddings.group)
    scores = group_scores(right[known], group[known], embeddings.group_names, train_share=share)
    return replace(scores, images_without_group=int((~known).sum()))


def _auroc(embeddings: Embeddings, test: NDArray[np.bool_], probability: NDArray[np.float64]) -> Auroc | None:
    if embeddings.subclass is None or len(embeddings.superclass_names) != 2:
        return None
    superclass, subclass = embeddings.superclass[test], embeddings.subclass[test]
    known = subclass >= 0
    if len(np.unique(superclass[known])) != 2:
        return None
    positive = superclass[known] == 1
    return pairwise_auroc(probability[known, 1], positive, subclass[known], embeddings.subclass_names)


def _recovered(embeddings: Embeddings, discovered: Discovered) -> dict[str, Recovery | None] | None:
    """Against the true groups, or where there are none the true subclasses."""
    true, names = embeddings.group, embeddings.group_names
    if true is None:
        true, names = embeddings.subclass, embeddings.subclass_names
    if true is None:
        return None
    splits = {name: embeddings.rows(name) for name in JUDGED}
    return {
        name: recovery_scores(discovered.cluster[rows], true[rows], embeddings.superclass[rows], names)
        for name, rows in splits.items()
    }


def _train_share(embeddings: Embeddings, group: NDArray[np.int64]) -> NDArray[np.float64] | None:
    """None unless the training images of the groups that test images have are known."""
    size = np.bincount(group[embeddings.in_split("train") & (group >= 0)], minlength=len(embeddings.group_names))
    tested = np.unique(group[embeddings.in_split("test") & (group >= 0)])
    return size / size.sum() if size[tested].any() else None
