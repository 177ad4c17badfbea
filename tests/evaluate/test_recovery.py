"""Recovery and group scores against tables made by hand and slow loops."""

import itertools

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from thanos.data.labels import Labels
from thanos.errors import DataError
from thanos.evaluate.recovery import f1_table, recovery_by_split, recovery_scores
from thanos.evaluate.robustness import calibration_error, group_scores, pairwise_auroc, worst_class


def drawn(seed, images=200, superclasses=3, subclasses=3, clusters=4):
    rng = np.random.default_rng(seed)
    superclass = rng.integers(0, superclasses, images)
    true = superclass * subclasses + rng.choice(subclasses, images, p=[0.6, 0.3, 0.1])
    found = np.where(rng.random(images) < 0.6, true, rng.integers(0, clusters, images) + 100)
    return found, true, superclass


def test_a_table_by_hand():
    # cluster 0: 8 of s0, 1 of s1; cluster 1: 2 of s0, 4 of s1
    found = np.array([0] * 9 + [1] * 6)
    true = np.array([0] * 8 + [1] + [0, 0] + [1] * 4)
    scores = recovery_scores(found, true, np.zeros(15, dtype=int), ("common", "rare"))
    assert scores.best_f1 == pytest.approx({"common": 16 / 19, "rare": 8 / 11})
    assert scores.macro_f1 == pytest.approx((16 / 19 + 8 / 11) / 2)
    assert scores.rarest_f1.mean == pytest.approx(8 / 11)
    assert scores.one_to_one_f1 == pytest.approx(scores.macro_f1)
    assert scores.purity == pytest.approx(12 / 15)
    assert scores.one_cluster.rarest_f1.lowest == pytest.approx(2 * (1 / 3) / (1 + 1 / 3))
    assert scores.one_cluster.purity == pytest.approx(10 / 15)


@pytest.mark.parametrize("seed", range(5))
def test_f1_and_its_best_assignment_against_slow_loops(seed):
    found, true, superclass = drawn(seed)
    scores = recovery_scores(found, true, superclass)
    one_to_one = []
    for value in range(3):
        rows = superclass == value
        kinds, clusters = np.unique(true[rows]), np.unique(found[rows])
        table = np.zeros((len(clusters), len(kinds)))
        for (i, c), (j, s) in itertools.product(enumerate(clusters), enumerate(kinds)):
            both = ((found == c) & (true == s) & rows).sum()
            precision, recall = both / ((found == c) & rows).sum(), both / ((true == s) & rows).sum()
            table[i, j] = 2 * precision * recall / (precision + recall) if both else 0.0
        for j, kind in enumerate(kinds):
            assert scores.best_f1[str(kind)] == pytest.approx(table[:, j].max())
        best = max(
            sum(table[c, j] for j, c in enumerate(order) if c < len(clusters))
            for order in itertools.permutations(range(max(len(clusters), len(kinds))), len(kinds))
        )
        one_to_one.append((best, len(kinds)))
    assert scores.one_to_one_f1 == pytest.approx(sum(b for b, _ in one_to_one) / sum(k for _, k in one_to_one))


def test_one_cluster_scores_its_baseline_and_truth_scores_one():
    _, true, superclass = drawn(7)
    one = recovery_scores(superclass, true, superclass)
    assert one.macro_f1 == pytest.approx(one.one_cluster.macro_f1)
    assert one.rarest_f1.to_dict() == pytest.approx(one.one_cluster.rarest_f1.to_dict())
    assert one.adjusted_rand == pytest.approx(0, abs=1e-12)
    perfect = recovery_scores(true, true, superclass)
    assert perfect.macro_f1 == perfect.one_to_one_f1 == perfect.purity == 1
    assert perfect.adjusted_mutual_information == pytest.approx(1)


def test_shuffled_clusters_score_what_chance_does():
    """Forty small clusters of noise beat one cluster on a rare subclass; shuffling them shows it."""
    rng = np.random.default_rng(2)
    true = (rng.random(4000) < 0.02).astype(int)
    found = rng.integers(0, 40, 4000)
    superclass = np.zeros(4000, dtype=int)
    scores = recovery_scores(found, true, superclass, ("common", "rare"))
    assert scores.best_f1["rare"] > scores.one_cluster.rarest_f1.lowest
    best = []
    for _ in range(50):
        drawn = rng.permutation(found)
        rare = true == 1
        best.append(max(2 * (rare & (drawn == c)).sum() / (rare.sum() + (drawn == c).sum()) for c in range(40)))
    assert scores.shuffled.best_f1["rare"] == pytest.approx(np.mean(best), rel=0.4)  # the mean of five
    grouped = np.where(true == 1, 40, found)
    assert recovery_scores(grouped, true, superclass).best_f1["1"] == 1
    assert recovery_scores(grouped, true, superclass).shuffled.best_f1["1"] < 0.2


def test_waterbirds_baseline_is_the_published_counts():
    """184 of 3,682 landbirds stand on water, 56 of 1,113 waterbirds on land: 2p / (1 + p)."""
    for rare, size, expected in ((184, 3682, 0.095), (56, 1113, 0.096)):
        table = f1_table(np.array([[size - rare, rare]]))
        assert table[0, 1] == pytest.approx(expected, abs=5e-4)


def test_unknown_and_lonely_subclasses_are_left_out():
    found, true, superclass = drawn(3)
    known = recovery_scores(found, true, superclass)
    more = recovery_scores(
        np.concatenate([found, [0, 1, 5]]),
        np.concatenate([true, [-1, 50, 50]]),
        np.concatenate([superclass, [0, 9, 9]]),
    )
    assert more == known
    assert recovery_scores(np.zeros(3, dtype=int), np.full(3, 2), np.zeros(3, dtype=int)) is None


def test_group_accuracies_and_their_four_summaries_by_hand():
    right = np.array([1, 1, 1, 0, 1, 0, 0, 1, 1, 1], dtype=bool)
    group = np.array([0, 0, 0, 0, 1, 1, 1, 3, 3, 3])
    share = np.array([0.7, 0.1, 0.1, 0.1])
    scores = group_scores(right, group, ("a", "b", "empty", "d"), train_share=share)
    assert {name: g.accuracy for name, g in scores.groups.items()} == pytest.approx({"a": 0.75, "b": 1 / 3, "d": 1})
    assert scores.worst_group.name == "b"
    assert scores.worst_group.accuracy == pytest.approx(1 / 3)
    assert scores.group_mean.accuracy == pytest.approx((0.75 + 1 / 3 + 1) / 3)
    assert scores.sample_mean.accuracy == pytest.approx(0.7)
    assert scores.train_weighted_mean.accuracy == pytest.approx((0.7 * 0.75 + 0.1 / 3 + 0.1) / 0.9)
    assert all(g.small for g in scores.groups.values())
    worst = worst_class(right, group, "abcd")
    assert (worst.name, worst.accuracy, worst.n) == ("b", pytest.approx(1 / 3), 3)
    with pytest.raises(DataError, match="image 1 has none"):
        group_scores(right[:2], np.array([0, -1]), ("a",))


def test_auroc_of_subclass_pairs_against_scikit_learn():
    rng = np.random.default_rng(1)
    subclass = rng.integers(0, 4, 300)
    positive = subclass >= 2
    score = rng.random(300) + 0.3 * positive + 0.2 * (subclass == 3)
    scores = pairwise_auroc(score, positive, subclass, ("n0", "n1", "p0", "p1"))
    rows = np.isin(subclass, (1, 2))
    assert scores.pairs["p0 / n1"] == pytest.approx(roc_auc_score(positive[rows], score[rows]))
    assert scores.worst_pair.auroc == min(scores.pairs.values())
    assert len(scores.pairs) == 4
    with pytest.raises(DataError, match="positives with negatives"):
        pairwise_auroc(score[positive], positive[positive], subclass[positive], ("", "", "", ""))


def test_calibration_error_by_hand():
    probability = np.array([[0.95, 0.05], [0.95, 0.05], [0.4, 0.6], [0.4, 0.6]])
    # bin of 0.95: right once of twice; bin of 0.6: right twice
    assert calibration_error(probability, np.array([0, 1, 1, 1])) == pytest.approx((2 * 0.45 + 2 * 0.4) / 4)
    sure = np.eye(3)[np.array([0, 1, 2, 1])]
    assert calibration_error(sure, np.array([0, 1, 2, 1])) == 0


def test_coarser_levels_of_fine_labels_are_judged_too():
    """Clusters that know dog from cat but no breed: perfect one level below the superclass."""
    names = ("bird", "cat > siamese", "dog > beagle > lemon", "dog > pug")
    subclass = np.array([0, 1, 2, 3, -1] * 8)
    labels = Labels(
        superclass=np.zeros(40, dtype=np.int64),
        superclass_names=("animal",),
        split=np.full(40, 2, dtype=np.int8),
        subclass=subclass,
        subclass_names=names,
    )
    records = labels.by_level()
    assert {depth: each.subclass_names for depth, each in records.items()} == {
        1: ("bird", "cat", "dog"),
        2: ("bird", "cat > siamese", "dog > beagle", "dog > pug"),
    }
    assert records[1].subclass.tolist() == [0, 1, 2, 2, -1] * 8
    found = np.array([0, 1, 2, 2, 2] * 8)
    scores = recovery_by_split(labels, found)
    assert scores.recovery_by_level[1]["test"].adjusted_mutual_information == pytest.approx(1)
    assert scores.recovery["test"].adjusted_mutual_information < 0.95
    assert [where for where, _ in scores.named()] == [
        "test",
        "test, labels 1 below the superclass",
        "test, labels 2 below the superclass",
    ]


def test_labels_of_one_level_have_no_coarser_ones():
    labels = Labels(
        superclass=np.array([0, 0]),
        superclass_names=("a",),
        split=np.zeros(2, dtype=np.int8),
        subclass=np.array([0, 1]),
        subclass_names=("x", "y"),
    )
    assert labels.by_level() == {}


def test_one_name_in_two_superclasses_stays_two_classes_at_every_level():
    names = ("a/milk > fat", "a/milk > lean", "b/milk > fat")
    labels = Labels(
        superclass=np.array([0, 0, 1]),
        superclass_names=("a", "b"),
        split=np.zeros(3, dtype=np.int8),
        subclass=np.array([0, 1, 2]),
        subclass_names=names,
    )
    (record,) = labels.by_level().values()
    assert record.subclass.tolist() == [0, 0, 1]
    assert len(record.subclass_names) == 2
