"""Hidden subclasses are found where there are some, from superclasses alone, and written as a table."""

import csv
import json
import math
import sys
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score, silhouette_samples

from thanos.cli import run_command
from thanos.config import DiscoverConfig
from thanos.embeddings import Embeddings, write_embeddings
from thanos.errors import ConfigError, DataError, OutputError
from thanos.subclasses import silhouette as counting
from thanos.subclasses.discovery import discover


def clouds(kinds=(3, 4), images=120, apart=6.0, dim=12, seed=0, share=None):
    """Superclasses of so many normal clouds each; a fifth of the images for testing."""
    rng = np.random.default_rng(seed)
    vectors, superclass, subclass = [], [], []
    for value, count in enumerate(kinds):
        for kind in range(count):
            size = images if share is None else int(images * share[kind])
            vectors.append(rng.normal(size=dim) * apart + rng.normal(size=(size, dim)))
            superclass += [value] * size
            subclass += [10 * value + kind] * size
    total = len(superclass)
    split = rng.choice([0, 1, 2], total, p=[0.6, 0.2, 0.2]).astype(np.int8)
    names = tuple(f"class {value}" for value in range(len(kinds)))
    fine = tuple(str(kind) for kind in range(10 * len(kinds)))
    x = np.concatenate(vectors).astype(np.float32)
    return Embeddings(
        vectors=x,
        superclass=np.array(superclass),
        superclass_names=names,
        split=split,
        subclass=np.array(subclass),
        subclass_names=fine,
    )


def test_what_is_unsure_and_what_was_not_tried_is_said(tmp_path, capsys):
    data = clouds(kinds=(3, 4))
    write_embeddings(data, tmp_path / "e.npz")
    run_command(["discover", str(tmp_path / "e.npz"), "--most", "4"])
    out = capsys.readouterr().out
    [three, four] = [line for line in out.splitlines() if line.startswith("class ") and "silhouette" in line]
    assert "no larger number was tried" not in three
    assert four.endswith("no larger number was tried: --most 8")
    assert "fresh draws" not in out  # clouds that lie apart are found again
    rng = np.random.default_rng(0)
    loose = replace(data, vectors=rng.normal(size=data.vectors.shape).astype(np.float32))
    write_embeddings(loose, tmp_path / "l.npz")
    run_command(["discover", str(tmp_path / "l.npz"), "--clusters", "6"])
    out, page = capsys.readouterr().out, (tmp_path / "l-subclasses.html").read_text()
    holds = [
        held
        for fact in json.loads((tmp_path / "l-subclasses.json").read_text())["superclasses"].values()
        for held in fact["holds"].values()
    ]
    rare = sum(held < 0.5 for held in holds)
    said = f"{rare} of {len(holds)} subclasses are found again in fewer than half of fresh draws of images"
    assert rare > 4
    assert said in out
    assert f"<b>Unsure:</b> {said}, least often class " in page


def test_silhouettes_are_scikit_learns():
    rng = np.random.default_rng(0)
    x, label = rng.normal(size=(150, 5)), rng.choice([0, 1, 4], 150)
    label[0] = 9  # a cluster of one
    apart = np.linalg.norm(x[:, None] - x[None], axis=2)
    assert counting.silhouettes(apart, label) == pytest.approx(silhouette_samples(x, label))
    assert counting.distances(x) == pytest.approx(apart, abs=2e-3)


@pytest.mark.parametrize(
    "config",
    [
        DiscoverConfig(),
        DiscoverConfig(method="mixture", components=4),
        DiscoverConfig(reduce="none", length="own"),
        DiscoverConfig(reduce="hardness", components=5),
        DiscoverConfig(clusters=3),
    ],
)
def test_clouds_are_found_with_their_number(config):
    data = clouds(kinds=(3, 3))
    found = discover(data, config)
    assert adjusted_rand_score(data.subclass, found.cluster) > 0.99
    assert [fact["clusters"] for fact in found.superclasses.values()] == [3, 3]
    assert set(found.names) == {f"class {v}/{c}" for v in range(2) for c in range(3)}
    for cluster, name in enumerate(found.names):
        (value,) = np.unique(data.superclass[found.cluster == cluster])
        assert name.startswith(data.superclass_names[value])
    assert (found.confidence >= 0).all()
    assert (found.confidence <= 1).all()


def test_names_of_a_person_are_told_from_numbers():
    found = discover(clouds(kinds=(2, 2)), DiscoverConfig(clusters=2))
    superclasses = ("class 0", "class 1")
    assert not found.is_named(superclasses)
    for name in ("cats", "class 1/0a", "class 9/0", "0"):
        assert replace(found, names=(name, *found.names[1:])).is_named(superclasses)


def test_a_superclass_without_structure_is_one_subclass():
    found = discover(clouds(kinds=(1, 3), images=400))
    assert [fact["clusters"] for fact in found.superclasses.values()] == [1, 3]
    fact = found.superclasses["class 0"]
    assert max(fact["silhouette"].values()) <= counting.MARGIN * max(fact["unstructured"])
    assert (found.confidence[found.cluster == 0] == 1).all()


def test_where_one_will_not_do_a_superclass_without_structure_is_cut_up():
    found = discover(clouds(kinds=(1, 3), images=400), DiscoverConfig(least=2))
    cut, whole = (fact["clusters"] for fact in found.superclasses.values())
    assert cut >= 2
    assert whole == 3
    with pytest.raises(ValueError, match="`least` is at most `most`"):
        DiscoverConfig(least=4, most=3)


def test_a_superclass_collapsed_to_a_point_is_one_subclass():
    data = clouds(kinds=(3, 3))
    same = data.vectors.copy()
    same[data.superclass == 1] = same[-1]
    found = discover(replace(data, vectors=same))
    assert [fact["clusters"] for fact in found.superclasses.values()] == [3, 1]
    assert (found.distance[data.superclass == 1] < 1e-6).all()


def test_a_box_is_one_subclass_too():
    x = np.random.default_rng(2).random((300, 4)).astype(np.float32)
    data = Embeddings(
        vectors=x, superclass=np.zeros(300, dtype=np.int64), superclass_names=("a",), split=np.zeros(300, dtype=np.int8)
    )
    assert discover(data, DiscoverConfig(length="own")).superclasses["a"]["clusters"] == 1


def test_true_subclasses_and_test_images_have_no_part_in_it():
    data = clouds()
    found = discover(data)
    blind = discover(replace(data, subclass=None, subclass_names=()))
    assert np.array_equal(found.cluster, blind.cluster)
    moved = data.vectors.copy()
    moved[~data.in_split("train")] *= -1
    rows = data.in_split("train")
    again = discover(replace(data, vectors=moved))
    assert np.array_equal(found.cluster[rows], again.cluster[rows])
    assert np.array_equal(found.distance[rows], again.distance[rows])


def test_distance_and_confidence_by_hand():
    x = np.array([[0, 0], [0, 2], [10, 0], [10, 2], [4, 1]], dtype=np.float32)
    data = Embeddings(
        vectors=x,
        superclass=np.zeros(5, dtype=np.int64),
        superclass_names=("a",),
        split=np.array([0, 0, 0, 0, 2], dtype=np.int8),
    )
    found = discover(data, DiscoverConfig(clusters=2, reduce="none", length="own"))
    assert found.distance == pytest.approx(np.array([1, 1, 1, 1, 4]) / math.sqrt(26))  # every corner is that far out
    assert found.confidence[4] == pytest.approx(1 - 4 / 6)
    assert found.cluster[4] == found.cluster[0]


def test_units_do_not_matter():
    """Not even to a mixture along the direction between superclasses: penalty and smallest variance are absolute."""
    config = DiscoverConfig(reduce="hardness", components=1, length="own", method="mixture", least=2)
    data = clouds(seed=3)
    there = discover(data, config)
    tiny = discover(replace(data, vectors=(data.vectors * 1e-7).astype(np.float32)), config)
    assert np.array_equal(there.cluster, tiny.cluster)
    assert len(np.unique(there.cluster)) > 2


def test_large_superclasses_are_judged_on_a_sample(monkeypatch):
    data = clouds()
    exact = discover(data)
    monkeypatch.setattr(counting, "EXACT", 100)
    sampled = discover(data)
    fact = sampled.superclasses["class 1"]
    assert fact["silhouette_images"] == 100 < fact["images"]
    assert np.array_equal(sampled.cluster, exact.cluster)


def test_of_equal_silhouettes_the_larger_number_wins(monkeypatch):
    answers = iter([0.5] * 4 + [0.1] * 2 * counting.UNSTRUCTURED)  # for 2 to 5 clusters, then for clouds
    monkeypatch.setattr(counting, "mean_silhouette", lambda apart, label: next(answers))
    found = discover(clouds(kinds=(3,)), DiscoverConfig(most=5))
    assert found.superclasses["class 0"]["clusters"] == 5


def test_overclustering_recovers_a_rare_subclass_that_two_clusters_hide():
    data = clouds(kinds=(3,), images=1000, share=(1.0, 1.0, 0.15), apart=5.0, seed=3)
    two = DiscoverConfig(clusters=2, reduce="none", length="own")
    split_up = two.model_copy(update={"overcluster": True})
    rare = data.subclass == 2

    def best(found):
        clusters = [found.cluster == c for c in range(len(found.names))]
        return max(2 * (rare & mine).sum() / (rare.sum() + mine.sum()) for mine in clusters)

    assert best(discover(data, two)) < 0.5
    assert best(discover(data, split_up)) > 0.95
    easy = np.where(rare, 0.0, 1.0)  # the loss of a classifier that finds the rare ones easy
    assert best(discover(data, split_up, loss=easy)) < 0.5


def test_what_cannot_be_clustered_is_said_in_one_line(monkeypatch):
    data = clouds(kinds=(2, 2))
    same = data.vectors.copy()
    same[data.superclass == 1] = same[-1]
    with pytest.raises(DataError, match=r"2 different training embeddings; superclass 'class 1' has 1"):
        discover(replace(data, vectors=same), DiscoverConfig(clusters=2))
    with pytest.raises(DataError, match=r"fitted on training images; superclass 'class 1' has none"):
        discover(replace(data, split=np.where(data.superclass == 1, 2, 0).astype(np.int8)))
    with pytest.raises(DataError, match="5000 clusters need 5000 different"):
        discover(data, DiscoverConfig(clusters=5000))
    with pytest.raises(ConfigError, match="there is one only"):
        discover(data.take(data.superclass == 0), DiscoverConfig(reduce="hardness"))
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(ConfigError, match=r"pip install thanos-repr\[umap\]"):
        discover(data, DiscoverConfig(reduce="umap"))


def test_the_table_and_its_facts(tmp_path, capsys):
    data = replace(clouds(), refs=tuple(f"{i}.png" for i in range(840)))
    write_embeddings(data, tmp_path / "e.npz")
    out = tmp_path / "found.csv"
    typed = ["discover", str(tmp_path / "e.npz"), "--out", str(out)]
    assert run_command(typed) == 0
    found = discover(data)
    with out.open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["image"] for line in lines] == list(data.refs)
    assert [line["subclass"] for line in lines] == [found.names[c] for c in found.cluster]
    assert {line["split"] for line in lines} == {"train", "validation", "test"}
    facts = json.loads(out.with_suffix(".json").read_text())
    assert facts["recovery"]["test"]["macro_f1"] > 0.95
    assert facts["settings"]["method"] == "kmeans"
    said = capsys.readouterr().out
    assert "class 0: 3 subclasses of" in said
    assert "one cluster" in said
    out.write_text("my notes")
    with pytest.raises(OutputError, match="was not written by thanos discover"):
        run_command(typed)
    assert out.read_text() == "my notes"
