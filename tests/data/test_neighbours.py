"""Neighbours as views, against scikit-learn's."""

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors
from torch import Generator

from thanos.config import FeatureViewSpec
from thanos.data import neighbours
from thanos.data.neighbours import WithNeighbours, nearest_of_superclass
from thanos.data.vectors import VectorSet
from thanos.views import clean_view, random_views

COUNT, DIM, NEAR = 90, 12, 4
RNG = np.random.default_rng(0)
VECTORS = RNG.standard_normal((COUNT, DIM)).astype(np.float32)
SUPERCLASS = RNG.integers(0, 3, COUNT)
SPLIT = (np.arange(COUNT) % 5 == 0).astype(np.int8)  # every fifth is held out


def vector_set(**more):
    kinds = {"superclass": SUPERCLASS, "superclass_names": ("a", "b", "c"), "split": SPLIT, "vectors": VECTORS}
    return VectorSet(name="v", **(kinds | {"views": FeatureViewSpec(neighbours=NEAR)} | more))


def found(vectors=VECTORS, superclass=SUPERCLASS, count=NEAR):
    train, still = np.flatnonzero(SPLIT == 0), np.ones(DIM, dtype=np.float32)
    return nearest_of_superclass(vectors, superclass, train, count, mean=0 * still, std=still)


@pytest.mark.parametrize("at_once", [7, 1024])
def test_they_are_scikit_learns_nearest_of_the_superclass(monkeypatch, at_once):
    monkeypatch.setattr(neighbours, "AT_ONCE", at_once)
    near = found()
    for value in range(3):
        members = np.flatnonzero((SPLIT == 0) & (value == SUPERCLASS))
        model = NearestNeighbors(n_neighbors=NEAR + 1, metric="cosine").fit(VECTORS[members])
        expected = members[model.kneighbors(VECTORS[members], return_distance=False)]
        assert (expected[:, 0] == members).all()
        assert (near[members] == expected[:, 1:]).all()


def test_rows_that_are_not_trained_on_are_nobodys_neighbours_and_have_none():
    near, held = found(), np.flatnonzero(SPLIT)
    assert not np.isin(near[SPLIT == 0], held).any()
    assert (near[held] == held[:, None]).all()


def test_where_there_are_too_few_the_row_stands_for_itself():
    lonely = SUPERCLASS.copy()
    few = np.flatnonzero(SPLIT == 0)[:3]
    lonely[few] = 3
    near = found(superclass=lonely)[few]
    assert all(set(near[i, :2]) == set(few) - {row} for i, row in enumerate(few))
    assert (near[:, 2:] == few[:, None]).all()


def test_of_equal_rows_none_counts_itself_twice():
    equal = VECTORS.copy()
    members = np.flatnonzero((SPLIT == 0) & (SUPERCLASS == 0))
    equal[members] = equal[members[0]]
    near = found(vectors=equal)[members]
    assert all(row not in around for row, around in zip(members, near, strict=True))


def test_more_rows_than_are_looked_at(monkeypatch):
    monkeypatch.setattr(neighbours, "AMONG", 8)
    near, train = found(), np.flatnonzero(SPLIT == 0)
    assert (SUPERCLASS[near[train]] == SUPERCLASS[train][:, None]).all()
    assert (near[train] != train[:, None]).all()


def test_the_first_view_is_the_rows_own_and_the_others_are_of_it_or_its_neighbours_with_equal_chances():
    vectors = vector_set()
    rows = np.tile(np.flatnonzero(SPLIT == 0), 10)
    batch = torch.from_numpy(vectors.values[rows])
    assert batch.shape == (len(rows), 1 + NEAR, DIM)
    mean, std = vectors.mean_std
    plain, rng = FeatureViewSpec(noise=0, dropout=0, neighbours=NEAR), Generator().manual_seed(0)
    own = clean_view(torch.from_numpy(VECTORS[rows]), mean=mean, std=std)
    around = clean_view(torch.from_numpy(VECTORS[vectors._nearest[rows]]).flatten(0, 1), mean=mean, std=std)
    allowed = torch.cat([own[:, None], around.unflatten(0, (-1, NEAR))], dim=1)
    counts = torch.zeros(1 + NEAR)
    for _ in range(200):
        views = random_views(batch, plain, rng, count=2, mean=mean, std=std)
        assert torch.equal(views[0], own)
        same = (views[1][:, None] == allowed).all(dim=2)
        assert same.any(dim=1).all()
        counts += same.float().sum(dim=0)
    assert (counts / counts.sum()).numpy() == pytest.approx(np.full(1 + NEAR, 1 / (1 + NEAR)), abs=0.01)


def test_they_do_not_change_what_the_rows_are():
    assert vector_set().fingerprint == vector_set(views=FeatureViewSpec()).fingerprint
    batch = torch.from_numpy(vector_set().values[np.arange(3)])
    assert torch.equal(clean_view(batch, mean=(0.0,) * DIM, std=(1.0,) * DIM), torch.from_numpy(VECTORS[:3]))


def test_views_made_before_stand_between_a_row_and_its_neighbours():
    stack = RNG.standard_normal((5, 3, DIM)).astype(np.float32)
    values = WithNeighbours(stack, np.array([[1], [0], [3], [2], [4]]))
    assert values.shape == (5, 4, DIM)
    np.testing.assert_array_equal(values[np.array([2])][0], [*stack[2], stack[3, 0]])
