"""What the portfolio's rule compares heads by, against loops and by hand; and which images are evidence."""

from dataclasses import replace

import numpy as np
import pytest

from thanos.robust.infer import Inferred, Seen
from thanos.robust.rule import SERVED, WORST, Evidence, Standard, over_groups, soft_accuracy


def test_groups_that_no_head_serves_at_once_count_little():
    """Wrong labels: what is right about them is wrong about the images that they are taken for."""
    y = np.repeat([0, 1], 50)
    plain, other = np.ones(100), np.ones(100)
    plain[:5], other[:5], other[50:95] = 0, 1, 0  # five images, and most of the other superclass
    group = np.where(np.arange(100) < 5, 0, 1 + y)
    served = np.ones(100)
    evidence = Evidence(y, {"superclasses": y, "a": group}, len(y))

    def weight(*heads):
        return Standard.of(np.array(heads), evidence, 0).weight

    np.testing.assert_allclose(weight(plain, other), [1, 0.1])  # 45 of 50 are wrong about one group or the other
    np.testing.assert_allclose(weight(plain, served), [1, 1 + SERVED])
    assert weight(served, other)[1] == 0  # plain ERM is best there


def test_scores_of_resamples_are_those_of_the_images_repeated():
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], 20)
    soft = rng.random((3, 60))
    partitions = {"a": y * 3 + rng.integers(0, 3, 60), "b": y * 2 + rng.integers(0, 2, 60)}
    times = rng.multinomial(60, np.full(60, 1 / 60), 4)
    times[0, partitions["a"] == 4] = 0  # a group without an image: its superclass stands in
    found = over_groups(soft, Evidence(y, partitions, len(y)), times.astype(float))
    assert found.shape == (4, 2, 3)
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
        return soft, Evidence(y, {"superclasses": y, "a": group}, len(y))

    standard = Standard(np.array([0.6, 0.6]), np.array([1.0, 2.0]))
    differences = [np.diff(standard.nearness(over_groups(*images()))[0])[0] for _ in range(400)]
    stated = [standard.error(*images(), seed) for seed in range(10)]
    assert np.mean(stated) == pytest.approx(np.std(differences), rel=0.2)


def test_training_images_count_unless_the_encoder_has_seen_their_labels(make_shortcut):
    seen = Seen.of(make_shortcut(600))
    y, held_out = seen.train.y, seen.held_out_y
    parts = {"a": Inferred(2 * y, 2 * held_out)}
    sure, rng = np.eye(2)[y], np.random.default_rng(0)
    outside = np.eye(2)[np.where(np.arange(len(held_out)) % 5 == 0, 1 - held_out, held_out)]  # four of five are right
    alike = np.where(rng.random(len(y))[:, None] < 0.8, sure, 1 - sure)
    honest = Evidence.of(seen, parts, outside, alike)
    np.testing.assert_array_equal(honest.y, np.append(held_out, y))
    np.testing.assert_array_equal(honest.partitions["a"], 2 * np.append(held_out, y))
    assert list(honest.partitions) == ["superclasses", "a"]
    assert honest.told == "200 validation images and 400 training images, each left out"
    flattered = Evidence.of(seen, parts, outside, sure)
    np.testing.assert_array_equal(flattered.y, held_out)
    np.testing.assert_array_equal(flattered.logits(outside, sure), outside)
    assert flattered.told == "200 validation images; training images are none, as their labels were seen by the encoder"
    kept = np.arange(len(seen.embeddings)) % 5 == 0
    aside = replace(seen, embeddings=replace(seen.embeddings, unseen=kept))
    rows = np.flatnonzero(kept[aside.embeddings.in_split("train")])
    part = Evidence.of(aside, parts, outside, alike)
    np.testing.assert_array_equal(part.y, np.append(held_out, y[rows]))
    np.testing.assert_array_equal(part.logits(outside, alike)[len(held_out) :], alike[rows])


def test_soft_accuracy_knows_neither_the_scale_of_logits_nor_what_all_share():
    rng = np.random.default_rng(0)
    logits, y = rng.normal(size=(50, 3)), rng.integers(0, 3, 50)
    soft = soft_accuracy(logits, y)
    np.testing.assert_allclose(soft_accuracy(7 * logits + 3, y), soft)
    np.testing.assert_array_equal(soft > 0.5, logits.argmax(axis=1) == y)
