"""The last stage on frozen embeddings: groups, a method, a rule, and what the model scores on test images."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thanos.config import DiscoverConfig, RobustConfig
from thanos.embeddings import Embeddings
from thanos.errors import DataError, MissingLabels
from thanos.evaluate.intervals import difference_interval, paired_difference_interval
from thanos.evaluate.recovery import recovery
from thanos.evaluate.robustness import calibration_error, group_scores, pairwise_auroc, worst_class
from thanos.robust.head import Head
from thanos.robust.methods import Robust, fit_robust
from thanos.robust.select import watch
from thanos.subclasses.discovery import discover
from thanos.subclasses.fitted import Discovered


@dataclass(frozen=True)
class Outcome:
    """A model, how it was chosen, and what it scores."""

    robust: Robust
    discovered: Discovered | None
    scores: dict[str, Any]
    """See :func:`score_test_images`; with ``recovery`` where groups were discovered and true ones are known."""
    right: NDArray[np.bool_] = field(repr=False)
    """Whether it tells the superclass of each test image."""


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
    test = embeddings.in_split("test")
    if not test.any():
        raise DataError("a model is scored on test images, and there are none. Name some in a column (or array) split.")
    robust, found = choose_head(embeddings, config, clusters=clusters, discovered=discovered)
    scores = score_test_images(embeddings, robust.head, found)
    right = robust.head.predict(embeddings.vectors[test]) == embeddings.superclass[test]
    return Outcome(robust, found, scores, right)


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


def gain(outcome: Outcome, plain: Outcome) -> dict[str, Any]:
    """What a method gives and takes on the same test images as a plain classifier, with intervals.

    Returns:
        ``worst`` (``of``: group or superclass; ``difference``, ``interval``, and the ``n`` images of either worst one,
        with ``small``) and ``all_images`` (``difference``, ``interval``).
    """
    mine, other = outcome.scores, plain.scores
    key = next((name for name in ("groups", "discovered_groups") if name in mine), None)
    a, b = (each[key]["worst_group"] if key else each["worst_class"] for each in (mine, other))
    worst = {
        "of": "group" if key else "superclass",
        "difference": a["accuracy"] - b["accuracy"],
        "interval": difference_interval(a["accuracy"], a["interval"], b["accuracy"], b["interval"]),
        "n": min(a["n"], b["n"]),
        "small": a["small"] or b["small"],
    }
    everyone = float(outcome.right.mean()) - float(plain.right.mean())
    around = paired_difference_interval(outcome.right, plain.right)
    return {"worst": worst, "all_images": {"difference": everyone, "interval": around}}


def find_groups(embeddings: Embeddings, config: DiscoverConfig) -> Discovered:
    """:func:`thanos.discover`, with every cluster large enough to be watched on validation images.

    Where George's overclustering asks for it, the losses are those of a plain classifier.
    """
    if not config.overcluster:
        return watchable(discover(embeddings, config), embeddings)
    blind = embeddings.without_hidden()
    plain = fit_robust("erm", blind, None, watch("worst-class", blind)).head
    true = plain.probabilities(embeddings.vectors)[np.arange(len(embeddings)), embeddings.superclass]
    return watchable(discover(embeddings, config, loss=-np.log(np.maximum(true, 1e-12))), embeddings)


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


def score_test_images(embeddings: Embeddings, head: Head, discovered: Discovered | None) -> dict[str, Any]:
    """What a head does on test images.

    Returns:
        ``worst_class``, ``sample_accuracy``, ``calibration_error``, ``n``; with known groups ``groups`` (see
        :func:`thanos.evaluate.robustness.group_scores`); with two superclasses and known subclasses ``auroc``; with
        discovered groups ``discovered_groups`` and, where true ones are known, ``recovery`` on train and test.
    """
    test = embeddings.in_split("test")
    probability = head.probabilities(embeddings.vectors[test])
    superclass = embeddings.superclass[test]
    right = probability.argmax(axis=1) == superclass
    scores: dict[str, Any] = {
        "n": int(test.sum()),
        "sample_accuracy": float(right.mean()),
        "worst_class": worst_class(right, superclass, embeddings.superclass_names),
        "calibration_error": calibration_error(probability, superclass),
    }
    group = embeddings.group
    if group is not None and (group[test] >= 0).any():
        grouped = group[test] >= 0
        share = _train_share(embeddings, group)
        scores["groups"] = group_scores(right[grouped], group[test][grouped], embeddings.group_names, train_share=share)
        scores["groups"]["images_without_group"] = int((~grouped).sum())
    known = np.zeros(0, dtype=bool) if embeddings.subclass is None else embeddings.subclass[test] >= 0
    if (
        len(embeddings.superclass_names) == 2
        and embeddings.subclass is not None
        and len(np.unique(superclass[known])) == 2
    ):
        scores["auroc"] = pairwise_auroc(
            probability[known, 1], superclass[known] == 1, embeddings.subclass[test][known], embeddings.subclass_names
        )
    if discovered is not None:
        scores["discovered_groups"] = group_scores(right, discovered.cluster[test], discovered.names)
        true, names = embeddings.subclass, embeddings.subclass_names
        if group is not None:
            true, names = group, embeddings.group_names
        if true is not None:
            scores["recovery"] = {
                split: recovery(discovered.cluster[rows], true[rows], embeddings.superclass[rows], names)
                for split, rows in (("train", embeddings.in_split("train")), ("test", test))
            }
    return scores


def _train_share(embeddings: Embeddings, group: NDArray[np.int64]) -> NDArray[np.float64] | None:
    """None unless the training images of the groups that test images have are known."""
    size = np.bincount(group[embeddings.in_split("train") & (group >= 0)], minlength=len(embeddings.group_names))
    tested = np.unique(group[embeddings.in_split("test") & (group >= 0)])
    return size / size.sum() if size[tested].any() else None
