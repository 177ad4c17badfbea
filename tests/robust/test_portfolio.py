"""The portfolio and its rule: what it picks, what it never sees, and that whatever steps aside stops nothing else."""

from dataclasses import replace

import numpy as np
import pytest

from thanos.errors import DataError
from thanos.robust import portfolio as room
from thanos.robust.head import Head
from thanos.robust.infer import Inferred, Seen
from thanos.robust.portfolio import INFERRED, YOURS, Candidate, choose, fit_portfolio
from thanos.robust.rule import SERVED, SHARPNESS, WORST, soft_accuracy


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
    np.testing.assert_allclose([each.score for each in found.scored[:9]], expected[:9])


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
    """Of one head: half the worst group, half the mean over groups."""
    each = [np.mean([s for s, g in zip(soft, group, strict=True) if g == one]) for one in np.unique(group)]
    return WORST * min(each) + (1 - WORST) * np.mean(each), min(each)


def slow_scores(soft, y, partitions, plain):
    """The rule's scores; of ``soft`` the first head, the mean of the best, is no standard for the others."""
    chance, total, weight = 1 / len(np.unique(y)), np.zeros(len(soft)), 0.0
    for name, group in partitions.items():
        served, worst = np.array([slow_over_groups(each, group) for each in soft]).T
        counts = 1.0
        if name != "superclasses":
            above = max((worst[1:].max() - chance) / (1 - chance), 0)
            counts = (1 + SERVED * above) * (worst[1:].max() - worst[1 + plain])
        weight += counts
        total += counts * np.maximum(served[1:].max() - served, 0) ** 2
    return 1 - np.sqrt(total / weight)


def test_scores_by_hand(make_shortcut):
    """Two partitions; the plain head reads dimension 0, the other one dimension 1; the pick is the mean of both."""
    every = (candidate("", "erm", {"strength": 0.1}, along(0)), candidate("a", "reweight", {}, along(1)))
    seen = eight(make_shortcut)
    groups = {"a": [0, 0, 0, 1, 2, 2, 2, 3], "b": [0, 0, 1, 1, 2, 2, 3, 3]}
    chosen, plain, reason, scored = choose(every, seen, of_eight(seen, **groups))
    right, wrong = 1 / (1 + np.exp(-SHARPNESS)), 1 / (1 + np.exp(SHARPNESS))
    lacks = {  # of plain ERM to the other head: half the worst group, half the mean
        "superclasses": (right - wrong) / 4,
        "a": (right - wrong) * (0.5 + 0.25),
        "b": (right - wrong) * (0.25 + 0.125),
    }
    served = 1 + SERVED * 2 * (right - 0.5)  # the other head brings the worst group as far above a half
    weight = {"superclasses": 1, "a": served * (right - wrong), "b": served * (right - wrong) / 2}
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
    assert plain is every[0]
    assert chosen is scored[0].candidate
    assert "the mean of a reweight, erm scores" in reason


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
    mean = choose(every, seen, of_eight(seen, a=seen.held_out_y))[3][0].candidate.head
    unit = np.array([2.0, np.sqrt(np.mean((200 + np.repeat([-2, 2], 4)) ** 2.0))])
    np.testing.assert_allclose(mean.weight, (along(0).weight / unit[0] + long.weight / unit[1]) / 2)
    np.testing.assert_allclose(mean.bias, long.bias / unit[1] / 2)


def test_within_the_noise_erm_is_kept(make_shortcut):
    """Another head is a shade better on one image and no worse on the others."""
    seen, other = eight(make_shortcut), along(0)
    other = replace(other, bias=np.array([0.0, 1e-3]))
    every = (candidate("", "erm", {"strength": 0.1}, along(0)), candidate("a", "reweight", {}, other))
    chosen, plain, reason, scored = choose(every, seen, of_eight(seen, a=[0, 0, 0, 1, 2, 2, 2, 3]))
    assert len({round(each.score, 3) for each in scored}) == 1
    assert chosen is plain is every[0]
    assert reason.startswith("plain ERM is as good")


def test_what_is_missing_is_said(make_shortcut):
    data = make_shortcut(600)
    with pytest.raises(DataError, match="Name some of each"):
        fit_portfolio(data.take(np.flatnonzero(data.split == 0)))
    with pytest.raises(DataError, match="one only"):
        fit_portfolio(data.take(np.flatnonzero((data.superclass == 0) | (data.split == 1))))
