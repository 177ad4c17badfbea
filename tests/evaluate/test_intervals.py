"""Intervals know how many images they rest on: how often they hold the truth, counted exactly or simulated."""

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from thanos.evaluate.intervals import (
    difference_interval,
    lowest_share,
    lowest_share_interval,
    mean_share_interval,
    paired_difference_interval,
    share_interval,
)
from thanos.evaluate.robustness import group_scores

SHARES = (0.5, 0.9, 0.99)
WANTED = 0.93


@pytest.mark.parametrize(("right", "n"), [(0, 1), (1, 1), (3, 3), (7, 9), (45, 50), (0, 400), (9_999, 10_000)])
def test_a_share_s_interval_is_clopper_and_pearson_s(right, n):
    theirs = binomtest(right, n).proportion_ci(method="exact")
    assert share_interval(right / n, n) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


@pytest.mark.parametrize("truth", SHARES)
def test_a_share_s_interval_holds_it(truth):
    """Of every size from 1 to 50: the chance of the samples whose interval does, summed."""
    for n in range(1, 51):
        held = [low <= truth <= high for low, high in (share_interval(k / n, n) for k in range(n + 1))]
        assert binom.pmf(np.flatnonzero(held), n, truth).sum() >= WANTED, n


def test_three_images_that_are_all_right_prove_little():
    scores = group_scores(np.ones(203, dtype=bool), np.repeat([0, 1], [200, 3]), ("many", "few"))
    assert scores.groups["few"].interval == pytest.approx((0.2924, 1.0), abs=1e-4)
    assert scores.worst_group.interval[0] < 0.25
    assert scores.group_mean.interval[0] < 0.75
    assert scores.groups["few"].small
    assert not scores.groups["many"].small


GROUPS = [(1, 1), (3, 3), (1, 50), (5, 40, 300), (10, 10, 10, 10), (2,) * 10, (50,) * 4]


def how_often(truth, around, times, slack=0.0):
    """Intervals hold it, each counted as often as its sample was drawn."""
    return np.average([low - slack <= truth <= high + slack for low, high in around], weights=times)


def drawn(truth: float, sizes: tuple[int, ...], seed: int, count: int = 1500):
    rng = np.random.default_rng(seed)
    return rng.binomial(sizes, truth, (count, len(sizes))) / np.array(sizes)


@pytest.mark.parametrize("truth", SHARES)
@pytest.mark.parametrize("sizes", GROUPS)
def test_the_intervals_of_the_lowest_share_and_of_the_mean_hold_them(truth, sizes):
    n = np.array(sizes)
    weight = np.full(len(n), 1 / len(n))
    lowest, times = np.unique(drawn(truth, sizes, 0), axis=0, return_counts=True)
    around = [lowest_share_interval(shares.tolist(), sizes) for shares in lowest]
    assert how_often(truth, around, times) >= WANTED
    mean, times = np.unique(drawn(truth, sizes, 1, 300), axis=0, return_counts=True)
    around = [mean_share_interval(shares, n, weight) for shares in mean]
    assert how_often(truth, around, times) >= WANTED


def test_the_lowest_of_unequal_shares():
    truth, sizes = np.array([0.95, 0.7, 0.9]), (40, 20, 3)
    rng = np.random.default_rng(2)
    shares = rng.binomial(sizes, truth, (1500, 3)) / np.array(sizes)
    held = [low <= 0.7 <= high for low, high in (lowest_share_interval(each.tolist(), sizes) for each in shares)]
    assert np.mean(held) >= 0.95


def test_a_mean_of_one_share_has_that_share_s_interval():
    for right, n in ((3, 3), (7, 9), (0, 5)):
        mine = mean_share_interval(np.array([right / n]), np.array([n]), np.ones(1))
        assert mine == pytest.approx(share_interval(right / n, n), abs=0.02)


@pytest.mark.parametrize("a", SHARES)
@pytest.mark.parametrize("b", SHARES)
@pytest.mark.parametrize("alike", [0.0, 0.9])
def test_the_intervals_of_differences_hold_them(a, b, alike):
    """Two classifiers on the same images, which err on the same ones in a share ``alike`` of cases."""
    rng = np.random.default_rng(int(100 * a + 10_000 * b + alike))
    for n in (1, 2, 5, 20, 50):
        first = rng.random((800, 2, n))
        second = np.where(rng.random(first.shape) < alike, first, rng.random(first.shape))
        mine, other = first < a, second < b
        x, y = mine[:, 0], other[:, 0]
        counts = np.stack([(x & ~y).sum(axis=1), (y & ~x).sum(axis=1)], axis=1)  # all that an interval sees
        _, some, times = np.unique(counts, axis=0, return_index=True, return_counts=True)
        paired = [paired_difference_interval(x[i], y[i]) for i in some]
        assert how_often(a - b, paired, times, 1e-9) >= WANTED, n
        worst = []
        shares, times = np.unique(np.stack([mine.mean(axis=2), other.mean(axis=2)], axis=1), axis=0, return_counts=True)
        for x, y in shares:
            around = [lowest_share_interval(each.tolist(), (n, n)) for each in (x, y)]
            worst.append(difference_interval(float(x.min()), around[0], float(y.min()), around[1]))
        assert how_often(a - b, worst, times, 1e-9) >= WANTED, n


def test_one_image_more_is_no_gain_beyond_doubt():
    """Of 23 images one more is right, in a group of 3: 30 points, which may be nothing."""
    before = {"many": {"accuracy": 0.9, "n": 20}, "few": {"accuracy": 1 / 3, "n": 3}}
    after = {"many": {"accuracy": 0.9, "n": 20}, "few": {"accuracy": 2 / 3, "n": 3}}
    a, b = lowest_share(after), lowest_share(before)
    low, high = difference_interval(a["accuracy"], a["interval"], b["accuracy"], b["interval"])
    assert low < -0.2
    assert high > 0.5
    assert a["small"]
    assert a["name"] == "few"


def test_a_paired_difference_is_surer_than_an_unpaired_one():
    rng = np.random.default_rng(0)
    a = rng.random(1000) < 0.8
    b = a.copy()
    b[np.flatnonzero(a)[:20]] = False
    low, high = paired_difference_interval(a, b)
    assert 0 < low < 0.02 < high
    both = [(float(each.mean()), share_interval(float(each.mean()), 1000)) for each in (a, b)]
    assert difference_interval(*both[0], *both[1])[0] < 0
    none = 1 - 0.025 ** (1 / 1000)  # of 1,000 images on which they never differ: Clopper and Pearson by hand
    assert paired_difference_interval(a, a) == pytest.approx((-none, none), abs=1e-9)
