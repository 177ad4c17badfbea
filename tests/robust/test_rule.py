"""What the portfolio's rule compares heads by, against loops and by hand; and which images are evidence."""

from dataclasses import replace

import numpy as np
import pytest

from thanos.robust.infer import Inferred, Seen
from thanos.robust.rule import SERVED, SURE, WORST, Evidence, Standard, over_groups, soft_accuracy


def test_groups_that_no_head_surely_serves_at_once_count_little():
    """Wrong labels: what is right about them is wrong about the images that they are taken for."""
    y = np.repeat([0, 1], 100)
    group = np.where(np.arange(200) < 25, 0, 1 + y)
    plain, other, served = np.ones((3, 200))
    plain[:25], other[100:190] = 0, 0  # the few; most of the other superclass

    def weight(*heads, evidence=Evidence(y, {"a": group}, len(y))):
        return Standard.of(np.array(heads), evidence, 0).weight

    np.testing.assert_allclose(weight(plain, other), [1, 0.1])  # 90 of 100 are wrong about one group or the other
    sure = 1 - SURE * 0.5 / 5  # of 25 images
    np.testing.assert_allclose(weight(plain, served), [1, 1 + SERVED * (sure - 0.5) / 0.5])
    assert weight(served, other)[1] == 0  # plain ERM is best there
    half = np.where(np.arange(200) < 25, 0.6, 1)
    np.testing.assert_allclose(weight(plain, half), [1, 0.6])  # not surely above the half that is chance for two
    with_third = Evidence(np.append(y, np.full(50, 2)), {"a": np.append(group, np.full(50, 3))}, 250)
    three = weight(*np.hstack([[plain, half], np.ones((2, 50))]), evidence=with_third)
    np.testing.assert_allclose(three, [1, 0.6 * (1 + SERVED * (0.6 - SURE * 0.1 - 1 / 3) / (2 / 3))])
    skipped = weight(plain, half, evidence=Evidence(2 * y, {"a": group}, len(y)))
    np.testing.assert_allclose(skipped, [1, 0.6])  # none is of class 1: they are two


def test_scores_of_resamples_are_those_of_the_images_repeated():
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], 20)
    soft = rng.random((3, 60))
    partitions = {"a": y * 3 + rng.integers(0, 3, 60), "b": y * 2 + rng.integers(0, 2, 60)}
    times = rng.multinomial(60, np.full(60, 1 / 60), 4)
    times[0, partitions["a"] == 4] = 0  # a group without an image: its superclass stands in
    found = over_groups(soft, Evidence(y, partitions, len(y)), times.astype(float))
    partitions = {"superclasses": y, **partitions}
    assert found.shape == (4, 3, 3)
    for sample in range(4):
        rows = np.repeat(np.arange(60), times[sample])
        for j, group in enumerate(partitions.values()):
            for i, each in enumerate(soft):
                means = [
                    each[rows[group[rows] == one]].mean()
                    if (group[rows] == one).any()
                    else each[rows[y[rows] == y[group == one][0]]].mean()
                    for one in np.unique(group)
                ]
                expected = WORST * min(means) + (1 - WORST) * np.mean(means)
                assert found[sample, j, i] == pytest.approx(expected)


def test_nearness_is_one_where_nothing_is_lacking_and_squares_what_is():
    found = np.array([[[0.9, 0.5, 0.8], [0.3, 0.7, 0.6]]])
    standard = Standard(np.array([0.9, 0.7]), np.array([1.0, 3.0]))
    np.testing.assert_allclose(standard.nearness(standard.best[None, :, None]), 1)
    expected = [1 - np.sqrt(3 / 4) * 0.4, 1 - np.sqrt(1 / 4) * 0.4, 1 - np.sqrt((0.01 + 3 * 0.01) / 4)]
    np.testing.assert_allclose(standard.nearness(found)[0], expected)


def test_the_standard_error_is_that_of_fresh_images():
    """The difference in nearness between two heads, over 400 draws of as many images."""
    rng = np.random.default_rng(0)

    def images():
        y = np.repeat([0, 1], 300)
        group = 2 * y + (rng.random(600) < 0.2)
        soft = np.array([rng.random(600) ** (1 + (group == 1)), rng.random(600)])
        return soft, Evidence(y, {"a": group}, len(y))

    standard = Standard(np.array([0.6, 0.6]), np.array([1.0, 2.0]))
    differences = [np.diff(standard.nearness(over_groups(*images()))[0])[0] for _ in range(400)]
    stated = [standard.error(*images(), seed) for seed in range(10)]
    assert np.mean(stated) == pytest.approx(np.std(differences), rel=0.2)


def answers(y, right):
    """Logits that are right about the first images only."""
    return np.eye(2)[np.where(np.arange(len(y)) < right, y, 1 - y)]


SHARES = [(320, 160, True), (337, 160, True), (350, 160, False), (400, 199, True), (400, 190, False), (0, 0, True)]
"""Training images of 400 right, validation images of 200, and whether the first count. Shares of .875 and .8 are 2.3
errors apart, .8425 and .8 1.2; 1 and .995 one, 1 and .95 3.5."""


@pytest.mark.parametrize(("inside", "outside", "counts"), SHARES)
def test_training_images_count_unless_plain_erm_is_surely_better_on_them(make_shortcut, inside, outside, counts):
    seen = Seen.of(make_shortcut(600))
    y, held_out = seen.train.y, seen.held_out_y
    parts = {"a": Inferred(2 * y, 2 * held_out)}
    train, validation = answers(y, inside), answers(held_out, outside)
    found = Evidence.of(seen, parts, validation, train)
    expected = np.append(held_out, y) if counts else held_out
    np.testing.assert_array_equal(found.y, expected)
    np.testing.assert_array_equal(found.inferred["a"], 2 * expected)
    assert list(found.partitions) == ["superclasses", "a"]
    np.testing.assert_array_equal(
        found.logits(validation, train), np.vstack([validation, train]) if counts else validation
    )
    assert found.told.startswith("200 validation images")
    assert found.told.endswith(
        "400 training images, each left out" if counts else "which the encoder knows better, do not count"
    )


def test_of_images_that_were_set_aside_all_count_and_no_others(make_shortcut):
    seen = Seen.of(make_shortcut(600))
    kept = np.arange(len(seen.embeddings)) % 5 == 0
    aside = replace(seen, embeddings=replace(seen.embeddings, unseen=kept))
    rows = np.flatnonzero(kept[aside.embeddings.in_split("train")])
    train = answers(seen.train.y, 400)
    found = Evidence.of(aside, {}, answers(seen.held_out_y, 100), train)
    np.testing.assert_array_equal(found.y, np.append(seen.held_out_y, seen.train.y[rows]))
    np.testing.assert_array_equal(found.logits(train[:200], train)[200:], train[rows])
    none = replace(seen, embeddings=replace(seen.embeddings, unseen=np.zeros(len(seen.embeddings), dtype=bool)))
    alone = Evidence.of(none, {}, answers(seen.held_out_y, 100), answers(seen.train.y, 200))
    np.testing.assert_array_equal(alone.y, seen.held_out_y)


def test_soft_accuracy_knows_neither_the_scale_of_logits_nor_what_all_share():
    rng = np.random.default_rng(0)
    logits, y = rng.normal(size=(50, 3)), rng.integers(0, 3, 50)
    soft = soft_accuracy(logits, y)
    np.testing.assert_allclose(soft_accuracy(7 * logits + 3, y), soft)
    np.testing.assert_array_equal(soft > 0.5, logits.argmax(axis=1) == y)
