"""ERM, reweighting, GroupDRO, JTT, DFR, AFR and DPE on frozen embeddings: a table from name to candidates.

Each method offers several heads, one for each of its settings, and a rule chooses among them on validation images. A
method sees the group ids it is given and nothing else: label-free ones get none, or discovered ones.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thanos.config import GROUPED_METHODS, RobustMethod
from thanos.data.draw import draw_balanced
from thanos.embeddings import Embeddings
from thanos.errors import DataError
from thanos.evaluate.robustness import pairwise_auroc
from thanos.robust.head import (
    Classifier,
    Head,
    Standardised,
    fit_groupdro,
    fit_near,
    fit_pairs,
    fit_weighted,
    softmax,
    standardise,
)
from thanos.robust.left_out import left_out_logits, left_out_of_draw
from thanos.robust.prototypes import fit_prototypes
from thanos.robust.select import Watch

Ids = NDArray[np.int64]
Score = tuple[float, float]


@dataclass(frozen=True)
class Fitted:
    """A head of a method, with one of its settings."""

    settings: dict[str, Any]
    head: Classifier
    score: Score | None = None
    """If the method measured it on images that it did not use."""
    left_out: Callable[[], NDArray[np.float64]] | None = field(default=None, repr=False)
    """Logits (n, classes) of the images that the method fitted on, each by the head fitted without it (see
    :mod:`thanos.robust.left_out`); None: not known of heads that are not convex."""


Candidates = Iterator[Fitted]

STRENGTHS = (1e-3, 1e-2, 1e-1)
ADJUSTMENTS = (0.0, 2.0)
"""Of GroupDRO; 2 is the published choice on Waterbirds."""
FIRST_STRENGTHS = (1e-2, 1e-1, 1.0)
"""Of JTT's first stage: on a head, the penalty keeps it from fitting everything, as few epochs keep a network."""
UPWEIGHTS = (5, 20, 100)
"""How often JTT meets an error."""
PENALTIES = (1.0, 0.7, 0.3, 0.1, 0.07, 0.03, 0.01)
"""DFR's inverse L1 penalties (scikit-learn's C)."""
REFITS = 10
"""Balanced draws that DFR's head is the mean of."""
GAMMAS = (1.0, 4.0, 14.0)
"""AFR's gamma."""
PULLS = (0.01, 0.1, 1.0)
"""AFR's lambda."""
HELD_OUT = 0.2
"""Share of the training images on which AFR weighs its head anew."""


NEVER = -100.0
"""Logit, to the lowest bias, of a class that has no image in DFR's draw."""
DIVERSITIES = (1.0, 50.0)
"""DPE's weight of likeness between members; 50 is the published one for a ResNet-50."""


@dataclass(frozen=True)
class Robust:
    """The head that was chosen, and how."""

    method: str
    head: Classifier
    settings: dict[str, Any]
    selection: dict[str, Any]
    """``rule``, validation images ``n`` of each group, ``accuracy`` of the worst (of GroupDRO's AUROC form ``auroc`` of
    the worst pair), ``candidates``. DFR, fitted on those images, chooses its penalty on one half of them by the worst
    group of the other half."""


@dataclass(frozen=True)
class Task:
    """What a method may see."""

    train: Standardised
    group: Ids | None
    """Of the training images, dense ids."""
    held_out: tuple[NDArray[Any], Ids]
    """Validation embeddings, as they came, and their superclass."""
    held_out_group: Ids | None
    seed: int
    strengths: tuple[float, ...] = STRENGTHS
    most: int | None = None
    """Images of a draw that DFR fits on; None: as many as balance allows."""
    unseen: NDArray[np.bool_] | None = None
    """Training images that the encoder was not trained on, where some were set aside."""


def path(strengths: tuple[float, ...], fit: Callable[..., Head]) -> list[tuple[float, Head]]:
    """A head of each strength; each begins at that of the next stronger one, which is near and found soon."""
    heads: dict[float, Head] = {}
    head = None
    for strength in sorted(strengths, reverse=True):
        head = heads[strength] = fit(strength, start=head)
    return [(strength, heads[strength]) for strength in strengths]


def _convex(task: Task, head: Head, settings: dict[str, Any]) -> Fitted:
    return Fitted(settings, head, left_out=partial(left_out_logits, head, task.train, settings["strength"]))


def erm(task: Task) -> Candidates:
    """Plain logistic regression."""
    for strength, head in path(task.strengths, partial(fit_weighted, task.train, None)):
        yield _convex(task, head, {"strength": strength})


def reweight(task: Task) -> Candidates:
    """Logistic regression in which every group weighs the same."""
    assert task.group is not None
    weight = 1 / np.bincount(task.group)[task.group]
    for strength, head in path(task.strengths, partial(fit_weighted, task.train, weight)):
        yield _convex(task, head, {"strength": strength})


def groupdro(task: Task) -> Candidates:
    """The worst group's loss made as small as it gets. Source: Sagawa et al., ICLR 2020."""
    assert task.group is not None
    for adjustment in ADJUSTMENTS:
        for strength, head in path(
            task.strengths, partial(fit_groupdro, task.train, task.group, adjustment=adjustment)
        ):
            yield _convex(task, head, {"strength": strength, "adjustment": adjustment})


def groupdro_auroc(task: Task) -> Candidates:
    """The same over pairs of groups of different superclasses, between which AUROC is measured (George's code)."""
    assert task.group is not None
    cell = _dense(task.group * task.train.classes + task.train.y)
    for strength, head in path(task.strengths, partial(fit_pairs, task.train, cell)):
        yield _convex(task, head, {"strength": strength})


def jtt(task: Task) -> Candidates:
    """Just train twice: what a first head gets wrong counts more in a second. Source: Liu et al., ICML 2021."""
    seen: set[bytes] = set()
    for first in FIRST_STRENGTHS:
        head = fit_weighted(task.train, None, first)
        wrong = head.of_standardised(task.train.x).argmax(axis=1) != task.train.y
        if wrong.tobytes() in seen:
            continue
        seen.add(wrong.tobytes())
        for upweight in UPWEIGHTS:
            weight = np.where(wrong, float(upweight), 1.0)
            settings = {"first_strength": first, "errors": int(wrong.sum()), "upweight": upweight}
            for strength, found in path(task.strengths, partial(fit_weighted, task.train, weight)):
                yield _convex(task, found, settings | {"strength": strength})


def dfr(task: Task) -> Candidates:
    """A sparse head on group-balanced draws of the validation images. Source: Kirichenko et al., ICLR 2023.

    Half of them choose the penalty by the worst group of the other half; the head is the mean of ten refits on all.
    """
    assert task.held_out_group is not None
    vectors, superclass = task.held_out
    x, group = (vectors - task.train.mean) / task.train.scale, task.held_out_group
    rng = np.random.default_rng(task.seed)
    half = np.zeros(len(x), dtype=bool)
    for kind in np.unique(group):
        mine = rng.permutation(np.flatnonzero(group == kind))
        half[mine[: len(mine) // 2]] = True
    first, other = np.flatnonzero(half), np.flatnonzero(~half)
    if len(np.unique(superclass)) < 2:
        raise DataError(
            "a head tells superclasses apart; the validation images, on which DFR fits it, have one only. Add another."
        )
    if len(np.unique(group[first])) < len(np.unique(group)):
        raise DataError("DFR halves every group's validation images; a group has one only. Hold out more, or merge.")
    watch = Watch("worst-group", group[other], tuple(str(i) for i in range(int(group.max()) + 1)))
    scored = []
    for penalty in PENALTIES:
        rows = first[draw_balanced(group[first], rng, task.most)]
        head = _sparse_head(x[rows], superclass[rows], penalty, task.train)
        scored.append((watch.score(_plain(head, x[other]) == superclass[other]), penalty))
    penalty = max(scored)[1]
    draws = [draw_balanced(group, rng, task.most) for _ in range(REFITS)]
    heads = [_sparse_head(x[rows], superclass[rows], penalty, task.train) for rows in draws]

    def left_out() -> NDArray[np.float64]:
        each = [left_out_of_draw(head, x, superclass, rows) for head, rows in zip(heads, draws, strict=True)]
        return np.asarray(np.mean(each, axis=0))

    mean = Head(
        np.mean([head.weight for head in heads], axis=0),
        np.mean([head.bias for head in heads], axis=0),
        task.train.mean,
        task.train.scale,
    )
    yield Fitted({"penalty": penalty}, mean, max(scored)[0], left_out)


def _sparse_head(x: NDArray[Any], y: Ids, penalty: float, train: Standardised) -> Head:
    """scikit-learn's L1-penalised logistic regression; of more than two classes, each against the rest."""
    from sklearn.linear_model import LogisticRegression

    weight, bias = np.zeros((train.classes, x.shape[1])), np.zeros(train.classes)
    present = np.unique(y)
    for kind in present:
        if train.classes == 2 and kind == 0:
            continue
        model = LogisticRegression(l1_ratio=1, C=penalty, solver="liblinear", random_state=0).fit(x, y == kind)
        weight[kind], bias[kind] = model.coef_[0], model.intercept_[0]
    bias[np.setdiff1d(np.arange(train.classes), present)] = bias[present].min() + NEVER
    if train.classes == 2:
        weight, bias = np.stack([-weight[1], weight[1]]) / 2, np.stack([-bias[1], bias[1]]) / 2
    return Head(weight, bias, train.mean, train.scale)


def _plain(head: Head, x: NDArray[Any]) -> Ids:
    """Predictions for embeddings that are standardised already."""
    return np.asarray(head.of_standardised(x).argmax(axis=1))


def afr(task: Task) -> Candidates:
    """A fifth of the training images, weighed by how badly a head does on them, pulls it (Qiu et al., ICML 2023).

    ``weight ~ exp(-gamma * p_true)``, each class to the same sum; the penalty is on the distance from the first head.
    As published where the encoder has not seen that fifth: where it was trained without some (``unseen``), these are
    taken; a backbone that stays as it was has seen none.
    """
    rng = np.random.default_rng(task.seed)
    order = rng.permutation(len(task.train.y))
    cut = max(1, round(HELD_OUT * len(order)))
    if task.unseen is not None and 0 < task.unseen.sum() < len(order):
        order, cut = np.argsort(~task.unseen, kind="stable"), int(task.unseen.sum())
    again, before = task.train.take(order[:cut]), task.train.take(order[cut:])
    strength, first = max(
        path(task.strengths, partial(fit_weighted, before, None)),
        key=lambda fitted: float((_plain(fitted[1], again.x) == again.y).mean()),
    )
    sure = softmax(first.of_standardised(again.x))[np.arange(cut), again.y]
    of_class = np.bincount(again.y, minlength=again.classes)[again.y]

    @cache
    def moved() -> NDArray[np.float64]:
        return left_out_logits(first, before, strength) - first.of_standardised(before.x)

    def left_out(head: Head, pull: float) -> NDArray[np.float64]:
        """Of images of the first fit as far as that head is moved: how much of it the second takes back is left out."""
        logits = np.empty((len(order), task.train.classes))
        logits[order[:cut]] = left_out_logits(head, again, pull, near=True)
        logits[order[cut:]] = head.of_standardised(before.x) + moved()
        return logits

    for gamma in GAMMAS:
        weight = np.exp(-gamma * sure) / of_class
        for pull in PULLS:
            head = fit_near(again, weight, first, pull)
            yield Fitted({"gamma": gamma, "pull": pull}, head, left_out=partial(left_out, head, pull))


def dpe(task: Task) -> Candidates:
    """An ensemble of diverse prototypes on class-balanced draws. Source: To et al., ICML 2025.

    The published one is fitted on validation images, which choose here, so this one is on training images.
    """
    for diversity in DIVERSITIES:
        rng = np.random.default_rng(task.seed)
        yield Fitted({"diversity": diversity}, fit_prototypes(task.train, diversity, rng))


METHODS: dict[RobustMethod, Callable[[Task], Candidates]] = {
    "erm": erm,
    "reweight": reweight,
    "groupdro": groupdro,
    "groupdro-auroc": groupdro_auroc,
    "jtt": jtt,
    "dfr": dfr,
    "afr": afr,
    "dpe": dpe,
}
TRAIN_GROUPS = tuple(method for method in GROUPED_METHODS if method != "dfr")
"""Methods that need the groups of the training images."""


def fit_robust(method: RobustMethod, embeddings: Embeddings, group: Ids | None, watch: Watch, seed: int = 0) -> Robust:
    """Fit a method's candidates on the training embeddings and keep the one that validation favours.

    Args:
        method: A name of METHODS.
        embeddings: With the splits train and validation; their own groups and subclasses are not looked at.
        group: Of all embeddings, shape (n,), -1 unknown: what the method may know; None: nothing.
        watch: The rule, and the validation images' ids under it.
        seed: Of the draws of DFR, AFR and DPE.
    Raises:
        DataError: without training images, if they have one superclass only, or if a group that is needed is unknown.
    """
    train, held_out = embeddings.rows("train"), embeddings.rows("validation")
    if not len(train):
        raise DataError("heads are fitted on training images, and there are none. Name the splits.")
    if len(np.unique(embeddings.superclass[train])) < 2:
        raise DataError("a head tells superclasses apart; the training images have one only. Add another.")
    of_train = of_held_out = None
    if method in TRAIN_GROUPS:
        of_train = _dense(_known(method, group, train, "training"))
    if method == "dfr":
        of_held_out = _dense(_known(method, group, held_out, "validation"))
    classes = len(embeddings.superclass_names)
    task = Task(
        standardise(embeddings.vectors[train], embeddings.superclass[train], classes),
        of_train,
        (embeddings.vectors[held_out], embeddings.superclass[held_out]),
        of_held_out,
        seed,
        unseen=None if embeddings.unseen is None else embeddings.unseen[train],
    )
    best: tuple[Score, dict[str, Any], Classifier] | None = None
    by_pairs = method == "groupdro-auroc" and classes == 2
    count, score = 0, partial(_score_pairs if by_pairs else _score_groups, task, watch)
    for fitted in METHODS[method](task):
        count += 1
        scored = fitted.score or score(fitted.head)
        if best is None or scored > best[0]:
            best = scored, fitted.settings, fitted.head
    assert best is not None
    accuracy = _score_groups(task, watch, best[2])[0] if by_pairs else best[0][0]
    selection = watch.facts() | {"accuracy": accuracy, "candidates": count}
    selection |= {"auroc": best[0][0]} if by_pairs else {}
    return Robust(method, best[2], best[1], selection)


def _score_groups(task: Task, watch: Watch, head: Classifier) -> Score:
    return watch.score(head.predict(task.held_out[0]) == task.held_out[1])


def _score_pairs(task: Task, watch: Watch, head: Classifier) -> Score:
    """The lowest AUROC between groups of the two superclasses, and that over all images."""
    probability = head.probabilities(task.held_out[0])[:, 1]
    found = pairwise_auroc(probability, task.held_out[1] == 1, watch.ids, watch.names)
    return found.worst_pair.auroc, found.overall


def _known(method: str, group: Ids | None, rows: Ids, which: str) -> Ids:
    if group is None:
        raise DataError(
            f"{method} needs the groups of the {which} images, and there are none. Give them a column group, find some "
            f"(`groups=discovered`), or use a method without: erm, jtt, afr, dpe."
        )
    mine = group[rows]
    if (mine < 0).any():
        raise DataError(
            f"{method} needs the group of every {which} image; {int((mine < 0).sum())} of {len(mine)} have none. Label "
            f"them, leave them out, or pass `groups=discovered`."
        )
    return mine


def _dense(ids: Ids) -> Ids:
    return np.unique(ids, return_inverse=True)[1]
