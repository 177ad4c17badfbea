"""The portfolio and its rule: what it picks, what it never sees, and that whatever steps aside stops nothing else."""

import re
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from thanos.embeddings import Embeddings
from thanos.errors import DataError
from thanos.robust import methods
from thanos.robust import portfolio as room
from thanos.robust.head import Head
from thanos.robust.infer import Inferred, Seen
from thanos.robust.portfolio import INFERRED, YOURS, Candidate, choose, fit_portfolio
from thanos.robust.rule import SERVED, SHARPNESS, SURE, WORST, soft_accuracy


def along(dimension, dim=6):
    """A head that looks at one dimension."""
    weight = np.zeros((2, dim))
    weight[:, dimension] = (-1, 1)
    return Head(weight, np.zeros(2), np.zeros(dim), np.ones(dim))


def candidate(inferrer, method, settings, head):
    """One beside the 400 training images of :func:`eight`."""
    return Candidate(inferrer, method, settings, head, np.zeros((400, 2)))


def test_true_groups_are_never_seen(make_shortcut):
    honest = make_shortcut(600)
    rng = np.random.default_rng(1)
    lied = replace(honest, group=rng.permutation(honest.group), subclass=rng.permutation(honest.subclass))
    first, second = fit_portfolio(honest, 3), fit_portfolio(lied, 3)
    assert first.reason == second.reason
    assert [each.score for each in first.scored] == [each.score for each in second.scored]
    np.testing.assert_array_equal(first.chosen.head.weight, second.chosen.head.weight)


def test_a_shortcut_is_seen_through_and_every_candidate_is_told(make_shortcut):
    data, fresh = make_shortcut(1500), make_shortcut(3000, seed=9)
    found = fit_portfolio(data)
    plain = max((each for each in found.scored if each.candidate.method == "erm"), key=lambda each: each.accuracy)

    def worst(head):
        right = head.predict(fresh.vectors) == fresh.superclass
        return min(right[fresh.group == group].mean() for group in range(4))

    assert worst(found.chosen.head) > worst(plain.candidate.head) + 0.2
    assert found.chosen.short in found.reason
    assert found.reason.endswith("on 500 validation images and 1,000 training images, each left out.")
    assert len({each.candidate.name for each in found.scored}) == len(found.scored)
    assert {each.candidate.method for each in found.scored} == {"mean", *room.WITHOUT, *room.WITH}
    best = sorted((each for each in found.scored if each.candidate.method != "mean"), key=lambda each: -each.score)
    assert found.chosen.settings["of"] == [each.candidate.name for each in best[: room.TOP]]


def test_where_the_encoder_has_seen_all_training_images_nothing_is_left_out(make_shortcut, monkeypatch):
    data = make_shortcut(600)
    whole = fit_portfolio(data)
    for name in ("left_out_logits", "left_out_of_draw"):
        monkeypatch.setattr(methods, name, lambda *of, **how: pytest.fail("it was asked for"))
    found = fit_portfolio(replace(data, unseen=np.zeros(600, dtype=bool)))
    assert found.reason.endswith(
        "on 200 validation images; training images, which the encoder knows better, do not count."
    )
    assert all(len(each.candidate.left_out) == 0 for each in found.scored)
    assert [each.candidate.name for each in found.scored[1:]] == [each.candidate.name for each in whole.scored[1:]]
    assert [each.accuracy for each in found.scored[1:]] == [each.accuracy for each in whole.scored[1:]]


def test_groups_of_a_person_are_what_the_rule_looks_at(make_shortcut):
    data = make_shortcut(900)
    found = fit_portfolio(data, known=data.group, for_these=True)
    assert "of 1 over superclasses, your groups (1: best over each of them), plain" in found.reason
    assert found.rule == YOURS
    assert {each.candidate.inferrer for each in found.scored} == {"", *room.INFERRERS} - {
        room.WITNESS
    }  # candidates are the same
    seen = Seen.of(data, 0, data.group)
    y, group = (
        np.concatenate([of[data.in_split(split)] for split in ("validation", "train")])
        for of in (data.superclass, data.group)
    )
    every = [each.candidate for each in found.scored]
    soft = np.array([
        soft_accuracy(np.concatenate([each.head.of_standardised(seen.held_out), each.left_out]), y) for each in every
    ])  # fmt: skip
    plain = every.index(found.plain) - 1
    expected = slow_scores(soft, y, {"superclasses": y, "groups": group}, plain)
    np.testing.assert_allclose([each.score for each in found.scored], expected, atol=1e-6)


def test_without_a_shortcut_nothing_is_lost_against_plain_erm(make_shortcut):
    rng = np.random.default_rng(0)
    data = make_shortcut(900)
    vectors = rng.normal(size=data.vectors.shape) * 0.5
    vectors[:, 1] += 0.9 * (2 * data.superclass - 1)
    found = fit_portfolio(replace(data, vectors=vectors.astype(np.float32)))
    y = rng.integers(0, 2, 4000)
    fresh = rng.normal(size=(4000, 6)) * 0.5
    fresh[:, 1] += 0.9 * (2 * y - 1)
    chosen, plain = ((each.head.predict(fresh) == y).mean() for each in (found.chosen, found.plain))
    assert chosen > plain - 0.01


def test_what_steps_aside_stops_nothing_else(make_shortcut, monkeypatch):
    def none(seen):
        raise DataError("it finds one group in each superclass.")

    data = make_shortcut(600)
    monkeypatch.setitem(room.INFERRERS, "twins", none)
    found = fit_portfolio(data)
    assert found.aside == {"twins": "it finds one group in each superclass."}
    assert {each.candidate.inferrer for each in found.scored} == {"", *room.INFERRERS} - {"twins", room.WITNESS}
    for name in room.INFERRERS:
        monkeypatch.setitem(room.INFERRERS, name, none)
    found = fit_portfolio(data)
    assert set(found.aside) == set(room.INFERRERS)
    assert "of 1 over superclasses (1: best over each of them), plain" in found.reason
    assert found.rule == INFERRED


def eight(make_shortcut):
    """Eight validation images: dimension 0 is wrong for the fourth and the last, dimension 1 for none. No others."""
    x = np.zeros((8, 6))
    x[:, 0] = [-1, -1, -1, 1, 1, 1, 1, -1]
    x[:, 1] = [-1, -1, -1, -1, 1, 1, 1, 1]
    seen = Seen.of(make_shortcut(600))
    embeddings = replace(seen.embeddings, unseen=np.zeros(len(seen.embeddings), dtype=bool))
    return replace(seen, embeddings=embeddings, held_out=x, held_out_y=np.repeat([0, 1], 4))


def of_eight(seen, **groups):
    """Partitions of the eight, of which no training image counts."""
    return {name: Inferred(np.zeros_like(seen.train.y), np.array(of)) for name, of in groups.items()}


def slow_over_groups(soft, group):
    """Of one head: half the worst group and half the mean over groups; the worst; and what is sure of it."""
    of = [[s for s, g in zip(soft, group, strict=True) if g == one] for one in np.unique(group)]
    each, sure = [np.mean(mine) for mine in of], [np.mean(mine) - SURE * 0.5 / len(mine) ** 0.5 for mine in of]
    return WORST * min(each) + (1 - WORST) * np.mean(each), min(each), min(sure)


def slow_scores(soft, y, partitions, plain):
    """The rule's scores; of ``soft`` the first head, the mean of the best, is no standard for the others."""
    chance, total, weight = 1 / len(np.unique(y)), np.zeros(len(soft)), 0.0
    for name, group in partitions.items():
        served, worst, _ = np.array([slow_over_groups(each, group) for each in soft]).T
        counts = 1.0
        if name != "superclasses":
            surely = [slow_over_groups(each, group)[2] for each in soft[1:]]
            above = max((max(surely) - chance) / (1 - chance), 0)
            counts = (1 + SERVED * above) * (worst[1:].max() - worst[1 + plain])
        weight += counts
        total += counts * np.maximum(served[1:].max() - served, 0) ** 2
    return 1 - np.sqrt(total / weight)


def test_scores_by_hand(make_shortcut):
    """Two partitions; the plain head reads dimension 0, the other one dimension 1; the pick is the mean of both."""
    every = (candidate("", "erm", {"strength": 0.1}, along(0)), candidate("a", "reweight", {}, along(1)))
    seen = eight(make_shortcut)
    groups = {"a": [0, 0, 0, 1, 2, 2, 2, 3], "b": [0, 0, 1, 1, 2, 2, 3, 3]}
    choice = choose(every, seen, of_eight(seen, **groups))
    scored = choice.scored
    right, wrong = 1 / (1 + np.exp(-SHARPNESS)), 1 / (1 + np.exp(SHARPNESS))
    lacks = {  # of plain ERM to the other head: half the worst group, half the mean
        "superclasses": (right - wrong) / 4,
        "a": (right - wrong) * (0.5 + 0.25),
        "b": (right - wrong) * (0.25 + 0.125),
    }
    weight = {"superclasses": 1, "a": right - wrong, "b": (right - wrong) / 2}  # of so few images none is sure
    by_hand = 1 - np.sqrt(sum(weight[p] * lacks[p] ** 2 for p in lacks) / sum(weight.values()))
    assert scored[1].score == pytest.approx(by_hand)
    assert scored[2].score == 1
    y = np.repeat([0, 1], 4)
    margins = (np.array([1, 1, 1, 0, 1, 1, 1, 0]) / np.sqrt(0.75), np.array([1, 1, 1, -1, 1, 1, 1, -1]), np.ones(8))
    soft = np.array([1 / (1 + np.exp(-SHARPNESS * each)) for each in margins])  # of the mean: 0 where two disagree
    looked_at = {"superclasses": y} | {name: np.array(of) for name, of in groups.items()}
    np.testing.assert_allclose([each.score for each in scored], slow_scores(soft, y, looked_at, 0))
    assert [each.accuracy for each in scored[1:]] == [0.75, 1.0]
    assert [each.worst for each in scored[1:]] == [0.0, 1.0]
    assert choice.plain is every[0]
    assert "the mean of a reweight, erm scores" in choice.reason


def test_a_name_without_settings_counts_the_heads_of_a_mean():
    head = along(0)
    one = candidate("early", "groupdro", {"strength": 0.1, "adjustment": 2.0}, head)
    assert (one.name, one.short) == ("early groupdro (strength 0.1, adjustment 2)", "early groupdro")
    mean = candidate("", "mean", {"of": [one.name, "early groupdro (strength 0.01, adjustment 2)", "afr"]}, head)
    assert mean.short == "the mean of 2 of early groupdro, afr"


def test_the_mean_is_of_heads_in_units_of_their_own_margin(make_shortcut):
    seen = eight(make_shortcut)
    long = replace(along(1), weight=100 * along(1).weight, bias=np.array([3.0, 5.0]))
    every = (candidate("", "erm", {"strength": 0.1}, along(0)), candidate("a", "reweight", {}, long))
    mean = choose(every, seen, of_eight(seen, a=seen.held_out_y)).scored[0].candidate.head
    unit = np.array([2.0, np.sqrt(np.mean((200 + np.repeat([-2, 2], 4)) ** 2.0))])
    np.testing.assert_allclose(mean.weight, (along(0).weight / unit[0] + long.weight / unit[1]) / 2)
    np.testing.assert_allclose(mean.bias, long.bias / unit[1] / 2)


def test_within_the_noise_erm_is_kept(make_shortcut, monkeypatch):
    """Another head is better by so many standard errors: below the threshold it is not taken, above it is."""
    seen = eight(make_shortcut)
    every = (candidate("", "erm", {"strength": 0.1}, along(0)), candidate("a", "reweight", {}, along(1)))
    groups = of_eight(seen, a=[0, 0, 0, 1, 2, 2, 2, 3])
    told = choose(every, seen, groups).reason
    by, error = (float(re.search(rf"{word} \+?([\d.]+)", told)[1]) for word in ("difference", "standard error"))
    for errors, kept in ((by / error - 0.05, False), (by / error + 0.05, True)):
        monkeypatch.setattr(room, "ERRORS", errors)
        choice = choose(every, seen, groups)
        assert choice.plain is every[0]
        assert choice.chosen is (every[0] if kept else choice.scored[0].candidate)
        assert choice.reason.startswith("plain ERM stays") == kept
    shade = replace(along(0), bias=np.array([0.0, 1e-3]))
    alike = (every[0], candidate("a", "reweight", {}, shade))
    monkeypatch.setattr(room, "ERRORS", 2.5)
    assert choose(alike, seen, groups).chosen is every[0]


def test_of_a_person_s_groups_none_is_merged_or_found_anew(make_shortcut):
    """Four training images are a group too; where the groups are the superclasses, these are looked at."""
    data = make_shortcut(600)
    few = data.superclass.copy()
    few[np.flatnonzero((data.split == 0) & (data.superclass == 1))[:4]] = 2
    few[np.flatnonzero((data.split == 1) & (data.superclass == 1))[:2]] = 2
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        real = room.choose
        patch.setattr(room, "choose", lambda every, of, groups: seen.append(groups) or real(every, of, groups))
        for known in (few, data.superclass):
            assert fit_portfolio(data, known=known, for_these=True).rule == YOURS
    train = data.in_split("train")
    for known, groups in zip((few, data.superclass), seen, strict=True):
        assert list(groups) == [YOURS]
        assert adjusted_rand_score(groups[YOURS].train, known[train]) == 1


@pytest.mark.parametrize("images", [150, 450])
def test_on_few_images_without_a_shortcut_erm_is_not_lost(images):
    """Five draws; ERM is near the best there is."""
    lost = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        y = rng.integers(0, 2, images + 3000)
        x = rng.normal(size=(len(y), 6))
        x[:, 0] += 1.9 * (2 * y - 1)
        split = np.repeat([0, 1, 2], [2 * images // 3, images - 2 * images // 3, 3000]).astype(np.int8)
        found = fit_portfolio(
            Embeddings(vectors=x.astype(np.float32), superclass=y, superclass_names=("a", "b"), split=split)
        )
        test = split == 2
        worst = [
            min((one.head.predict(x[test]) == y[test])[y[test] == kind].mean() for kind in (0, 1))
            for one in (found.plain, found.chosen)
        ]
        lost.append(worst[0] - worst[1])
    assert np.mean(lost) < 0.02


def test_a_superclass_without_training_images_and_one_without_others(make_shortcut):
    """Heads are fitted and chosen, and can be written and read; left out, no image is taken for what is not there."""
    data = make_shortcut(600)
    names = ("a", "b", "not there", "for validation")
    superclass = np.where((data.split == 1) & (np.arange(600) % 50 == 0), 3, data.superclass)
    found = fit_portfolio(replace(data, superclass=superclass, superclass_names=names))
    for one in found.scored:
        assert np.isfinite(one.candidate.head.bias).all()
        assert set(one.candidate.head.predict(data.vectors)) <= {0, 1}
        assert set(one.candidate.left_out.argmax(axis=1)) <= {0, 1}


def test_what_is_missing_is_said(make_shortcut):
    data = make_shortcut(600)
    with pytest.raises(DataError, match="Name some of each"):
        fit_portfolio(data.take(np.flatnonzero(data.split == 0)))
    with pytest.raises(DataError, match="one only"):
        fit_portfolio(data.take(np.flatnonzero((data.superclass == 0) | (data.split == 1))))
