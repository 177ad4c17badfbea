"""Names that a person gave follow their images from one table of subclasses to the next, and none is ever lost."""

import numpy as np
import pytest
import yaml

from thanos.data.group_table import group_ids, read_table
from thanos.subclasses.names import GivenNames

IMAGES = [f"{i}.png" for i in range(20)]


@pytest.fixture(autouse=True)
def as_they_were():
    kept = list(IMAGES)
    yield
    IMAGES[:] = kept


def write(table, borders):
    """A table whose subclass k has the images from border k up to the next one."""
    subclass = np.searchsorted(borders, np.arange(20), side="right")
    found = {f"a/{k}": {IMAGES[i] for i in np.flatnonzero(subclass == k)} for k in range(len(borders) + 1)}
    given = GivenNames(table)
    table.write_text(
        "image,superclass,subclass\n" + "".join(f"{i},a,{k}\n" for k, own in found.items() for i in sorted(own))
    )
    print("\n".join(given.hand_on(found)))
    return yaml.safe_load(table.with_suffix(".yaml").read_text())


def test_a_name_goes_where_most_of_its_images_are(tmp_path, capsys):
    table = tmp_path / "t.csv"
    assert write(table, [10]) == {"a/0": "a/0", "a/1": "a/1"}
    table.with_suffix(".yaml").write_text("a/1: mine\n")
    assert write(table, [4, 11]) == {"a/0": "a/0", "a/1": "a/1", "a/2": "mine"}  # 9 of 10 images
    assert write(table, [5, 10, 13, 16]) == {f"a/{k}": f"a/{k}" for k in range(5)}  # none has more than 4 of 9
    assert "the images of mine, or" in capsys.readouterr().out
    assert "mine" in (tmp_path / "t-earlier.yaml").read_text()


def test_names_come_back_with_their_subclasses(tmp_path, capsys):
    table = tmp_path / "t.csv"
    write(table, [10])
    table.with_suffix(".yaml").write_text("a/0: left\na/1: right\n")
    assert write(table, [3, 6, 10]) == {"a/0": "a/0", "a/1": "a/1", "a/2": "a/2", "a/3": "right"}
    assert "the images of left, or" in capsys.readouterr().out
    assert write(table, [11]) == {"a/0": "left", "a/1": "right"}
    assert write(table, [3, 6, 10])["a/0"] == "a/0"
    assert write(table, [10]) == {"a/0": "left", "a/1": "right"}
    assert {file.name for file in tmp_path.iterdir()} >= {"t-earlier.csv", "t-earlier.yaml"}


def test_of_two_names_the_one_that_fits_better_is_taken(tmp_path, capsys):
    table = tmp_path / "t.csv"
    write(table, [8])
    table.with_suffix(".yaml").write_text("a/1: wheels\n")
    write(table, [8, 11, 14])  # 3, 3 and 6 of its 12 images
    table.with_suffix(".yaml").write_text("a/2: red ones\na/3: red ones\n")
    assert write(table, [8]) == {"a/0": "a/0", "a/1": "wheels"}  # 9 of 12 are red ones, all of them wheels
    assert "the images of red ones, or another name fits better" in capsys.readouterr().out


def test_names_follow_images_whose_folder_moved(tmp_path):
    table = tmp_path / "t.csv"
    IMAGES[:] = [f"/old/photos/{i % 2}/{i}.png" for i in range(20)]
    write(table, [10])
    table.with_suffix(".yaml").write_text("a/1: mine\n")
    IMAGES[:] = [f"/new/{i % 2}/{i}.png" for i in range(20)]
    assert write(table, [10]) == {"a/0": "a/0", "a/1": "mine"}
    assert read_table(table, table.with_suffix(".yaml"))["/new/1/11.png"].subclass == "mine"
    refs = [f"/third/place/{i % 2}/{i}.png" for i in range(20)]
    ids, names = group_ids({image: one.subclass for image, one in read_table(table).items()}, refs, table)
    assert ([names[i] for i in ids], names) == (["a/0"] * 10 + ["a/1"] * 10, ("a/0", "a/1"))


def test_merged_subclasses_that_become_one_keep_their_name(tmp_path):
    table = tmp_path / "t.csv"
    write(table, [5, 10])
    table.with_suffix(".yaml").write_text("a/0: left\na/1: left\n")
    assert write(table, [10]) == {"a/0": "left", "a/1": "a/1"}
    assert not list(tmp_path.glob("*-earlier*"))


def test_a_file_that_cannot_be_read_steps_aside_whole(tmp_path, capsys):
    table = tmp_path / "t.csv"
    write(table, [10])
    table.with_suffix(".yaml").write_text("a/0: [unclosed\n")
    assert write(table, [9]) == {"a/0": "a/0", "a/1": "a/1"}
    assert (tmp_path / "t-earlier.yaml").read_text() == "a/0: [unclosed\n"
    assert "the images of your names, or" in capsys.readouterr().out


def test_the_same_table_leaves_the_file_as_it_is(tmp_path):
    table = tmp_path / "t.csv"
    write(table, [10])
    mine = "# mine\na/1: right\n"
    table.with_suffix(".yaml").write_text(mine)
    write(table, [10])
    assert table.with_suffix(".yaml").read_text() == mine
