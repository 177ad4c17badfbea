"""Leaving out one training image, against heads that are fitted again without it."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from thanos.robust import methods
from thanos.robust.head import fit_groupdro, fit_near, fit_weighted, standardise
from thanos.robust.left_out import left_out_logits, left_out_of_draw
from thanos.robust.methods import Task


def problem(classes, n=150, dim=12):
    """A shortcut, and one group of a few images, which heads rest upon."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, classes, n)
    odd = rng.random(n) < 0.1
    x = rng.normal(size=(n, dim))
    x[:, 0] += 2 * np.where(odd, (y + 1) % classes, y)
    x[:, 1] += 0.7 * y
    return standardise(x, y, classes), np.unique(2 * y + odd, return_inverse=True)[1]


def fit_again(data, fit):
    """Logits of every image by the head that ``fit`` makes of the rows of all others."""
    rows = np.arange(len(data.y))
    return np.array([fit(rows[rows != i]).of_standardised(data.x[i : i + 1])[0] for i in rows])


def shift(logits, own):
    """How far logits are from a head's own, whatever all classes share."""
    away = logits - own
    return away - away.mean(axis=1, keepdims=True)


def agree(found, exact, own, within=0.1):
    """Far nearer to the head fitted again than the head itself, over all images and where it matters most."""
    true, ours = shift(exact, own), shift(found, own)
    most = np.argsort(-np.abs(true).max(axis=1))[:10]
    for rows in (slice(None), most):
        assert np.abs(ours - true)[rows].mean() < within * np.abs(true)[rows].mean()
        assert np.corrcoef(ours[rows].ravel(), true[rows].ravel())[0, 1] > 1 - within / 2


@pytest.mark.parametrize(("classes", "dim"), [(2, 12), (2, 200), (3, 12), (5, 12)])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_weighted_head_without_an_image(classes, dim, weighted):
    """With more dimensions than images too."""
    data, group = problem(classes, dim=dim)
    weight = 1 / np.bincount(group)[group] if weighted else np.ones(len(group))
    share, strength = weight / weight.sum(), 0.05
    head = fit_weighted(data, weight, strength)

    def fit(rows):
        """The others keep their weights, so of their mean the penalty is the stronger."""
        return fit_weighted(data.take(rows), weight[rows], strength / share[rows].sum(), start=head)

    found = left_out_logits(head, data, strength)
    within = 0.1 if classes == 2 else 0.3  # more than two classes share one Hessian
    agree(found, fit_again(data, fit), head.of_standardised(data.x), within)


def test_names_of_classes_without_images_change_nothing():
    data, group = problem(2, dim=40)
    more = replace(data, classes=5)
    weight = 1 / np.bincount(group)[group]
    found, expected = (left_out_logits(fit_weighted(of, weight, 0.05), of, 0.05) for of in (more, data))
    right = [(logits.argmax(axis=1) == data.y).mean() for logits in (found, expected)]
    assert right[0] == pytest.approx(right[1], abs=0.02)


def test_of_two_classes_it_is_the_step_from_the_optimum_by_hand():
    """One logit, its Hessian written out: z + l' q / (1 - l'' q), by loops."""
    data, _ = problem(2, n=40, dim=3)
    strength, n = 0.1, 40
    head = fit_weighted(data, None, strength)
    x = np.column_stack([data.x, np.ones(n)])
    z = np.diff(head.of_standardised(data.x), axis=1)[:, 0]
    p = 1 / (1 + np.exp(-z))
    hessian = sum(p[i] * (1 - p[i]) * np.outer(x[i], x[i]) / n for i in range(n))
    hessian += np.diag([strength / 2] * 3 + [0])
    expected = []
    for i in range(n):
        q = x[i] @ np.linalg.solve(hessian, x[i]) / n
        expected.append(z[i] + (p[i] - data.y[i]) * q / (1 - p[i] * (1 - p[i]) * q))
    found = np.diff(left_out_logits(head, data, strength), axis=1)[:, 0]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_head_near_another_without_an_image():
    data, group = problem(2)
    start = fit_weighted(data, None, 0.1)
    weight = 1 / np.bincount(group)[group]
    share, pull = weight / weight.sum(), 0.1
    head = fit_near(data, weight, start, pull)

    def fit(rows):
        return fit_near(data.take(rows), weight[rows], start, pull / share[rows].sum())

    found = left_out_logits(head, data, pull, near=True)
    agree(found, fit_again(data, fit), head.of_standardised(data.x))


def test_of_groupdro_groups_keep_their_weights_so_it_is_near_to_the_head_fitted_again():
    data, group = problem(2)
    head = fit_groupdro(data, group, 0.1)
    own, found = head.of_standardised(data.x), left_out_logits(head, data, 0.1)
    exact = fit_again(data, lambda rows: fit_groupdro(data.take(rows), group[rows], 0.1, start=head))
    true, ours = shift(exact, own), shift(found, own)
    assert np.abs(ours - true).mean() < 0.4 * np.abs(true).mean()
    assert np.corrcoef(ours[:, 1], true[:, 1])[0, 1] > 0.95


@pytest.mark.parametrize("classes", [2, 3])
def test_a_sparse_head_without_an_image_of_its_draw(classes):
    """Images that were not drawn keep their logits; of those drawn scikit-learn fits again."""
    data, _ = problem(classes, n=200, dim=6)
    drawn = np.random.default_rng(0).permutation(200)[:120]
    head = methods._sparse_head(data.x[drawn], data.y[drawn], 1.0, data)
    own, found = head.of_standardised(data.x), left_out_of_draw(head, data.x, data.y, drawn)
    rest = np.setdiff1d(np.arange(200), drawn)
    np.testing.assert_array_equal(found[rest], own[rest])
    exact = own.copy()
    for i in drawn:
        rows = drawn[drawn != i]
        again = methods._sparse_head(data.x[rows], data.y[rows], 1.0, data)
        exact[i] = again.of_standardised(data.x[i : i + 1])[0]
    true, ours = (each[drawn] - own[drawn] for each in (exact, found))
    assert np.abs(ours - true).mean() < 0.3 * np.abs(true).mean()
    assert np.corrcoef(ours.ravel(), true.ravel())[0, 1] > 0.97


@pytest.mark.parametrize("method", ["erm", "reweight", "groupdro", "jtt", "dfr", "afr"])
def test_left_out_is_what_new_images_get_where_the_head_itself_flatters(method):
    """On 600 images of 200 dimensions, over new images of the same kind; of what fails a shortcut, three draws."""
    own, kept, honest = [], [], []
    for seed in range(3):
        rng = np.random.default_rng(seed)

        def images(n, rng=rng):
            y = rng.integers(0, 2, n)
            odd = rng.random(n) < 0.2
            x = rng.normal(size=(n, 200))
            x[:, 0] += 2 * np.where(odd, 1 - y, y)
            x[:, 1] += y
            return x, y, 2 * y + odd

        (x, y, group), (new, true, of_new) = images(600), images(4000)
        rare, task = group % 2 == 1, Task(standardise(x, y, 2), group, (x, y), group, 0, strengths=(0.001,))
        for fitted in methods.METHODS[method](task):
            own.append((fitted.head.predict(x) == y)[rare].mean())
            kept.append((fitted.left_out().argmax(axis=1) == y)[rare].mean())
            honest.append((fitted.head.predict(new) == true)[of_new % 2 == 1].mean())
    assert abs(np.mean(kept) - np.mean(honest)) < 0.5 * (np.mean(own) - np.mean(honest))


def test_of_afr_an_image_of_the_first_fit_moves_as_there():
    data, _ = problem(2, n=120, dim=60)
    order = np.random.default_rng(0).permutation(120)
    before = data.take(order[24:])
    first = fit_weighted(before, None, 0.01)
    moved = left_out_logits(first, before, 0.01) - first.of_standardised(before.x)
    assert np.abs(moved).mean() > 0.1
    for fitted in methods.afr(Task(data, None, (data.x, data.y), None, 0, strengths=(0.01,))):
        away = fitted.left_out() - fitted.head.of_standardised(data.x)
        np.testing.assert_allclose(away[order[24:]], moved, atol=1e-8)
        assert np.abs(away[order[:24]]).max() > 0


def test_the_share_is_that_of_every_images_loss():
    data, group = problem(3)
    weight = 1 / np.bincount(group)[group]
    np.testing.assert_allclose(fit_weighted(data, weight, 0.1).share, weight / weight.sum())
    share = fit_groupdro(data, group, 0.1).share
    assert share.sum() == pytest.approx(1)
    for g in np.unique(group):
        np.testing.assert_allclose(share[group == g], share[group == g][0])


def test_in_single_precision_too(monkeypatch):
    from thanos.robust import newton

    data, group = problem(2)
    fit = partial(fit_weighted, data, 1 / np.bincount(group)[group], 0.05)
    double = left_out_logits(fit(), data, 0.05)
    monkeypatch.setattr(newton, "SINGLE", 1)
    again = standardise(data.x, data.y, 2)
    assert again.basis.single is not None
    np.testing.assert_allclose(left_out_logits(fit(), again, 0.05), double, atol=1e-3)


def test_scikit_learns_leave_one_out_of_plain_logistic_regression():
    data, _ = problem(2, n=60, dim=4)
    head = fit_weighted(data, None, 0.1)
    found = np.diff(left_out_logits(head, data, 0.1), axis=1)[:, 0]
    for i in range(0, 60, 7):
        rows = np.arange(60) != i
        model = LogisticRegression(C=2 / (0.1 * 60), tol=1e-10).fit(data.x[rows], data.y[rows])
        assert found[i] == pytest.approx(model.decision_function(data.x[i : i + 1])[0], abs=0.05)
