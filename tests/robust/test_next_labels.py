"""What to label next: the rise that is stated is the slope that leaving out shows, and comes true on built sets."""

import math
from dataclasses import replace

import numpy as np
import pytest

from thanos.embeddings import Embeddings
from thanos.report.summary import advice_line, by_heart, failed, worst
from thanos.robust.next_labels import DRAWS, KEPT, Advice, Expected, advise, expected_gain, extrapolated
from thanos.robust.plain import plain_errors
from thanos.subclasses.fitted import Discovered


def islands(rare, n=400, dim=30, seed=0):
    """Two superclasses; of the first a part lies on an island among the second, ``rare`` of it in training."""
    rng = np.random.default_rng(seed)
    sizes = {"a": (n, n), "island": (rare, 150), "b": (n, n)}
    parts, superclass, subclass, split = [], [], [], []
    centres = {"a": np.zeros(dim), "island": np.zeros(dim), "b": np.zeros(dim)}
    centres["a"][0], centres["b"][0], centres["island"][0] = -3, 3, 2.5
    centres["island"][1:] = rng.normal(size=dim - 1) * 0.35
    for number, (name, (train, test)) in enumerate(sizes.items()):
        parts.append(centres[name] + rng.normal(size=(train + test, dim)))
        superclass += [int(name == "b")] * (train + test)
        subclass += [number] * (train + test)
        split += [0] * train + [1] * (test // 2) + [2] * (test - test // 2)
    embeddings = Embeddings(
        vectors=np.concatenate(parts).astype(np.float32),
        superclass=np.array(superclass),
        superclass_names=("a", "b"),
        split=np.array(split, dtype=np.int8),
    )
    return embeddings, np.array(subclass)


def found_of(embeddings, cluster):
    n = len(embeddings)
    return Discovered(cluster, ("a/0", "a/1", "b/0"), np.zeros(n), np.ones(n), {})


def test_a_curve_of_its_form_is_found_as_it_is():
    """Log-odds straight by the log of the number: at 40 images and at 70, so many held out that smoothing is none."""

    def accuracy(m):
        return 1 / (1 + (m / 25.0) ** -1.3)

    right = np.tile(accuracy(40 * np.array(KEPT))[None, :, None], (DRAWS, 1, 100_000))
    assert extrapolated(right, 40, 30).gain == pytest.approx(accuracy(70.0) - accuracy(40.0), abs=1e-4)


def test_the_interval_is_that_of_other_images_and_draws():
    """Against the spread of the rise over held-out images drawn anew."""
    rng = np.random.default_rng(0)
    hard = rng.normal(size=4000)

    def drawn():
        images = rng.choice(hard, 80)
        noise = rng.normal(size=(DRAWS, len(KEPT), 80)) * 0.3
        return extrapolated((images + noise < 1 + 0.8 * np.log2(KEPT)[:, None]).astype(float), 100, 50)

    rises = [drawn() for _ in range(300)]
    middle = np.mean([one.gain for one in rises])
    assert np.mean([one.interval[0] < middle < one.interval[1] for one in rises]) > 0.9


def test_where_nothing_changes_the_interval_still_is_none_of_nothing():
    """No change among 20 held-out images does not say that there is none among all."""
    low, high = extrapolated(np.ones((DRAWS, len(KEPT), 20)), 50, 50).interval
    assert low < -0.01
    assert high > 0.01


def test_rare_and_hard_is_where_labels_help():
    embeddings, cluster = islands(rare=40)
    helped = expected_gain(embeddings, cluster == 1, 40)
    plenty = expected_gain(embeddings, cluster == 0, 40)
    assert helped.interval[0] > 0.01
    assert abs(plenty.gain) < 0.01
    assert (helped.labelled, helped.more) == (40, 40)


def test_what_is_stated_comes_true_on_a_built_set():
    """Mean over draws of the set: the same images with twice as many of the island in training."""
    stated, true = [], []
    for seed in range(6):
        embeddings, cluster = islands(rare=96, seed=seed)
        rows = np.flatnonzero((cluster == 1) & embeddings.in_split("train"))
        half = np.setdiff1d(np.arange(len(cluster)), rows[48:])
        stated.append(expected_gain(embeddings.take(half), cluster[half] == 1, 48, seed).gain)
        right = []
        for few in (embeddings.take(half), embeddings):
            errors, mine = plain_errors(few), cluster[half] if len(few) < len(cluster) else cluster
            right.append(1 - errors.share(np.flatnonzero(mine == 1))[0])
        true.append(right[1] - right[0])
    assert np.mean(true) > 0.02
    assert np.mean(stated) == pytest.approx(np.mean(true), abs=0.04)


def test_true_groups_and_subclasses_play_no_part():
    embeddings, cluster = islands(rare=40)
    told = replace(
        embeddings, subclass=cluster, subclass_names=("x", "y", "z"), group=cluster, group_names=("x", "y", "z")
    )
    assert expected_gain(told, cluster == 1, 40) == expected_gain(embeddings, cluster == 1, 40)


def test_what_is_advised():
    embeddings, cluster = islands(rare=40)
    found, errors = found_of(embeddings, cluster), plain_errors(embeddings)
    advice = advise(embeddings, found, errors)
    assert (advice.what, advice.subclass, advice.gain.more) == ("label", "a/1", 40)
    few, mine = islands(rare=8)
    assert advise(few, found_of(few, mine), plain_errors(few)).what == "photograph"
    assert advise(embeddings, found, None) is None
    two = np.flatnonzero(errors.wrong & errors.held_out & (cluster == 1))[:2]  # that both of two are wrong says little
    odd = found_of(embeddings, np.where(np.isin(np.arange(len(cluster)), two), 3, cluster))
    odd = replace(odd, names=(*odd.names, "a/2"))
    assert errors.accuracies(odd)[odd.names[3]] == {"accuracy": 0.0, "n": 2}
    assert advise(embeddings, odd, errors).subclass == "a/1" == worst(odd, errors)["name"]
    rng = np.random.default_rng(0)
    alike = found_of(
        embeddings, 2 * embeddings.superclass + (embeddings.superclass == 0) * rng.integers(0, 2, len(cluster))
    )
    easy = embeddings.take(cluster != 1)
    alike = found_of(easy, alike.cluster[cluster != 1])
    assert advise(easy, alike, plain_errors(easy)).what == "nothing"


def test_superclasses_that_fail_are_named():
    embeddings, cluster = islands(rare=40)
    errors = plain_errors(embeddings)
    assert failed(embeddings, errors) == failed(embeddings, None) == []
    wrong = replace(errors, wrong=errors.wrong | ((embeddings.superclass == 1) & (np.arange(len(cluster)) % 3 > 0)))
    mine = (embeddings.superclass == 1) & errors.held_out
    assert failed(embeddings, wrong) == [{"name": "b", "share": wrong.wrong[mine].mean(), "n": mine.sum()}]


def test_subclasses_of_training_images_are_named():
    """By the hypergeometric tail, summed by hand, and their share; random cuts seldom, large lopsided ones never."""
    embeddings, cluster = islands(rare=100)
    train = embeddings.in_split("train")
    mine = np.flatnonzero(cluster == 0)
    learned = np.concatenate([mine[train[mine]][:30], mine[~train[mine]][:2]])
    odd = found_of(embeddings, np.where(np.isin(np.arange(len(cluster)), learned), 3, cluster))
    odd = replace(odd, names=(*odd.names, "a/2"))
    a = embeddings.superclass == 0
    n, k, size = int(a.sum()), int(train[a].sum()), len(learned)
    tail = sum(math.comb(k, i) * math.comb(n - k, size - i) for i in range(30, size + 1)) / math.comb(n, size)
    assert tail < 0.01 / 4
    assert by_heart(embeddings, odd).startswith(
        f"a/2 (30 of 32; of its superclass {k / n:.0%}): nearly all are training"
    )
    rng, said = np.random.default_rng(0), 0
    for _ in range(200):
        cut = np.where(a, rng.choice([0, 1, 3], len(a), p=[0.5, 0.45, 0.05]), 2)
        said += by_heart(embeddings, replace(odd, cluster=cut)) != ""
    assert said <= 6
    lopsided = np.where(a & train & (rng.random(len(a)) < 0.3), 3, np.where(a, 0, 2))
    lopsided[np.flatnonzero(a & ~train)[:60]] = 3  # of training images for the most part, beside many others
    assert by_heart(embeddings, replace(odd, cluster=lopsided)) == ""


def test_the_line_says_what_it_is():
    gain = Expected(50, 120, 0.031, (-0.004, 0.066))
    line = advice_line(Advice("label", "animals/3", 0.61, 88, gain))
    assert "label 50 more of animals/3" in line
    assert "+3.1 points (95% -0.4 to +6.6)" in line
    assert "may be nothing" in line
    assert advice_line(Advice("photograph", "x", 0.5, 4, None)).startswith("photograph more of x")
    assert advice_line(Advice("nothing", "x", 0.9, 40, None)).startswith("nothing here")
    assert advice_line(None) == ""
