"""How many clouds: of one piece they stay whole, worlds are counted, few and equal rows are defined."""

import numpy as np
import pytest
from scipy.stats import binom, multivariate_normal
from sklearn.metrics import adjusted_rand_score

from thanos import DiscoverConfig, discover
from thanos.embeddings import Embeddings
from thanos.subclasses import merging
from thanos.subclasses.keep import Places, read_places, write_places
from thanos.subclasses.merging import choose_by_merging

ONE_PIECE = {
    "normal": lambda rng, n, d: rng.normal(size=(n, d)),
    "uniform": lambda rng, n, d: rng.random((n, d)),
    "elongated": lambda rng, n, d: rng.normal(size=(n, d)) * np.logspace(0, -2, d),
    "heavy-tailed": lambda rng, n, d: rng.standard_t(3, (n, d)),
    "skewed": lambda rng, n, d: rng.lognormal(sigma=0.8, size=(n, d)),
    "outliers": lambda rng, n, d: rng.normal(size=(n, d)) * np.where(rng.random((n, 1)) < 0.02, 8, 1),
}


def number(x, **settings):
    chosen = choose_by_merging(x, np.random.default_rng(0), **settings)
    return 1 if chosen.model is None else chosen.model.count


@pytest.mark.parametrize("kind", ONE_PIECE)
def test_clouds_of_one_piece_stay_whole(kind):
    """At most one of eight, where 5% may be cut: results/count.json has 300."""
    cut = 0
    for i, (n, d) in enumerate([(60, 2), (150, 30), (300, 5), (250, 100), (400, 16), (500, 32), (100, 8), (400, 3)]):
        cut += number(ONE_PIECE[kind](np.random.default_rng(i), n, d)) > 1
    assert cut <= 1


@pytest.mark.parametrize(("kinds", "dim"), [(2, 10), (5, 30), (12, 30), (25, 32)])
def test_clouds_are_counted(kinds, dim):
    rng = np.random.default_rng(kinds)
    kind = rng.choice(kinds, 120 * kinds, p=rng.dirichlet(np.full(kinds, 20)))
    x = rng.normal(size=(kinds, dim))[kind] * 8 / np.sqrt(dim) + rng.normal(size=(len(kind), dim)) * 0.6
    chosen = choose_by_merging(x, np.random.default_rng(0))
    assert abs(chosen.model.count - kinds) <= 1
    assert adjusted_rand_score(kind, chosen.model.predict(x)) > 0.9
    assert chosen.evidence.p < 0.01
    assert chosen.scores[chosen.model.count] == 0  # all others are told against it


def test_clouds_of_unlike_width_are_counted():
    """With one width for all the wide ones would be cut."""
    rng = np.random.default_rng(0)
    kind, width = np.arange(900) % 6, np.array([0.4, 0.5, 0.7, 1.0, 2.0, 3.0])
    x = 12 * np.eye(6, 12)[kind] * width[kind][:, None] + width[kind][:, None] * rng.normal(size=(900, 12))
    chosen = choose_by_merging(x, np.random.default_rng(0))
    assert chosen.model.count == 6
    assert adjusted_rand_score(kind, chosen.model.predict(x)) > 0.95


def test_the_likelihood_is_that_of_normal_clusters():
    """Of equal ones together, of a clearly wider one by itself; scipy's densities, cluster by cluster."""
    rng = np.random.default_rng(1)
    parts = [rng.normal(size=(40, 3)) * width + 30 * i for i, width in enumerate((1.0, 1.2, 4.0))]
    y, centres = np.concatenate(parts), np.stack([part.mean(axis=0) for part in parts])
    rest = [((part - part.mean(axis=0)) ** 2).sum() / 3 for part in parts]
    common = (rest[0] + rest[1]) / 80
    width = merging.widths(np.array(rest), np.array([40, 40, 40]))
    assert width == pytest.approx([common, common, rest[2] / 40])
    pairs = zip(parts, centres, width, strict=True)
    density = [multivariate_normal(centre, each * np.eye(3)).logpdf(part).sum() for part, centre, each in pairs]
    constant = y.size / 2 * (1 + np.log(2 * np.pi))
    assert merging.likelihood(y, centres) == pytest.approx(sum(density) + constant + 120 * np.log(1 / 3))


def test_few_far_images_are_found_and_the_rest_left_whole():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1020, 16))
    x[:20] = x[:20] * 0.5 + 12
    found = choose_by_merging(x, np.random.default_rng(0)).model.predict(x)
    assert sorted(np.bincount(found)) == [20, 1000]


def test_equal_rows_are_defined():
    rng = np.random.default_rng(0)
    five = np.repeat(rng.normal(size=(5, 12)), [40, 100, 25, 60, 80], axis=0)
    assert number(five) == 5
    assert number(np.ones((300, 6))) == 1
    assert number(np.eye(3)) == 1
    assert number(np.repeat(rng.normal(size=(100, 8)), 10, axis=0)) == 1  # each row of one cloud ten times
    assert number(np.ones((300, 6)), least=1, most=5) == 1


def test_bounds_are_kept():
    rng = np.random.default_rng(1)
    cloud = rng.normal(size=(400, 10))
    assert number(cloud) == 1
    assert number(cloud, least=3) >= 3
    many = rng.normal(size=(12, 10))[np.arange(600) % 12] * 6 + rng.normal(size=(600, 10))
    assert number(many) == 12
    assert number(many, most=4) <= 4


def test_units_and_axes_do_not_matter():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(6, 20))[np.arange(480) % 6] * 3 + rng.normal(size=(480, 20))
    turn = np.linalg.qr(rng.normal(size=(20, 20)))[0]
    found = choose_by_merging(x, np.random.default_rng(0)).model.predict(x)
    for other in (x * 1e-4, x * 1e4, x @ turn):
        again = choose_by_merging(other, np.random.default_rng(0)).model.predict(other)
        assert adjusted_rand_score(found, again) > 0.99


def test_a_valley_is_a_binomial_chance():
    """Rows on a line: 40 about each centre, 2 in the middle; the chance of so few there among those and one side."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.uniform(-1.2, -0.4, 40), rng.uniform(0.4, 1.2, 40), [-0.1, 0.1]])[:, None]
    deepest, largest = merging.valleys(x, np.array([[-0.8], [0.8]]))
    _, _, way = merging.margins(x, np.array([[-0.8], [0.8]]))
    middle, near, far = way < 1 / 3, (way >= 1 / 3) & (way < 1), (way >= 2 / 3) & (way < 4 / 3)
    right = x[:, 0] > 0
    sides = [min((beside & right).sum(), (beside & ~right).sum()) for beside in (near, far)]
    wanted = min(binom.cdf(middle.sum(), middle.sum() + side, 0.5) for side in sides)
    assert deepest == pytest.approx(2 * wanted)
    assert largest == pytest.approx(wanted)
    assert deepest < 1e-4


def test_discovery_takes_it_and_keeps_it_for_new_images(tmp_path):
    rng = np.random.default_rng(3)
    kind = np.arange(1200) % 12
    x = (rng.normal(size=(12, 24))[kind] * 3 + rng.normal(size=(1200, 24))).astype(np.float32)
    data = Embeddings(
        vectors=x,
        superclass=kind // 11,  # eleven kinds, and one
        superclass_names=("many", "one"),
        split=np.where(np.arange(1200) % 5 == 4, 2, 0).astype(np.int8),
    )
    found = discover(data, DiscoverConfig(number="merging"))
    assert [fact["clusters"] for fact in found.superclasses.values()] == [11, 1]
    fact = found.superclasses["many"]
    assert fact["p"] < 0.01 < found.superclasses["one"]["p"]
    assert min(fact["holds"].values()) > 0.7
    assert len(fact["holds"]) == 11
    assert adjusted_rand_score(kind, found.cluster) > 0.95
    write_places(Places(found.fitted, found.names, ("many", "one"), "s", "t"), tmp_path / "p.npz")
    again = read_places(tmp_path / "p.npz").fitted.predict(x, data.superclass)[0]
    np.testing.assert_array_equal(again, found.cluster)
    few = discover(data, DiscoverConfig(number="merging", method="mixture", components=6, most=15))
    assert abs(few.superclasses["many"]["clusters"] - 11) <= 1
