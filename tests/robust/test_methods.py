"""The methods on embeddings with a shortcut: what each may see, what it is chosen by, and that it helps."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from thanos.config import DiscoverConfig, RobustConfig
from thanos.embeddings import Embeddings
from thanos.errors import DataError, MissingLabels
from thanos.robust import methods as room
from thanos.robust.methods import fit_robust
from thanos.robust.select import watch
from thanos.robust.stage import find_groups, make_robust, watchable

NAMES = ("a, plain", "a, odd", "b, odd", "b, plain")


@pytest.fixture(scope="module")
def shortcut():
    """Two classes; dimension 0 tells them apart except in the odd 10%, dimension 1 does so weakly for all."""
    rng = np.random.default_rng(0)
    n = 3000
    superclass = rng.integers(0, 2, n)
    split = np.repeat([0, 1, 2], [1600, 600, 800]).astype(np.int8)
    odd = rng.random(n) < np.where(split == 2, 0.5, 0.1)
    x = rng.normal(size=(n, 8)) * 0.5
    x[:, 0] += 1.5 * (2 * np.where(odd, 1 - superclass, superclass) - 1)
    x[:, 1] += 0.5 * (2 * superclass - 1)
    group = 2 * superclass + np.where(odd, 1 - superclass, superclass)
    return Embeddings(
        vectors=x.astype(np.float32), superclass=superclass, superclass_names=("a", "b"), split=split, subclass=group,
        subclass_names=NAMES, group=group, group_names=NAMES, refs=tuple(map(str, range(n))),
    )  # fmt: skip


CONFIGS = [
    RobustConfig(method="erm", groups="none"),
    RobustConfig(method="jtt", groups="none"),
    RobustConfig(method="afr", groups="none"),
    RobustConfig(method="dpe", groups="none"),
    RobustConfig(method="groupdro-auroc", groups="discovered"),
    RobustConfig(method="reweight", groups="discovered"),
    RobustConfig(method="groupdro", groups="discovered"),
    RobustConfig(method="dfr", groups="discovered"),
]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.method}-{c.groups}")
def test_label_free_methods_never_touch_true_groups(shortcut, config):
    rng = np.random.default_rng(1)
    lied = replace(shortcut, group=rng.permutation(shortcut.group), subclass=rng.permutation(shortcut.subclass))
    clusters = DiscoverConfig(clusters=2, components=2)
    honest = make_robust(shortcut, config, clusters=clusters).robust
    other = make_robust(lied, config, clusters=clusters).robust
    np.testing.assert_array_equal(honest.head.logits(shortcut.vectors), other.head.logits(shortcut.vectors))
    assert honest.selection == other.selection


def test_of_the_auroc_form_the_worst_pairs_auroc_on_validation_chooses(shortcut):
    """By scikit-learn's AUROC, over every two groups of different superclasses."""
    robust = fit_robust("groupdro-auroc", shortcut, shortcut.group, watch("worst-group", shortcut))
    held_out = shortcut.of("validation")
    score = robust.head.probabilities(held_out.vectors)[:, 1]
    pairs = [np.isin(held_out.group, pair) for pair in ((0, 2), (0, 3), (1, 2), (1, 3))]
    lowest = min(roc_auc_score(held_out.superclass[mine], score[mine]) for mine in pairs)
    assert robust.selection["auroc"] == pytest.approx(lowest)
    plain = fit_robust("erm", shortcut, None, watch("worst-group", shortcut)).head
    score = plain.probabilities(held_out.vectors)[:, 1]
    assert lowest > min(roc_auc_score(held_out.superclass[mine], score[mine]) for mine in pairs) + 0.05


@pytest.mark.parametrize("method", ["groupdro", "reweight", "dfr"])
def test_given_groups_are_used(shortcut, method):
    config = RobustConfig(method=method, groups="given")
    plain = make_robust(shortcut, RobustConfig(method="erm", groups="none")).scores
    fair = make_robust(shortcut, config).scores
    assert fair.groups.worst_group.accuracy > plain.groups.worst_group.accuracy + 0.2


def test_discovered_groups_find_the_shortcut_and_help(shortcut):
    outcome = make_robust(
        shortcut, RobustConfig(groups="discovered"), clusters=DiscoverConfig(clusters=2, components=2)
    )
    recovered = outcome.scores.recovery["train"]
    assert recovered.rarest_f1.lowest > 0.9 > recovered.one_cluster.rarest_f1.mean + 0.5
    plain = make_robust(shortcut, RobustConfig(method="erm", groups="none")).scores
    gain = outcome.scores.groups.worst_group.accuracy - plain.groups.worst_group.accuracy
    assert gain > 0.2
    assert outcome.robust.selection["rule"] == "worst-discovered"


def test_jtt_upweights_what_the_first_head_gets_wrong(shortcut):
    robust = fit_robust("jtt", shortcut, None, watch("worst-group", shortcut))
    assert 0 < robust.settings["errors"] < 0.2 * 1600
    assert robust.selection["accuracy"] > 0.6


def test_dfr_is_the_mean_of_scikit_learns_sparse_heads_on_balanced_draws(shortcut):
    robust = fit_robust("dfr", shortcut, shortcut.group, watch("worst-group", shortcut), seed=3)
    held_out = shortcut.of("validation")
    data = room.standardise(shortcut.of("train").vectors, shortcut.of("train").superclass, 2)
    x = (held_out.vectors - data.mean) / data.scale
    size = np.bincount(held_out.group)
    rng = np.random.default_rng(7)
    fitted = []
    for _ in range(40):  # other draws than ours: the mean over many agrees, whatever the draws
        rows = np.concatenate([rng.permutation(np.flatnonzero(held_out.group == g))[: size.min()] for g in range(4)])
        model = LogisticRegression(l1_ratio=1, C=robust.settings["penalty"], solver="liblinear")
        fitted.append(model.fit(x[rows], held_out.superclass[rows]).coef_[0])
    ours = robust.head.weight[1] - robust.head.weight[0]
    np.testing.assert_allclose(ours, np.mean(fitted, axis=0), atol=0.25)
    test = shortcut.of("test")
    oracle = ((test.vectors - data.mean) / data.scale) @ np.mean(fitted, axis=0) > 0
    assert (robust.head.predict(test.vectors) == oracle).mean() > 0.97


def test_afr_weighs_the_images_that_the_encoder_has_not_seen(shortcut, monkeypatch):
    """They are what the second head is fitted on, by the published weights; the first head on the others alone."""
    rows = shortcut.rows("train")
    unseen = np.zeros(len(shortcut), dtype=bool)
    unseen[rows[::7]] = True
    fitted = []
    monkeypatch.setattr(room, "fit_near", lambda data, weight, start, pull: fitted.append((data, weight)) or start)
    robust = fit_robust("afr", replace(shortcut, unseen=unseen), None, watch("worst-class", shortcut))
    data = room.standardise(shortcut.vectors[rows], shortcut.superclass[rows], 2)
    np.testing.assert_array_equal(fitted[0][0].x, data.x[::7])
    seen = data.take(np.flatnonzero(~unseen[rows]))
    apart = []
    for strength in room.STRENGTHS:
        model = LogisticRegression(C=2 / (strength * len(seen.y)), tol=1e-9, max_iter=1000).fit(seen.x, seen.y)
        apart.append(np.abs(2 * robust.head.weight[1] - model.coef_[0]).max())
    assert min(apart) < 1e-3
    true = robust.head.probabilities(shortcut.vectors[rows[::7]])[np.arange(len(rows[::7])), data.y[::7]]
    weight = np.exp(-room.GAMMAS[0] * true) / np.bincount(data.y[::7])[data.y[::7]]
    np.testing.assert_allclose(fitted[0][1], weight, rtol=1e-5)


def test_of_equal_settings_the_rule_decides(shortcut):
    by_class = fit_robust("groupdro", shortcut, shortcut.group, watch("worst-class", shortcut))
    by_group = fit_robust("groupdro", shortcut, shortcut.group, watch("worst-group", shortcut))
    assert by_class.selection["n"].keys() == {"a", "b"}
    assert by_group.selection["n"].keys() == set(NAMES)
    assert sum(by_group.selection["n"].values()) == 600


def test_a_cluster_without_validation_images_joins_the_largest(shortcut):
    clusters = DiscoverConfig(clusters=2, components=2)
    found = find_groups(shortcut, clusters)
    small = found.cluster == np.bincount(found.cluster[shortcut.in_split("train")]).argmin()
    moved = shortcut.take(np.flatnonzero(~(small & shortcut.in_split("validation"))))
    joined = find_groups(moved, clusters)
    assert len(np.unique(joined.cluster)) == 3
    assert sorted(fact["clusters"] for fact in joined.superclasses.values()) == [1, 2]
    for name, fact in joined.superclasses.items():
        mine = moved.superclass == moved.superclass_names.index(name)
        assert sum(fact["sizes"]) == mine.sum()
    make_robust(moved, RobustConfig(groups="discovered"), clusters=clusters)


def test_clusters_of_too_few_validation_images_become_one(shortcut):
    found = find_groups(shortcut, DiscoverConfig(clusters=2, components=2))
    seen = np.bincount(found.cluster[shortcut.split == 1], minlength=4)
    least = int(seen[:2].max()) + 1  # more than either cluster of the first superclass has
    joined = watchable(found, shortcut, least)
    of_first = shortcut.superclass == 0
    assert set(joined.cluster[of_first]) == {np.bincount(found.cluster[of_first]).argmax()}
    assert joined.superclasses["a"]["sizes"] == [of_first.sum()]
    np.testing.assert_array_equal(watchable(found, shortcut, int(seen.min())).cluster, found.cluster)


def test_dfrs_heads_are_sparse(shortcut):
    data = room.standardise(shortcut.vectors, shortcut.superclass, 2)
    dense, sparse = (room._sparse_head(data.x, data.y, penalty, data).weight for penalty in (100.0, 0.005))
    assert (dense != 0).all()
    assert (sparse == 0).sum() >= dense.size / 2


def test_dfr_reports_the_half_it_did_not_use(shortcut):
    robust = fit_robust("dfr", shortcut, shortcut.group, watch("worst-group", shortcut))
    held_out = shortcut.of("validation")
    right = robust.head.predict(held_out.vectors) == held_out.superclass
    seen = min(right[held_out.group == g].mean() for g in range(4))
    assert robust.selection["accuracy"] != seen
    with pytest.raises(ValueError, match="drop `select`"):
        RobustConfig(method="dfr", groups="given", select="worst-class")


def test_dfr_without_a_superclass_in_validation(shortcut):
    third = replace(shortcut, superclass_names=("a", "b", "c"))  # which no image has
    head = make_robust(third, RobustConfig(method="dfr", groups="given")).robust.head
    assert set(head.predict(shortcut.vectors)) == {0, 1}


def test_partly_known_labels_are_scored_as_far_as_they_go(shortcut):
    some = np.arange(len(shortcut)) % 3 > 0
    partly = replace(
        shortcut,
        subclass=np.where(shortcut.superclass == 0, shortcut.subclass, -1),
        group=np.where(some, shortcut.group, -1),
    )
    scores = make_robust(partly, RobustConfig(method="erm", groups="none")).scores
    assert scores.auroc is None
    test = shortcut.in_split("test")
    assert scores.groups.images_without_group == (test & ~some).sum()
    assert sum(g.n for g in scores.groups.groups.values()) == (test & some).sum()
    held_out_only = replace(shortcut, group=np.where(shortcut.in_split("train"), -1, shortcut.group))
    scores = make_robust(held_out_only, RobustConfig(method="dfr", groups="given")).scores
    assert scores.groups.train_weighted_mean is None


def test_what_is_missing_is_said(shortcut):
    bare = replace(shortcut, group=None)
    with pytest.raises(MissingLabels, match="`groups=discovered`"):
        make_robust(bare, RobustConfig(groups="given"))
    with pytest.raises(MissingLabels, match="worst-class"):
        watch("worst-group", bare)
    lone = replace(shortcut, group=np.where((shortcut.group == 1) & shortcut.in_split("validation"), 0, shortcut.group))
    with pytest.raises(DataError, match="'a, odd' has none there"):
        make_robust(lone, RobustConfig(groups="given"))
    with pytest.raises(DataError, match=r"there are none\. Name some"):
        watch("worst-class", shortcut.take(np.flatnonzero(shortcut.split != 1)))
    with pytest.raises(DataError, match="scored on test images"):
        make_robust(shortcut.take(np.flatnonzero(shortcut.split != 2)), RobustConfig(groups="discovered"))
    partly = replace(shortcut, group=np.where(shortcut.in_split("train"), -1, shortcut.group))
    with pytest.raises(DataError, match="1600 of 1600 have none"):
        make_robust(partly, RobustConfig(groups="given"))
    with pytest.raises(ValueError, match="`groups=given` or discovered"):
        RobustConfig(method="dfr", groups="none")
