"""The portfolio and its rule: what it picks, what it never sees, and that whatever steps aside stops nothing else."""

from dataclasses import replace

import numpy as np
import pytest

from thanos.errors import DataError
from thanos.robust import portfolio as room
from thanos.robust.head import Head
from thanos.robust.infer import Seen
from thanos.robust.portfolio import INFERRED, YOURS, Candidate, choose, fit_portfolio, over_groups, soft_accuracy


def along(dimension, dim=6):
    """A head that looks at one dimension."""
    weight = np.zeros((2, dim))
    weight[:, dimension] = (-1, 1)
    return Head(weight, np.zeros(2), np.zeros(dim), np.ones(dim))


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
    assert len({each.candidate.name for each in found.scored}) == len(found.scored)
    assert {each.candidate.method for each in found.scored} == {"mean", *room.WITHOUT, *room.WITH}
    best = sorted((each for each in found.scored if each.candidate.method != "mean"), key=lambda each: -each.score)
    assert found.chosen.settings["of"] == [each.candidate.name for each in best[: room.TOP]]


def test_groups_of_a_person_are_what_the_rule_looks_at(make_shortcut):
    data = make_shortcut(900)
    found = fit_portfolio(data, known=data.group, for_these=True)
    assert "of 1 over superclasses, your groups (half the worst group, half the mean), plain" in found.reason
    assert found.rule == YOURS
    assert {each.candidate.inferrer for each in found.scored} == {"", *room.INFERRERS}  # candidates are the same
    right = {id(each.candidate): each.score for each in found.scored}
    seen = Seen.of(data, 0, data.group)
    group = data.group[data.in_split("validation")]
    for each in found.scored[:9]:
        soft = soft_accuracy(each.candidate.head.of_standardised(seen.held_out), seen.held_out_y)
        both = {"superclasses": seen.held_out_y, "groups": group}
        assert right[id(each.candidate)] == pytest.approx(slow_score(soft, seen.held_out_y, both, range(len(soft))))


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
    assert {each.candidate.inferrer for each in found.scored} == {"", *room.INFERRERS} - {"twins"}
    for name in room.INFERRERS:
        monkeypatch.setitem(room.INFERRERS, name, none)
    found = fit_portfolio(data)
    assert set(found.aside) == set(room.INFERRERS)
    assert "of 1 over superclasses (half the worst group, half the mean), plain" in found.reason
    assert found.rule == INFERRED


def eight(make_shortcut):
    """Eight validation images: dimension 0 is wrong for the fourth and the last, dimension 1 for none."""
    x = np.zeros((8, 6))
    x[:, 0] = [-1, -1, -1, 1, 1, 1, 1, -1]
    x[:, 1] = [-1, -1, -1, -1, 1, 1, 1, 1]
    return replace(Seen.of(make_shortcut(600)), held_out=x, held_out_y=np.repeat([0, 1], 4))


def slow_score(soft, y, partitions, rows):
    """The rule's score, group by group over the given rows."""
    found = []
    for group in partitions.values():
        each = []
        for one in np.unique(group):
            of_class = np.mean([soft[i] for i in rows if y[i] == y[group == one][0]])
            mine = [soft[i] for i in rows if group[i] == one]
            each.append((sum(mine) + room.PULL * of_class) / (len(mine) + room.PULL))
        found.append(room.WORST * min(each) + (1 - room.WORST) * np.mean(each))
    return np.mean(found)


def test_scores_by_hand(make_shortcut):
    """Two partitions; the plain head reads dimension 0, the other one dimension 1; the pick is the mean of both."""
    every = (Candidate("", "erm", {"strength": 0.1}, along(0)), Candidate("a", "reweight", {}, along(1)))
    partitions = {"a": np.array([0, 0, 0, 1, 2, 2, 2, 3]), "b": np.array([0, 0, 1, 1, 2, 2, 3, 3])}
    chosen, plain, reason, scored = choose(every, eight(make_shortcut), partitions)
    right, wrong = 1 / (1 + np.exp(-room.SHARPNESS)), 1 / (1 + np.exp(room.SHARPNESS))
    by_class = (3 * right + wrong) / 4
    alone, three = ((n * of + 5 * by_class) / (n + 5) for n, of in ((1, wrong), (3, right)))
    first = {"a": partitions["a"]}
    of_first = (alone + (alone + three) / 2) / 2  # half of the worst group, half of the mean
    assert choose(every, eight(make_shortcut), first)[3][1].score == pytest.approx((by_class + of_first) / 2)
    y = np.repeat([0, 1], 4)
    looked_at = {"superclasses": y, **partitions}
    margins = (np.array([1, 1, 1, -1, 1, 1, 1, -1]), np.ones(8), np.array([1, 1, 1, 0, 1, 1, 1, 0]) / np.sqrt(0.75))
    softs = [1 / (1 + np.exp(-room.SHARPNESS * each)) for each in margins]  # of the mean: 0 where the two disagree
    for i, soft in ((1, softs[0]), (2, softs[1]), (0, softs[2])):
        assert scored[i].score == pytest.approx(slow_score(soft, y, looked_at, range(8)))
    assert [each.accuracy for each in scored[1:]] == [0.75, 1.0]
    assert [each.worst for each in scored[1:]] == [0.0, 1.0]
    assert plain is every[0]
    assert chosen is scored[0].candidate
    assert "the mean of a reweight, erm scores" in reason


def test_scores_of_resamples_are_those_of_the_images_repeated():
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], 20)
    soft = rng.random((3, 60))
    partitions = {"a": y * 3 + rng.integers(0, 3, 60), "b": y * 2 + rng.integers(0, 2, 60)}
    times = rng.multinomial(60, np.full(60, 1 / 60), 4)
    found = over_groups(soft, y, partitions, times.astype(float))
    for sample in range(4):
        rows = np.repeat(np.arange(60), times[sample])
        expected = [slow_score(each, y, partitions, rows) for each in soft]
        np.testing.assert_allclose(found[sample], expected)


def test_a_name_without_settings_counts_the_heads_of_a_mean():
    head = along(0)
    one = Candidate("early", "groupdro", {"strength": 0.1, "adjustment": 2.0}, head)
    assert (one.name, one.short) == ("early groupdro (strength 0.1, adjustment 2)", "early groupdro")
    mean = Candidate("", "mean", {"of": [one.name, "early groupdro (strength 0.01, adjustment 2)", "afr"]}, head)
    assert mean.short == "the mean of 2 of early groupdro, afr"


def test_the_mean_is_of_heads_in_units_of_their_own_margin(make_shortcut):
    seen = eight(make_shortcut)
    long = replace(along(1), weight=100 * along(1).weight, bias=np.array([3.0, 5.0]))
    every = (Candidate("", "erm", {"strength": 0.1}, along(0)), Candidate("a", "reweight", {}, long))
    mean = choose(every, seen, {"a": seen.held_out_y})[3][0].candidate.head
    unit = np.array([2.0, np.sqrt(np.mean((200 + np.repeat([-2, 2], 4)) ** 2.0))])
    np.testing.assert_allclose(mean.weight, (along(0).weight / unit[0] + long.weight / unit[1]) / 2)
    np.testing.assert_allclose(mean.bias, long.bias / unit[1] / 2)


def test_within_the_noise_erm_is_kept(make_shortcut):
    """Another head is a shade better on one image and no worse on the others."""
    seen, other = eight(make_shortcut), along(0)
    other = replace(other, bias=np.array([0.0, 1e-3]))
    every = (Candidate("", "erm", {"strength": 0.1}, along(0)), Candidate("a", "reweight", {}, other))
    partitions = {"a": np.array([0, 0, 0, 1, 2, 2, 2, 3])}
    chosen, plain, reason, scored = choose(every, seen, partitions)
    assert len({round(each.score, 3) for each in scored}) == 1
    assert chosen is plain is every[0]
    assert reason.startswith("plain ERM is as good")


def test_soft_accuracy_knows_neither_the_scale_of_logits_nor_what_all_share():
    rng = np.random.default_rng(0)
    logits, y = rng.normal(size=(50, 3)), rng.integers(0, 3, 50)
    soft = soft_accuracy(logits, y)
    np.testing.assert_allclose(soft_accuracy(7 * logits + 3, y), soft)
    np.testing.assert_array_equal(soft > 0.5, logits.argmax(axis=1) == y)


def test_what_is_missing_is_said(make_shortcut):
    data = make_shortcut(600)
    with pytest.raises(DataError, match="Name some of each"):
        fit_portfolio(data.take(np.flatnonzero(data.split == 0)))
    with pytest.raises(DataError, match="one only"):
        fit_portfolio(data.take(np.flatnonzero((data.superclass == 0) | (data.split == 1))))
