"""Convex heads against scikit-learn and against a constrained solver."""

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

from thanos.robust.head import (
    Head,
    Standardised,
    fit_groupdro,
    fit_near,
    fit_pairs,
    fit_weighted,
    read_head,
    standardise,
    write_head,
)


def problem(classes, n=300, dim=5, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, n)
    group = 2 * y + (rng.random(n) < 0.15)
    x = rng.normal(size=(n, dim))
    x[:, 0] += 1.5 * np.where(group % 2 == 1, (y + 1) % classes, y)  # a shortcut that fails in the small groups
    x[:, 1] += 0.7 * y
    return standardise(x, y, classes), np.unique(group, return_inverse=True)[1]


def cross_entropies(head, data):
    logits = data.x @ head.weight.T + head.bias
    logits -= logits.max(axis=1, keepdims=True)
    return np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(data.y)), data.y]


@pytest.mark.parametrize("classes", [3, 5])
@pytest.mark.parametrize("weighted", [False, True])
def test_weighted_head_equals_scikit_learn(classes, weighted):
    data, group = problem(classes)
    weight = 1 / np.bincount(group)[group] if weighted else None
    head = fit_weighted(data, weight, 0.01)
    model = LogisticRegression(C=1 / 0.01, tol=1e-8, max_iter=10_000)
    share = np.full(len(data.y), 1 / len(data.y)) if weight is None else weight / weight.sum()
    model.fit(data.x, data.y, sample_weight=share)
    np.testing.assert_allclose(head.weight, model.coef_, atol=2e-4)


def objective(head, data, share, strength):
    return share @ cross_entropies(head, data) + strength / 2 * (head.weight**2).sum()


@pytest.mark.parametrize(("n", "dim"), [(300, 5), (200, 60), (40, 90), (1500, 700)])
@pytest.mark.parametrize("strength", [1e-3, 1e-1])
@pytest.mark.parametrize("upweight", [1.0, 100.0])
def test_of_two_classes_the_optimum_is_scikit_learns(n, dim, strength, upweight):
    """With more dimensions than images too, and with so many numbers that Hessians are in single precision."""
    data, group = problem(2, n, dim)
    weight = np.where(group % 3 == 0, 1.0, upweight)
    share = weight / weight.sum()
    head = fit_weighted(data, weight, strength)
    model = LogisticRegression(C=2 / strength, tol=1e-10, max_iter=100_000)  # one logit, so half the penalty
    model.fit(data.x, data.y, sample_weight=share)
    half, bias = model.coef_[0] / 2, model.intercept_[0] / 2
    best = Head(np.stack([-half, half]), np.array([-bias, bias]), data.mean, data.scale)
    ours, theirs = (objective(each, data, share, strength) for each in (head, best))
    assert abs(ours / theirs - 1) < 1e-6
    np.testing.assert_allclose(head.weight, best.weight, atol=1e-3)


def test_a_start_does_not_change_the_optimum():
    data, group = problem(2, 400, 30)
    far = fit_weighted(data, None, 1.0)
    share = np.full(400, 1 / 400)
    cold, warm = fit_weighted(data, None, 1e-3), fit_weighted(data, None, 1e-3, start=far)
    assert objective(warm, data, share, 1e-3) == pytest.approx(objective(cold, data, share, 1e-3), rel=1e-6)
    cold, warm = fit_groupdro(data, group, 0.01), fit_groupdro(data, group, 0.01, start=far)
    np.testing.assert_allclose(warm.logits(data.x), cold.logits(data.x), atol=1e-2)


def test_two_classes_are_solved_as_more_are():
    """A third class that no image has takes the other solver, to the same two logits' difference."""
    data, group = problem(2)
    more = Standardised(data.x, data.y, 3, data.mean, data.scale)
    start = fit_weighted(data, None, 0.01)
    weight = 1 / np.bincount(group)[group]
    pulled = fit_near(data, weight, start, 0.1)
    third = Head(np.vstack([start.weight, np.zeros(5)]), np.append(start.bias, -60.0), data.mean, data.scale)
    other = fit_near(more, weight, third, 0.1)
    np.testing.assert_allclose(pulled.weight, other.weight[:2], atol=1e-4)
    np.testing.assert_allclose(pulled.bias, other.bias[:2], atol=1e-4)


@pytest.mark.parametrize("adjustment", [0.0, 1.0])
def test_groupdro_head_solves_the_minimax(adjustment):
    data, group = problem(2, n=120, dim=3)
    size = np.bincount(group)
    strength = 0.05

    def group_losses(flat):
        head = Head(flat[:6].reshape(2, 3), flat[6:8], data.mean, data.scale)
        return np.bincount(group, weights=cross_entropies(head, data)) / size + adjustment / np.sqrt(size)

    def penalty(flat):
        return strength / 2 * float((flat[:6] ** 2).sum())

    best = minimize(
        lambda v: v[-1] + penalty(v),
        np.append(np.zeros(8), 5.0),
        constraints={"type": "ineq", "fun": lambda v: v[-1] - group_losses(v[:-1])},
        method="SLSQP",
        options={"maxiter": 2000, "ftol": 1e-12},
    )
    head = fit_groupdro(data, group, strength, adjustment)
    flat = np.append(head.weight.ravel(), head.bias)
    assert group_losses(flat).max() + penalty(flat) == pytest.approx(best.fun, abs=3e-3)


@pytest.mark.parametrize("classes", [2, 3])
def test_of_pairs_the_head_solves_the_minimax_over_pairs(classes):
    """Every two groups of different classes taken together, as loops, against a constrained solver."""
    data, group = problem(classes, n=120, dim=3)
    of = {g: data.y[group == g][0] for g in np.unique(group)}
    pairs = [np.isin(group, (a, b)) for a in of for b in of if of[a] < of[b]]
    strength, weights = 0.05, 3 * classes

    def pair_losses(flat):
        head = Head(flat[:weights].reshape(classes, 3), flat[weights : weights + classes], data.mean, data.scale)
        return np.array([cross_entropies(head, data)[mine].mean() for mine in pairs])

    def penalty(flat):
        return strength / 2 * float((flat[:weights] ** 2).sum())

    best = minimize(
        lambda v: v[-1] + penalty(v),
        np.append(np.zeros(weights + classes), 5.0),
        constraints={"type": "ineq", "fun": lambda v: v[-1] - pair_losses(v[:-1])},
        method="SLSQP",
        options={"maxiter": 2000, "ftol": 1e-12},
    )
    head = fit_pairs(data, group, strength)
    flat = np.append(head.weight.ravel(), head.bias)
    assert pair_losses(flat).max() + penalty(flat) == pytest.approx(best.fun, abs=3e-3)


def test_of_one_group_a_class_pairs_are_everyone():
    data, _ = problem(2)
    np.testing.assert_allclose(fit_pairs(data, data.y, 0.01).weight, fit_weighted(data, None, 0.01).weight, atol=1e-4)


def test_groupdro_head_serves_the_worst_group_better_than_the_plain_one():
    data, group = problem(2, n=2000)
    plain, robust = fit_weighted(data, None, 0.001), fit_groupdro(data, group, 0.001)
    worst = [
        min((head.predict(data.x * data.scale + data.mean)[group == g] == data.y[group == g]).mean() for g in range(4))
        for head in (plain, robust)
    ]
    assert worst[1] > worst[0] + 0.1


def test_a_strong_pull_keeps_the_head_where_it_was():
    data, group = problem(3)
    start = fit_weighted(data, None, 0.01)
    weight = 1 / np.bincount(group)[group]
    held = fit_near(data, weight, start, 1e6)
    np.testing.assert_allclose(held.weight, start.weight, atol=1e-4)
    free = fit_near(data, weight, start, 1e-4)
    share = weight / weight.sum()
    assert share @ cross_entropies(free, data) < share @ cross_entropies(start, data)


def test_a_head_survives_its_file(tmp_path):
    data, _ = problem(3)
    head = fit_weighted(data, None, 0.01)
    write_head(head, ("a", "b", "c"), tmp_path / "head.npz")
    again, names = read_head(tmp_path / "head.npz")
    x = np.random.default_rng(1).normal(size=(7, 5))
    np.testing.assert_array_equal(again.logits(x), head.logits(x))
    assert names == ("a", "b", "c")
    np.testing.assert_allclose(head.probabilities(x).sum(axis=1), 1)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("times", [0.05, 1.0, 30.0])
def test_calibrated_probabilities_hold_and_predictions_stay(classes, times):
    """Classes drawn from the softmax of known logits: whatever multiple of these a head has, it is told them again."""
    rng = np.random.default_rng(classes)
    weight, x = rng.normal(size=(classes, 4)), rng.normal(size=(20_000, 4))
    true = np.array([rng.multinomial(1, p).argmax() for p in Head(weight, np.zeros(classes), 0, 1).probabilities(x)])
    head = Head(times * weight, np.zeros(classes), np.zeros(4), np.ones(4), "encoder")
    found = head.calibrated(x, true)
    np.testing.assert_allclose(found.weight, weight, rtol=0.1)
    np.testing.assert_array_equal(found.predict(x), head.predict(x))
    assert found.encoder == "encoder"


def test_calibrated_on_few_right_images_it_is_not_certain():
    head = Head(np.array([[-1.0], [1.0]]), np.zeros(2), np.zeros(1), np.ones(1))
    x, true = np.array([[-1.0], [1.0], [1.0]]), np.array([0, 1, 1])
    assert head.calibrated(x, true).probabilities(x).max() == pytest.approx(1 - 1 / 5, abs=1e-3)


def test_of_one_class_alone_it_is_sure():
    data, _ = problem(2, 50)
    alone = Standardised(data.x, np.ones(50, dtype=np.int64), 2, data.mean, data.scale)
    head = fit_weighted(alone, None, 0.01)
    assert np.isfinite(head.bias).all()
    assert cross_entropies(head, alone).max() < 1e-6
