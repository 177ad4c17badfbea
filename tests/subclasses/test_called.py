"""Names of discovered subclasses told of new images, those of subclasses that a person took apart among them."""

import csv

import numpy as np
import pytest
import yaml
from sklearn.neighbors import KNeighborsClassifier

from thanos import Embeddings
from thanos.cli import run_command
from thanos.data.group_table import mark, read_table
from thanos.embeddings import write_embeddings
from thanos.subclasses.called import NEAREST, Apart, Called, read_called


def test_the_vote_is_that_of_scikit_learns_neighbours():
    rng = np.random.default_rng(0)
    x, new = (rng.normal(size=(n, 6)).astype(np.float32) for n in (80, 40))
    side = (x[:, 0] > 0).astype(np.int64)
    model = KNeighborsClassifier(NEAREST, metric="cosine", weights=lambda apart: 2 - apart).fit(x, side)
    told = [("left", "right")[each] for each in model.predict(new)]
    assert Apart(x, side, ("left", "right")).vote(7 * new) == told


def test_of_equally_many_votes_the_nearest_decide():
    angle = np.array([0.1, 0.2, 0.3, 0.4])
    unit = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    apart = Apart(unit, np.array([1, 1, 0, 0]), ("far", "near"))
    assert apart.vote(np.array([[1.0, 0.0]], dtype=np.float32)) == ["near"]


def test_only_what_was_taken_apart_is_looked_up():
    apart = Apart(np.eye(2, dtype=np.float32), np.array([0, 1]), ("x", "y"))
    called = Called({"a/0": "whole"}, {"a/1": apart})
    vectors = np.array([[0, 1], [0, 1], [5, 1], [0, 1], [0, 1]], dtype=np.float32)
    assert called.of(vectors, ["a/0", "a/1", "a/1", "none of them", ""]) == ("whole", "y", "x", "none of them", "")


@pytest.fixture
def source(tmp_path):
    """Vectors of two superclasses, of two clouds each, with their subclasses discovered."""
    kind = np.repeat(np.arange(4), 60)
    rng = np.random.default_rng(0)
    x = (6 * np.eye(4, 8)[kind] + rng.normal(size=(240, 8))).astype(np.float32)
    split = np.tile([0, 0, 1, 2], 60).astype(np.int8)
    data = Embeddings(vectors=x, superclass=kind // 2, superclass_names=("a", "b"), split=split)
    file = tmp_path / "e.npz"
    write_embeddings(data, file)
    run_command(["discover", str(file), "--clusters", "2"])
    return file, data, tmp_path / "e-subclasses.csv"


def save(table, **said):
    members = read_table(table)
    file = table.with_name("edited.yaml")
    of = mark({image: one.subclass for image, one in members.items()})
    file.write_text(yaml.safe_dump({"edits": 1, "table": of, "names": {}, "moved": [], "marks": {}} | said))
    return file


def test_classify_tells_groups_that_were_moved_out_of_a_subclass(source, capsys):
    """Half of a cloud is moved to a group of its own: the same vectors are told as they were edited."""
    file, data, table = source
    mine = [image for image, one in read_table(table).items() if one.subclass == "a/0"]
    side = [image for image in mine if data.vectors[int(image), 7] > 0]
    moved = [{"image": image, "content": "", "superclass": "a", "to": "upper"} for image in side]
    edited = save(table, names={"a/0": "lower", "b/1": "wheels"}, moved=moved)
    run_command(["robust", str(file), "--method", "erm"])
    capsys.readouterr()
    run_command(["classify", str(file), "--names", str(edited), "-o", str(file.with_name("p.csv"))])
    assert "a/0: taken apart by hand; a new image is of the group that most" in capsys.readouterr().out
    with file.with_name("p.csv").open(newline="") as opened:
        told = {row["image"]: row["subclass"] for row in csv.DictReader(opened)}
    wanted = {image: one.subclass for image, one in read_table(table, edited).items()}
    same = np.mean([told[image] == wanted[image] for image in wanted])
    assert set(told.values()) - {"none of them"} == {"upper", "lower", "a/1", "b/0", "wheels"}
    assert same > 0.9


def test_without_the_embeddings_subclasses_taken_apart_keep_their_names(source):
    _, _, table = source
    image = next(image for image, one in read_table(table).items() if one.subclass == "a/0")
    edited = save(table, names={"b/0": "x"}, moved=[{"image": image, "content": "", "superclass": "a", "to": "new"}])
    said = []
    called = read_called(table, read_table(table, edited), lambda: None, said.append)
    assert called.names["b/0"] == "x"
    assert "a/0" not in called.names
    assert called.apart == {}
    assert said == ["a/0: taken apart by hand, which is not told of new images without the embeddings"]
