"""Each way to infer groups against its definition, by hand or by scikit-learn; none sees a true group."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture

from thanos.errors import DataError
from thanos.robust import infer as room
from thanos.robust.head import standardise
from thanos.robust.infer import INFERRERS, Seen


@pytest.fixture(scope="module")
def shortcut(make_shortcut):
    return make_shortcut()


@pytest.mark.parametrize("name", INFERRERS)
def test_true_groups_are_never_seen(shortcut, name):
    rng = np.random.default_rng(1)
    lied = replace(shortcut, group=rng.permutation(shortcut.group), subclass=rng.permutation(shortcut.subclass))
    honest, other = (INFERRERS[name](Seen.of(each, seed=3)) for each in (shortcut, lied))
    np.testing.assert_array_equal(honest.train, other.train)
    np.testing.assert_array_equal(honest.held_out, other.held_out)


@pytest.mark.parametrize("name", INFERRERS)
def test_groups_lie_inside_superclasses_and_are_dense(shortcut, name):
    seen = Seen.of(shortcut)
    found = INFERRERS[name](seen)
    assert set(found.train) == set(range(found.count))
    assert set(found.held_out) <= set(found.train)
    assert np.bincount(found.train).min() >= room.LEAST
    for group in range(found.count):
        mine = np.append(seen.train.y[found.train == group], seen.held_out_y[found.held_out == group])
        assert len(np.unique(mine)) == 1


@pytest.mark.parametrize("name", ["clusters", "pooled", "mistakes", "twins", "early"])
def test_a_wide_shortcut_is_found(shortcut, name):
    found = INFERRERS[name](Seen.of(shortcut))
    true = shortcut.group[shortcut.in_split("train")]
    assert adjusted_rand_score(true, found.train) > 0.8


def test_what_few_images_of_a_superclass_share_with_many_of_another_is_found_over_all_at_once(make_shortcut):
    """Scikit-learn's k-means of all unit vectors, cut by superclass; in one superclass twenty images are no cluster."""
    data = make_shortcut(1500, odd_share=0.02)
    seen = Seen.of(data)
    true = data.group[data.in_split("train")]
    unit = data.vectors / np.linalg.norm(data.vectors, axis=1, keepdims=True)
    half = KMeans(2, n_init=5, random_state=0).fit(unit).predict(unit)[data.in_split("train")]
    found = room.pooled(seen).train
    assert adjusted_rand_score(2 * seen.train.y + half, found) > 0.98
    assert adjusted_rand_score(true, found) > 0.95
    rare = np.isin(true, (1, 3))
    assert len(np.unique(found[rare])) == 2
    assert not np.isin(found[~rare], found[rare]).any()


def test_mistakes_are_those_of_scikit_learns_logistic_regression(shortcut):
    seen = Seen.of(shortcut)
    model = LogisticRegression(C=2 / (room.FIRST * len(seen.train.y)), tol=1e-8).fit(seen.train.x, seen.train.y)
    for x, y, found in (
        (seen.train.x, seen.train.y, room.mistakes(seen).train),
        (seen.held_out, seen.held_out_y, room.mistakes(seen).held_out),
    ):
        np.testing.assert_array_equal(found, 2 * y + (model.predict(x) != y))


def test_twins_follow_their_definition_step_by_step(shortcut, monkeypatch):
    """With scikit-learn's heads, two rounds, the loops written out."""
    monkeypatch.setattr(room, "ROUNDS", 2)
    seen = Seen.of(shortcut, seed=5)
    x, y, n = seen.train.x, seen.train.y, len(seen.train.y)
    rng = np.random.default_rng(5)
    first = rng.random(n) < 0.5
    label = y.copy()
    for _ in range(2):
        models = [
            LogisticRegression(C=2 / (room.FIRST * side.sum()), tol=1e-9).fit(x[side], label[side])
            for side in (first, ~first)
        ]
        held_out = np.where(first, models[1].predict_proba(x)[:, 1], models[0].predict_proba(x)[:, 1])
        draw = rng.random(n)
        for i in range(n):
            said = int(held_out[i] > 0.5)
            confidence = max(held_out[i], 1 - held_out[i])
            if draw[i] < (confidence - 0.5) * 2:
                label[i] = said
    wrong = (held_out > 0.5) != y
    either = np.any([model.predict(seen.held_out) != seen.held_out_y for model in models], axis=0)
    found = room.twins(seen)
    assert (found.train != 2 * y + wrong).mean() < 0.005  # but for images on the boundary
    assert (found.held_out != 2 * seen.held_out_y + either).mean() < 0.005


def test_surest_are_the_cells_of_a_head_on_the_easier_half(shortcut):
    seen = Seen.of(shortcut)
    x, y = seen.train.x, seen.train.y
    first = LogisticRegression(C=2 / (room.FIRST * len(y)), tol=1e-9).fit(x, y)
    right = first.predict_proba(x)[np.arange(len(y)), y]
    easy = np.zeros(len(y), dtype=bool)
    for kind in (0, 1):
        easy |= (y == kind) & (right >= np.sort(right[y == kind])[(y == kind).sum() // 2])
    again = LogisticRegression(C=2 / (room.FIRST * easy.sum()), tol=1e-9).fit(x[easy], y[easy])
    np.testing.assert_array_equal(room.surest(seen).train, 2 * y + again.predict(x))


def test_slices_without_labels_are_scikit_learns_mixture():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(-2, 1, (80, 3)), rng.normal(1, 0.5, (60, 3))])
    told = room.Sliced(x, np.eye(2)[rng.integers(0, 2, 140)], np.full((140, 2), 0.5))
    start = np.eye(2)[((np.arange(140) < 80) ^ (rng.random(140) < 0.25)).astype(int)]
    begun = room.fit_slices(told, start, weight=0, steps=1)
    ours = room.fit_slices(told, start, weight=0, steps=30)
    model = GaussianMixture(
        2, covariance_type="diag", weights_init=begun.share, means_init=begun.mean, precisions_init=1 / begun.variance,
        tol=1e-3, max_iter=30,
    ).fit(x)  # fmt: skip
    np.testing.assert_allclose(ours.mean, model.means_, atol=0.02)
    np.testing.assert_allclose(ours.posterior(told)[0], model.predict_proba(x), atol=0.02)
    assert ours.posterior(told)[1] == pytest.approx(model.score(x), abs=1e-3)


def test_labels_and_predictions_weigh_in_a_slice_as_published():
    """Two slices, one image, by hand: log shares, normals, and ten times the categories' logarithms."""
    slices = room.Slices(
        share=np.array([0.25, 0.75]), mean=np.array([[0.0], [2.0]]), variance=np.array([[1.0], [4.0]]),
        label=np.array([[0.9, 0.1], [0.5, 0.5]]), predicted=np.array([[0.6, 0.4], [0.2, 0.8]]), weight=10.0,
    )  # fmt: skip
    seen = room.Sliced(np.array([[1.0]]), np.array([[1.0, 0.0]]), np.array([[0.3, 0.7]]))
    first = np.log(0.25) - 0.5 - 0.5 * np.log(2 * np.pi)
    first += 10 * (np.log(0.9) + 0.3 * np.log(0.6) + 0.7 * np.log(0.4))
    second = np.log(0.75) - 0.125 - 0.5 * np.log(2 * np.pi * 4)
    second += 10 * (np.log(0.5) + 0.3 * np.log(0.2) + 0.7 * np.log(0.8))
    posterior, likelihood = slices.posterior(seen)
    np.testing.assert_allclose(posterior, [[1 / (1 + np.exp(second - first)), 1 / (1 + np.exp(first - second))]])
    assert likelihood == pytest.approx(np.logaddexp(first, second))


def test_first_slices_are_dealt_out_over_the_cells():
    member = room.first_slices(np.repeat([0, 3], [50, 30]), 5, np.random.default_rng(0))
    np.testing.assert_array_equal(member.sum(axis=1), 1)
    owner = [set(np.flatnonzero(member[rows].sum(axis=0))) for rows in (slice(0, 50), slice(50, 80))]
    assert owner == [{0, 2, 4}, {1, 3}]


def test_an_early_head_is_that_of_so_many_steps_by_hand():
    x = np.array([[1.0], [-1.0], [1.0], [-1.0]])
    data = standardise(x, np.array([1, 0, 1, 0]), 2)
    weight = 0.0  # of class 1; that of class 0 is its negative
    for _ in range(room.EARLY):  # x'x / n is 1, so a step of 2
        weight += 2 * (1 - 1 / (1 + np.exp(-2 * weight)))
    np.testing.assert_allclose(room.early_weight(data), [[-weight], [weight]])


def test_one_group_or_as_many_as_images_steps_aside(make_shortcut):
    rng = np.random.default_rng(0)
    apart = make_shortcut(odd_share=0.0)
    apart = replace(apart, vectors=(apart.vectors + 40 * (2 * apart.superclass[:, None] - 1)).astype(np.float32))
    with pytest.raises(DataError, match="no group is found inside a superclass"):
        room.mistakes(Seen.of(apart))
    seen = Seen.of(make_shortcut())
    n = len(seen.train.y)
    with pytest.raises(DataError, match="as many groups as images"):
        room._groups(seen, rng.permutation(n), np.zeros(len(seen.held_out_y), dtype=np.int64))


def test_a_group_of_few_training_images_joins_the_largest(make_shortcut):
    seen = Seen.of(make_shortcut())
    part = np.zeros(len(seen.train.y), dtype=np.int64)
    part[np.flatnonzero(seen.train.y == 0)[: room.LEAST - 1]] = 1
    part[np.flatnonzero(seen.train.y == 1)[:40]] = 2
    found = room._groups(seen, part, np.ones(len(seen.held_out_y), dtype=np.int64))
    assert np.bincount(found.train)[0] == (seen.train.y == 0).sum()
    assert found.count == 3
    of_first = found.held_out[seen.held_out_y == 0]
    assert (of_first == 0).all()
