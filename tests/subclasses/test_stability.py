import numpy as np
import pytest

from thanos import Embeddings, discover
from thanos.subclasses.stability import best_overlaps, probability_of_holding


@pytest.fixture(autouse=True)
def _all_draws(monkeypatch):
    monkeypatch.setattr("thanos.subclasses.stability.DRAWS", 20)


def test_overlaps_by_hand():
    found, again = np.array([0, 0, 0, 1, 1, 1]), np.array([2, 2, 0, 1, 1, 0])
    np.testing.assert_allclose(best_overlaps(found, again, 2), [2 / 3, 2 / 3])


def test_what_is_there_holds_and_what_is_not_does_not():
    """Two clouds cut into two hold; into nine they do not."""
    from sklearn.cluster import KMeans

    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 8)) + np.where(np.arange(400) % 2, 6, 0)[:, None]

    def cluster(some, count):
        return KMeans(count, n_init=1, random_state=int(rng.integers(1000))).fit(some).predict

    two, nine = (KMeans(k, n_init=3, random_state=0).fit_predict(x) for k in (2, 9))
    assert probability_of_holding(x, two, cluster, np.random.default_rng(0)) == [1.0, 1.0]
    assert np.mean(probability_of_holding(x, nine, cluster, np.random.default_rng(0))) < 0.4


def test_who_wants_clusters_alone_gets_the_same_ones():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(240, 4)) + np.where(np.arange(240) % 3, 6, 0)[:, None]
    names, split = ("a", "b"), np.zeros(240, np.int8)
    data = Embeddings(vectors=x.astype(np.float32), superclass=np.arange(240) % 2, superclass_names=names, split=split)
    told, alone = discover(data), discover(data, stability=False)
    np.testing.assert_array_equal(told.cluster, alone.cluster)
    assert told.names == alone.names == ("a/0", "a/1", "b/0", "b/1")
    for name, fact in told.superclasses.items():
        assert set(fact.pop("holds")) == {f"{name}/0", f"{name}/1"}
    assert told.superclasses == alone.superclasses
