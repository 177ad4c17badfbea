"""Scores against scikit-learn, loops and values by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score
from sklearn.neighbors import KNeighborsClassifier
from torch.testing import assert_close

import oracle
from thanos import (
    Embeddings,
    concat_embeddings,
    evaluate_geometry,
    evaluate_transfer,
    read_embeddings,
    write_embeddings,
)
from thanos.config import TransferConfig
from thanos.errors import DataError, MissingLabels
from thanos.evaluate.diagnose import diagnose
from thanos.evaluate.geometry import class_cosines, effective_rank
from thanos.evaluate.knn import neighbour_accuracy, neighbour_vote
from thanos.evaluate.transfer import score


def blobs(separation=6.0, n=600, dim=8, seed=0):
    """Two superclasses of two Gaussian subclasses each."""
    rng = np.random.default_rng(seed)
    subclass = np.arange(n) % 4
    centres = rng.normal(size=(4, dim)) * separation
    vectors = (centres[subclass] + rng.normal(size=(n, dim))).astype(np.float32)
    return Embeddings(
        vectors=vectors,
        superclass=(subclass // 2).astype(np.int64),
        superclass_names=("low", "high"),
        split=rng.choice(3, size=n, p=[0.6, 0.2, 0.2]).astype(np.int8),
        subclass=subclass.astype(np.int64),
        subclass_names=("a", "b", "c", "d"),
        fingerprint="f",
    )


def test_separated_subclasses_are_read_and_identical_ones_are_not():
    scores = evaluate_transfer(blobs(), TransferConfig())
    assert scores.probe.accuracy > 0.99
    assert scores.neighbours.accuracy > 0.99
    chance = evaluate_transfer(blobs(separation=0.0), TransferConfig())
    assert chance.probe.accuracy == pytest.approx(0.25, abs=0.12)


def test_the_probe_does_not_see_scale_or_test_labels():
    data = blobs(separation=1.0)
    scores = evaluate_transfer(data, TransferConfig()).probe
    scaled = replace(data, vectors=data.vectors * np.logspace(-3, 3, 8, dtype=np.float32))
    assert evaluate_transfer(scaled, TransferConfig()).probe.accuracy == pytest.approx(scores.accuracy, abs=0.02)
    shuffled = data.subclass.copy()
    test = data.rows("test")
    shuffled[test] = np.random.default_rng(0).permutation(shuffled[test])
    assert evaluate_transfer(replace(data, subclass=shuffled), TransferConfig()).probe.strength == scores.strength


@pytest.mark.parametrize("k", [1, 7, 20])
def test_neighbour_vote_equals_scikit_learn(k):
    data = blobs(separation=0.7)
    train, test = data.of("train"), data.of("test")

    def unit(rows):
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    reference = KNeighborsClassifier(k, weights=lambda d: 2 - d**2 / 2).fit(unit(train.vectors), train.subclass)
    ours = neighbour_vote(*(torch.from_numpy(x) for x in (test.vectors, train.vectors, train.subclass)), k)
    assert (ours.numpy() == reference.predict(unit(test.vectors))).mean() > 0.99


def test_leave_one_out_neighbours_by_hand():
    rows = torch.nn.functional.normalize(torch.tensor([[1, 0.0], [1, 0.1], [0, 1], [0.1, 1], [1, 0.05]]), dim=1)
    label = torch.tensor([0, 0, 1, 1, 1])
    assert_close(neighbour_accuracy(rows, label, k=1), torch.tensor(2 / 5))


def test_accuracies_by_hand_and_against_scikit_learn():
    true = np.array([0, 0, 0, 0, 1, 1, 2, 2])
    predicted = np.array([0, 0, 0, 1, 1, 0, 2, 2])
    numbers = score(true, predicted, np.array([0.5, 0.5, 0.0]))
    assert numbers.accuracy == pytest.approx(6 / 8)
    assert numbers.balanced_accuracy == pytest.approx(balanced_accuracy_score(true, predicted))
    assert numbers.frequency_weighted_accuracy == pytest.approx(0.5 * 0.75 + 0.5 * 0.5)
    assert numbers.n == 8


@pytest.mark.parametrize("seed", range(3))
def test_class_cosines_equal_loops(seed):
    rng = np.random.default_rng(seed)
    rows, label = rng.normal(size=(23, 5)), rng.integers(-3, 3, size=23)
    unit = torch.nn.functional.normalize(torch.from_numpy(rows), dim=1)
    within, between = class_cosines(unit, torch.from_numpy(label))
    assert_close(
        torch.stack([within.nanmean(), between]),
        torch.tensor(oracle.class_cosines(rows, label.tolist()), dtype=torch.float64),
    )


def test_geometry_of_a_collapsed_embedding():
    data = blobs()
    collapsed = replace(data, vectors=np.eye(8, dtype=np.float32)[data.superclass])
    scores = evaluate_geometry(collapsed)
    assert scores.spread == pytest.approx(0, abs=1e-5)
    assert scores.between_class_cosine == pytest.approx(0, abs=1e-6)
    assert scores.collapsed_superclasses == ["low", "high"]
    assert scores.effective_rank == pytest.approx(1, abs=1e-3)


def test_subclass_clustering_sees_clusters_and_shuffling():
    data = blobs()
    clustered = evaluate_geometry(data)
    assert clustered.subclass_purity > 0.99
    tested = int(data.in_split("test").sum())
    assert clustered.subclass_purity_n == tested
    unknown = np.where(np.arange(len(data)) % 3, -1, data.subclass)
    half = evaluate_geometry(replace(data, subclass=unknown))
    assert half.subclass_purity_n == int((data.in_split("test") & (unknown >= 0)).sum()) < tested == half.n
    assert clustered.subclass_silhouette > 0.5
    assert clustered.subclass_purity_chance == pytest.approx(0.5, abs=0.03)
    mixed = data.vectors.copy()
    for value in (0, 1):  # images swap embeddings inside their superclass
        rows = np.flatnonzero(data.superclass == value)
        mixed[rows] = mixed[np.random.default_rng(0).permutation(rows)]
    shuffled = evaluate_geometry(replace(data, vectors=mixed))
    assert shuffled.spread == pytest.approx(clustered.spread, abs=0.05)
    assert shuffled.subclass_purity == pytest.approx(0.5, abs=0.15)


def test_effective_rank_of_an_isotropic_cloud():
    rows = torch.randn(20_000, 6, generator=torch.Generator().manual_seed(0))
    assert effective_rank(rows) == pytest.approx(6, abs=0.02)


def test_alignment_is_the_mean_squared_distance_of_two_views():
    data = blobs()
    first = np.tile(np.array([[1.0, 0] + [0] * 6], dtype=np.float32), (len(data), 1))
    second = np.tile(np.array([[0, 2.0] + [0] * 6], dtype=np.float32), (len(data), 1))
    assert evaluate_geometry(data, (first, second)).alignment == pytest.approx(2)
    assert evaluate_geometry(data).alignment is None


def test_side_by_side_parts_weigh_alike():
    data = blobs()
    louder = replace(data, vectors=data.vectors * 1000)
    joined = concat_embeddings(data, louder)
    assert_close(joined.vectors[:, :8], joined.vectors[:, 8:], rtol=1e-5, atol=1e-6)
    with pytest.raises(DataError, match="same images"):
        concat_embeddings(data, replace(data, fingerprint="other"))


def test_embeddings_survive_the_file(tmp_path):
    data = replace(blobs(), refs=tuple(f"image {i}" for i in range(600)), group=None)
    write_embeddings(data, tmp_path / "e.npz")
    again = read_embeddings(tmp_path / "e.npz")
    assert np.array_equal(again.vectors, data.vectors)
    assert np.array_equal(again.subclass, data.subclass)
    assert (again.refs, again.subclass_names, again.fingerprint) == (data.refs, data.subclass_names, "f")
    with np.load(tmp_path / "e.npz", allow_pickle=False) as file:  # loadable without this package
        assert file["superclass_names"].tolist() == ["low", "high"]


def test_labels_may_be_names(tmp_path):
    np.savez(
        tmp_path / "e.npz",
        vectors=np.ones((4, 2)),
        superclass=np.array(["b", "a", "b", "a"]),
        subclass=np.array([3, 5, 3, -1]),
        split=np.array(["train", "val", "test", "test"]),
    )
    data = read_embeddings(tmp_path / "e.npz")
    assert data.superclass.tolist() == [1, 0, 1, 0]
    assert data.subclass.tolist() == [0, 1, 0, -1]
    assert data.subclass_names == ("3", "5")
    assert data.split.tolist() == [0, 1, 2, 2]


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"superclass": np.zeros(3)}, "needs an array 'vectors'"),
        ({"vectors": np.zeros((3, 2))}, "needs an array 'superclass'"),
        ({"vectors": np.zeros(3), "superclass": np.zeros(3, int)}, "have shape (images, dimensions)"),
        ({"vectors": np.zeros((3, 2)), "superclass": np.zeros(2, int)}, "one entry for each of the 3 vectors"),
        ({"vectors": np.array([[0, 1], [np.nan, 0]]), "superclass": np.zeros(2, int)}, "row 1"),
        ({"vectors": np.array([["a", "b"]]), "superclass": np.zeros(1, int)}, "vectors are numbers"),
        ({"vectors": np.zeros((2, 2)), "superclass": np.zeros((2, 1), int)}, "has shape (2, 1)"),
        ({"vectors": np.zeros((2, 2)), "superclass": np.array([0, np.nan])}, "row 1"),
        (
            {"vectors": np.zeros((2, 2)), "superclass": np.array([0, 2]), "superclass_names": np.array(["a", "b"])},
            "has the id 2",
        ),
        (
            {"vectors": np.zeros((2, 2)), "superclass": np.zeros(2, int), "split": np.array(["x", "test"])},
            "train, validation or test",
        ),
    ],
)
def test_faulty_files_are_refused(tmp_path, arrays, said):
    np.savez(tmp_path / "e.npz", **arrays)
    with pytest.raises(DataError) as error:
        read_embeddings(tmp_path / "e.npz")
    assert said in str(error.value)


def test_a_file_that_is_no_npz_or_needs_pickle(tmp_path):
    (tmp_path / "text.npz").write_text("hello")
    np.savez(tmp_path / "pickled.npz", vectors=np.array([{}], dtype=object))
    np.savez(tmp_path / "whole.npz", vectors=np.ones((100, 8)), superclass=np.zeros(100, int))
    (tmp_path / "cut.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:500])
    (tmp_path / "empty.npz").write_bytes(b"")
    np.save(tmp_path / "array.npy", np.ones(3))
    (tmp_path / "array.npy").rename(tmp_path / "array.npz")
    for name in ("text.npz", "pickled.npz", "cut.npz", "empty.npz", "array.npz"):
        with pytest.raises(DataError, match="without pickled objects"):
            read_embeddings(tmp_path / name)


def test_what_transfer_cannot_do_without(tmp_path):
    data = blobs()
    with pytest.raises(MissingLabels, match="fine labels"):
        evaluate_transfer(replace(data, subclass=None), TransferConfig())
    with pytest.raises(DataError, match="validation has none"):
        evaluate_transfer(data.take(np.flatnonzero(data.split != 1)), TransferConfig())
    with pytest.raises(DataError, match="'d' has none"):
        evaluate_transfer(data.take(np.flatnonzero(~data.in_split("train") | (data.subclass != 3))), TransferConfig())


@pytest.mark.parametrize(
    ("numbers", "states"),
    [
        ((0.99, 0.99), ("equal",)),
        ((0.99, 0.2), ("collapsed",)),
        ((0.5, 0.48, 0.99), ("collapsed", "dissolved")),
        ((0.5, 0.48), ("dissolved",)),
        ((0.6, 0.1), ()),
        ((float("nan"), float("nan")), ()),
    ],
)
def test_what_a_spread_means(numbers, states):
    assert diagnose(*numbers) == states
