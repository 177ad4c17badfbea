"""SubclassDiscovery: scikit-learn's own checks; the clusters of the command; new vectors."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits, make_blobs
from sklearn.metrics import adjusted_rand_score
from sklearn.utils.estimator_checks import parametrize_with_checks

from thanos import DiscoverConfig, Embeddings, SubclassDiscovery, discover


@parametrize_with_checks([SubclassDiscovery(most=3), SubclassDiscovery(clusters=2, reduce="none", length="own")])
def test_scikit_learns_checks(estimator, check):
    check(estimator)


SETTINGS = [
    {},
    {"clusters": 3},
    {"clusters": 20},
    {"method": "mixture", "least": 2, "overcluster": True},
    {"reduce": "none", "length": "own"},
    {"reduce": "hardness", "components": 1, "least": 2},
    {"reduce": "hardness", "components": 5},
]


@pytest.mark.parametrize("settings", SETTINGS)
def test_labels_are_those_of_discover_and_predict_tells_them_again(settings):
    X, digit = (each[::3] for each in load_digits(return_X_y=True))
    y = np.where(digit < 5, "low", "high")
    estimator = SubclassDiscovery(**settings, random_state=3).fit(X, y)
    seed = int(np.random.RandomState(3).randint(2**31 - 1))
    embeddings = Embeddings(
        vectors=X.astype(np.float32),
        superclass=(y == "low").astype(np.int64),
        superclass_names=("high", "low"),
        split=np.zeros(len(X), np.int8),
    )
    found = discover(embeddings, DiscoverConfig(**settings, seed=seed))
    np.testing.assert_array_equal(estimator.labels_, found.cluster)
    assert estimator.names_ == found.names
    np.testing.assert_array_equal(estimator.predict(X, y), estimator.labels_)
    np.testing.assert_array_equal(estimator.confidence(X, y), estimator.confidence_)
    some = np.random.default_rng(0).permutation(len(X))[:101]
    np.testing.assert_array_equal(estimator.predict(X[some], y[some]), estimator.labels_[some])


def test_new_vectors_get_the_clusters_of_their_kind():
    X, kind = make_blobs([120] * 6, 12, random_state=1)
    train, test = np.arange(len(X)) % 2 == 0, np.arange(len(X)) % 2 == 1
    estimator = SubclassDiscovery(random_state=0).fit(X[train], kind[train] % 2)
    assert adjusted_rand_score(kind[test], estimator.predict(X[test], kind[test] % 2)) > 0.99
    assert adjusted_rand_score(kind[test], estimator.predict(X[test])) > 0.95  # classes told by the regression beside
    again = pickle.loads(pickle.dumps(estimator))
    np.testing.assert_array_equal(again.predict(X[test]), estimator.predict(X[test]))
    assert clone(estimator).get_params() == estimator.get_params()


def test_what_will_not_do_is_said():
    X, kind = make_blobs([40] * 4, 5, random_state=0)
    estimator = SubclassDiscovery(random_state=0).fit(X, kind % 2)
    with pytest.raises(ValueError, match=r"y holds classes of fit \(0, 1\); got 7"):
        estimator.predict(X[:2], [0, 7])
    with pytest.raises(ValueError, match="one class for each of the 2 vectors"):
        estimator.predict(X[:2], [0])
    with pytest.raises(ValueError, match="`least` is at most `most`"):
        SubclassDiscovery(least=5, most=3).fit(X, kind % 2)
    with pytest.raises(ValueError, match="kmeans"):
        SubclassDiscovery(method="kmean").fit(X, kind % 2)


@pytest.mark.parametrize("factor", [1e33, 1e-50, 1e300, 1e-300])
@pytest.mark.parametrize("length", ["unit", "own"])
def test_lengths_change_no_label_and_predict_knows_them(factor, length):
    X, kind = make_blobs([40] * 4, 6, random_state=0)
    X[0] *= 50  # one far row, which predict does not always see
    model = SubclassDiscovery(3, length=length, reduce="none", random_state=0)
    plain = model.fit(X, kind % 2).labels_
    labels = model.fit(X * factor, kind % 2).labels_
    assert np.array_equal(labels, plain)
    assert np.array_equal(model.predict((X * factor)[1:50], (kind % 2)[1:50]), labels[1:50])
