"""Coarser and finer cuts: one split at a time, through the cut that discovery chose; kept, read back, taken."""

from dataclasses import replace

import numpy as np
import pytest
import yaml
from scipy.cluster.hierarchy import cut_tree, linkage
from sklearn.datasets import make_blobs

from thanos import DiscoverConfig, discover
from thanos.data.group_table import read_table
from thanos.embeddings import Embeddings
from thanos.evaluate.recovery import recovery_by_split
from thanos.storage import read_json, write_marked_json
from thanos.storage.schemas import Found
from thanos.subclasses.called import read_called
from thanos.subclasses.cuts import LEAST, Tree, with_cuts
from thanos.subclasses.table import read_discovered, write_discovered


def blobs(centres, each=60, seed=0):
    x, kind = make_blobs(
        [each] * len(centres), centers=np.array(centres, dtype=float), cluster_std=0.3, random_state=seed
    )
    superclass = np.zeros(len(x), dtype=np.int64)
    return Embeddings(
        vectors=x.astype(np.float32), superclass=superclass, superclass_names=("all",), split=np.zeros(len(x), np.int8)
    ), kind


SIX = [(0, 0), (0, 3), (10, 0), (10, 3), (30, 0), (30, 3)]


@pytest.mark.parametrize("number", ["silhouette", "merging"])
def test_every_cut_splits_one_part_of_the_coarser_one(number):
    embeddings, _ = blobs(SIX)
    found = with_cuts(embeddings, discover(embeddings, DiscoverConfig(length="own", number=number)))
    tree, leaf = found.cuts.trees["all"], found.cuts.leaf
    before = None
    for count in range(1, len(tree.leaves) + 1):
        cut = tree.cut(count)[leaf]
        assert len(np.unique(cut)) == count
        if before is not None:
            pairs = np.unique(np.stack([before, cut]), axis=1)
            assert pairs.shape[1] == count  # no part lies in two of the coarser ones
        before = cut
    chosen = tree.cut(tree.found)[leaf]
    assert len(np.unique(np.stack([chosen, found.cluster]), axis=1).T) == tree.found == len(found.names)
    names = np.array(tree.names)[chosen]
    assert (names == np.array(found.names)[found.cluster]).all()


def test_coarser_cuts_are_wards():
    embeddings, _ = blobs(SIX)
    found = with_cuts(embeddings, discover(embeddings, DiscoverConfig(length="own", clusters=6)))
    tree = found.cuts.trees["all"]
    wards = linkage(embeddings.vectors, "ward")
    for count in (1, 2, 3, 4, 5):
        mine = tree.cut(count)[found.cuts.leaf]
        true = cut_tree(wards, count)[:, 0]
        assert np.unique(np.stack([mine, true]), axis=1).shape[1] == count


def test_finer_cuts_find_what_was_left_together():
    embeddings, kind = blobs(SIX)
    found = with_cuts(embeddings, discover(embeddings, DiscoverConfig(length="own", clusters=3)))
    tree = found.cuts.trees["all"]
    assert np.unique(np.stack([tree.cut(6)[found.cuts.leaf], kind]), axis=1).shape[1] == 6
    assert all(name[:-1] in found.names for name in np.array(tree.names)[np.unique(tree.cut(6))])


def test_parts_have_images_enough():
    embeddings, _ = blobs([(0, 0)], each=2 * LEAST - 1)
    whole = DiscoverConfig(length="own", clusters=1)
    assert with_cuts(embeddings, discover(embeddings, whole)).cuts.trees["all"].leaves == ("all/0",)
    embeddings, _ = blobs([(0, 0), (9, 9)], each=LEAST)
    found = with_cuts(embeddings, discover(embeddings, whole))
    assert found.cuts.trees["all"].leaves == ("all/0a", "all/0b")


def test_names_of_nodes():
    tree = Tree(("x/0a", "x/0b", "x/1", "x/10"), ((0, 1), (2, 4), (3, 5)), 3)
    assert tree.names[4:] == ("x/0", "x/0+1", "x/0+1+10")


@pytest.mark.parametrize(
    "kept",
    [
        {"leaves": ["x/0", "x/1"], "merges": [], "found": 2},
        {"leaves": ["x/0", "x/1"], "merges": [[0, 0]], "found": 2},
        {"leaves": ["x/0", "x/1"], "merges": [[0, 2]], "found": 2},
        {"leaves": ["x/0", "x/1"], "merges": [[0, 1]], "found": 3},
        {"leaves": ["x/0", "x/1"], "merges": [[0, 1], [0, 1]], "found": 2},
    ],
)
def test_what_is_no_tree_is_none(kept):
    with pytest.raises(ValueError, match="not a tree"):
        Tree.of(kept)


def written(tmp_path):
    embeddings, _ = blobs(SIX)
    config = DiscoverConfig(length="own", clusters=3)
    found = with_cuts(embeddings, discover(embeddings, config))
    table = tmp_path / "subclasses.csv"
    recovered = recovery_by_split(embeddings, found.cluster)
    write_discovered(table, embeddings, found, config=config, recovered=recovered)
    return embeddings, found, table


def test_cuts_come_back_with_their_table(tmp_path):
    embeddings, found, table = written(tmp_path)
    again = read_discovered(table, None, embeddings, own=False, of="", again="")
    assert again.cuts.trees == found.cuts.trees
    assert (again.cuts.leaf == found.cuts.leaf).all()
    facts = read_json(table.with_suffix(".json"), Found)
    facts["superclasses"]["all"]["tree"]["merges"][0] = [0, 99]
    write_marked_json(table.with_suffix(".json"), facts)
    assert read_discovered(table, None, embeddings, own=False, of="", again="").cuts is None


def test_a_finer_part_is_taken_by_its_name(tmp_path):
    embeddings, found, table = written(tmp_path)
    names = tmp_path / "names.yaml"
    names.write_text(yaml.safe_dump({"all/0a": "upper", "all/1": "pair", "all/2b": "pair"}))
    taken = read_discovered(table, names, embeddings, own=False, of="", again="")
    finest = np.array(found.cuts.trees["all"].leaves)[found.cuts.leaf]
    wanted = [
        "upper" if leaf.startswith("all/0a")
        else "pair" if leaf.startswith(("all/1", "all/2b"))
        else leaf[:5]
        for leaf in finest
    ]  # fmt: skip
    assert np.array(taken.names)[taken.cluster].tolist() == wanted
    called = read_called(table, read_table(table, names), lambda: embeddings, print)
    assert called.names == {"all/1": "pair"}
    assert set(called.apart) == {"all/0", "all/2"}
    assert sum(len(apart.group) for apart in called.apart.values()) == (np.char.find(finest, "all/1") < 0).sum()


def test_a_part_of_another_subclass_is_not_taken_for_one(tmp_path):
    _, _, table = written(tmp_path)
    text = table.read_text().replace("all/0a", "elsewhere")  # a table that somebody edited
    table.write_text(text)
    assert {member.homes[-1] for member in read_table(table).values()} == {"all/0", "all/1", "all/2"}


def test_without_what_was_fitted_there_are_no_cuts():
    embeddings, _ = blobs(SIX)
    found = replace(discover(embeddings), fitted=None)
    assert with_cuts(embeddings, found) is found
