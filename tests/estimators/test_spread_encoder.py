"""scikit-learn's own checks; what the embedding keeps; pipelines, searches, images."""

import pickle
import signal
import tempfile
import warnings

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from thanos import SpreadEncoder, registry
from thanos.training.module import TrainingModule


@parametrize_with_checks([SpreadEncoder(epochs=1, hidden=8, dim=4, method=each) for each in ("spread", "thanos")])
def test_scikit_learns_checks(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def digits():
    X, digit = load_digits(return_X_y=True)
    return train_test_split(X, digit, random_state=0)


def fine_accuracy(encoder, digits):
    """Of the ten digits, from an embedding that was told two classes."""
    train, test, known, wanted = digits
    encoder.fit(train, known < 5)
    return KNeighborsClassifier(20).fit(encoder.transform(train), known).score(encoder.transform(test), wanted)


def test_it_keeps_the_digits_that_supcon_loses(digits):
    kept, lost = (
        np.mean([fine_accuracy(SpreadEncoder(alpha=alpha, epochs=12, random_state=s), digits) for s in range(2)])
        for alpha in ("auto", 0.0)
    )
    assert kept > lost + 0.03
    assert kept > 0.9


def test_classes_and_spread(digits):
    train, _, known, _ = digits
    encoder = SpreadEncoder(epochs=60, random_state=0).fit(train, np.where(known < 5, "low", "high"))
    assert encoder.classes_.tolist() == ["high", "low"]
    rows = encoder.transform(train)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    within = np.mean([(rows[known < 5] @ rows[known < 5].T).mean(), (rows[known >= 5] @ rows[known >= 5].T).mean()])
    assert 0.6 < within < 0.9  # auto aims at 0.6 for views, and rows without noise are closer; SupCon comes to 0.99
    assert (rows[known < 5] @ rows[known >= 5].T).mean() < 0


@pytest.mark.parametrize("method", registry.methods())
def test_every_method_learns_what_it_is_told(digits, method):
    train, test, known, wanted = digits
    encoder = SpreadEncoder(8, method=method, hidden=32, epochs=15, random_state=0).fit(train, known < 5)
    rows = encoder.transform(test)
    two = len(registry.method(method).steps)
    assert rows.shape == (len(test), 8 * two) == (len(test), len(encoder.get_feature_names_out()))
    np.testing.assert_allclose(encoder.transform(test[5:6])[0], rows[5], rtol=1e-9)
    assert (encoder.alpha_ is None) != registry.method(method).spreads
    told = KNeighborsClassifier(20).fit(encoder.transform(train), known < 5).score(rows, wanted < 5)
    assert told > (0.9 if registry.method(method).sees_labels else 0.8)  # the share of the larger class is 0.5


def test_spread_is_the_method_unless_another_is_named(digits):
    train, _, known, _ = digits
    rows = [
        SpreadEncoder(8, epochs=2, random_state=0, **how).fit(train, known < 5).transform(train[:9])
        for how in ({}, {"method": "spread", "classify": 1.0}, {"method": "supcon"})
    ]
    assert np.array_equal(rows[0], rows[1])
    assert not np.allclose(rows[0], rows[2])
    with pytest.raises(ValueError, match=r"method takes .*spread.*; got 'spred'.*did you mean 'spread'"):
        SpreadEncoder(method="spred").fit(train, known < 5)


def test_pipeline_and_search(digits):
    train, test, known, wanted = digits
    model = make_pipeline(StandardScaler(), SpreadEncoder(epochs=5, random_state=0), LogisticRegression(max_iter=500))
    search = GridSearchCV(model, {"spreadencoder__alpha": [0.0, 0.6]}, cv=2).fit(train, known < 5)
    assert search.score(test, wanted < 5) > 0.9
    assert list(model[:-1].fit(train, known < 5).get_feature_names_out())[:2] == ["spreadencoder0", "spreadencoder1"]


def test_images(digits):
    train, _, known, _ = digits
    pictures = (train * 15.9).astype(np.uint8).reshape(-1, 8, 8)[:400]
    assert SpreadEncoder(epochs=1).fit(pictures[:100], known[:100] < 5).transform(pictures[:3]).shape == (3, 128)
    encoder = SpreadEncoder(epochs=2, batch=64, random_state=0).fit(pictures, known[:400] < 5)
    rows = encoder.transform(pictures)
    assert rows.shape == (400, 128)
    assert np.array_equal(pickle.loads(pickle.dumps(encoder)).transform(pictures), rows)
    with pytest.raises(ValueError, match="images are uint8"):
        encoder.fit(pictures.astype(float), known[:400] < 5)
    with pytest.raises(ValueError, match="X holds images in fit"):
        encoder.transform(train)


def test_small_classes_and_odd_numbers():
    rows = np.array([[1.0, 1e200, 7.0], [2.0, -1e200, 7.0], [3.0, 0.0, 7.0]])
    for kinds in ([0, 1, 2], [0, 0, 1]):
        encoder = SpreadEncoder(epochs=2, hidden=4, dim=2, random_state=0).fit(rows, kinds)
        assert np.isfinite(encoder.transform(rows)).all()
    shifted = SpreadEncoder(epochs=2, hidden=4, dim=2, random_state=0).fit(rows[:, :1] + 1e9, [0, 0, 1])
    plain = SpreadEncoder(epochs=2, hidden=4, dim=2, random_state=0).fit(rows[:, :1], [0, 0, 1])
    assert np.allclose(shifted.transform(rows[:, :1] + 1e9), plain.transform(rows[:, :1]))  # float32 would not see it


def test_the_caller_notices_nothing(digits, tmp_path, capfd, monkeypatch):
    train, _, known, _ = digits
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    torch.manual_seed(5)
    wanted, filters, threads = torch.rand(3), list(warnings.filters), torch.get_num_threads()
    torch.manual_seed(5)
    encoder = SpreadEncoder(epochs=1, random_state=0).fit(train, known < 5)
    assert torch.equal(torch.rand(3), wanted)
    assert (list(warnings.filters), torch.get_num_threads()) == (filters, threads)
    assert capfd.readouterr() == ("", "")
    assert not list(tmp_path.iterdir())
    assert np.array_equal(pickle.loads(pickle.dumps(encoder)).transform(train), encoder.transform(train))


def test_ctrl_c_is_ctrl_c(digits, monkeypatch):
    train, _, known, _ = digits
    validate = TrainingModule.validation_step

    def interrupted(module, batch, number):
        signal.raise_signal(signal.SIGINT)
        return validate(module, batch, number)

    monkeypatch.setattr(TrainingModule, "validation_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        SpreadEncoder(epochs=9).fit(train, known < 5)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"alpha": 2.0}, r"alpha is 'auto' or"),
        ({"left_out": 1.0}, r"share in \[0, 1\)"),
        ({"epochs": 0}, "epochs is"),
        ({"learning_rate": 0}, "learning_rate is"),
    ],
)
def test_settings_that_make_no_sense(digits, settings, said):
    with pytest.raises(ValueError, match=said):
        SpreadEncoder(**settings).fit(digits[0], digits[2])
