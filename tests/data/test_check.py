"""All faults of a set at once, each with its place; a set without faults has none."""

import csv
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from thanos.cli import run_command
from thanos.config import DataConfig, RunConfig, TrainConfig, read_yaml
from thanos.config.data import check_data
from thanos.data.check import check
from thanos.errors import ConfigError, DataError, OutputError
from thanos.training.fit import train


@pytest.fixture
def photos(tmp_path):
    """Forty pictures of cats and dogs in a CSV with splits; returns a function that writes rows into it."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(40):
        path = tmp_path / f"{i}.png"
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)
        split = "test" if i % 5 == 0 else "train"
        rows.append([path.name, ("cat", "dog")[i % 2], ("day", "night")[i % 3 == 0], split])

    def write(*more, changes=()):
        table = tmp_path / "labels.csv"
        for row, column, value in changes:
            rows[row][column] = value
        with table.open("w", newline="") as file:
            csv.writer(file).writerows([("path", "superclass", "group", "split"), *rows, *more])
        return table

    return write


def found(table, **settings):
    return check(DataConfig(data=str(table), **settings))


def test_a_set_without_faults(photos, capsys):
    table = photos()
    assert found(table).faults == []
    assert run_command(["check", str(table)]) == 0
    said = capsys.readouterr().out
    assert "no faults; next: thanos discover" in said
    lines = [line.split() for line in said.splitlines()]
    (cat,) = [[int(n) for n in line[1:]] for line in lines if line[0] == "cat"]
    assert (sum(cat), cat[2]) == (20, 4)
    day = sum(i % 3 != 0 for i in range(40))
    cats = sum(i % 3 != 0 and i % 2 == 0 for i in range(40))
    assert ["day", str(cats), str(day - cats)] in lines


def test_nine_planted_faults_are_nine_findings_with_their_rows(photos, tmp_path, capsys):
    (tmp_path / "3.png").write_bytes((tmp_path / "3.png").read_bytes()[:-40])  # cut short
    (tmp_path / "4.png").write_text("<html>404</html>")  # no image
    (tmp_path / "copy.png").write_bytes((tmp_path / "1.png").read_bytes())
    (tmp_path / "twin.png").write_bytes((tmp_path / "2.png").read_bytes())
    Image.new("RGB", (8, 8), "red").save(tmp_path / "red.png")
    Image.new("RGB", (8, 8), "blue").save(tmp_path / "blue.png")
    table = photos(
        ["nowhere.png", "cat", "day", "train"],  # row 42: missing
        ["red.png", "catt", "day", "train"],  # misspelt; and with it a superclass of one image
        ["7.png", "dog", "day", "train"],  # row 44: twice
        ["copy.png", "dog", "day", "test"],  # a test image that is a training image
        ["twin.png", "dog", "day", "train"],  # one picture under two labels
        ["blue.png", "dog", "day", "tets"],  # row 47: unknown split
        changes=[(6, 1, "n/a")],  # row 8: no label
    )
    checked = found(table)
    said = [f"{fault.where}: {fault.what}" for fault in checked.faults]
    planted = (
        "labels.csv row 42: nowhere.png: names the image 'nowhere.png', which does not exist",
        "labels.csv row 44: 7.png: lists 7.png a second time (first in row 9)",
        "labels.csv row 47: blue.png: has the split 'tets'",
        "labels.csv row 8: 6.png: has no superclass (it says 'n/a')",
        f"{tmp_path}/3.png: ",
        f"{tmp_path}/4.png: no image format is recognised",
        f"{tmp_path}/red.png: has the superclass 'catt', which 1 of {len(checked.images)} have (did you mean 'cat'?)",
        f"{tmp_path}/copy.png: is a test image with the pixels of the train image {tmp_path}/1.png",
        f"{tmp_path}/twin.png: is 'dog', and {tmp_path}/2.png with the same pixels is 'cat'",
        "training: every superclass needs two or more training images; 'catt'",
    )
    for each in planted:
        assert sum(line.startswith(each) for line in said) == 1, each
    assert len(said) == len(planted)
    with pytest.raises(DataError, match="10 faults in"):
        run_command(["check", str(table), "--out", str(tmp_path / "faults.csv")])
    assert capsys.readouterr().out.count("fault: ") == 10
    with (tmp_path / "faults.csv").open(newline="") as file:
        fates = Counter(row["fate"] for row in csv.DictReader(file))
    assert fates["fault"] + fates["skipped"] == 10
    assert fates["read"] == len(checked.images) - 3  # three images have a fault of their own


def test_what_could_be_meant_is_remarked_upon(photos, tmp_path):
    """A rare class with a name like another's may well be one."""
    Image.new("RGB", (20, 9), "red").save(tmp_path / "wide.png")
    changes = [(i, 1, "doog") for i in (1, 3, 7)]
    more = [[f"{i}x.png", "dog", "day", "train"] for i in range(40)]
    rng = np.random.default_rng(1)
    for name, *_ in more:
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(tmp_path / name)
    checked = found(photos(*more, ["wide.png", "cat", "day", "train"], changes=changes))
    assert checked.faults == []
    assert any("images of one square size are wanted" in remark for remark in checked.remarks)
    assert any("'doog'" in remark and "did you mean 'dog'" in remark for remark in checked.remarks)
    assert any("dog has 19 times the images of doog" in remark for remark in checked.remarks)


def test_a_long_list_is_cut_on_the_screen_only(photos, tmp_path, capsys):
    table = photos(*([f"none-{i}.png", "cat", "day", "train"] for i in range(60)))
    with pytest.raises(DataError, match="60 faults"):
        run_command(["check", str(table), "--out", str(tmp_path / "faults.csv")])
    said = capsys.readouterr().out
    assert said.count("fault: ") == 20
    assert "and 40 more; --out FILE.csv lists all" in said
    assert (tmp_path / "faults.csv").read_text().count("none-") == 120  # in the place and in the text


def test_no_other_file_is_overwritten(photos, tmp_path):
    (tmp_path / "notes.csv").write_text("mine")
    with pytest.raises(OutputError, match="not written by thanos check"):
        run_command(["check", str(photos(["nowhere.png", "cat", "", ""])), "--out", str(tmp_path / "notes.csv")])
    assert (tmp_path / "notes.csv").read_text() == "mine"


def test_training_mentions_test_images_that_it_trains_on(photos, tmp_path):
    (tmp_path / "copy.png").write_bytes((tmp_path / "1.png").read_bytes())
    table = photos(["copy.png", "dog", "day", "test"])
    said = []
    config = TrainConfig(data=str(table), batch=8, epochs=1, method="spread")
    train(config, tmp_path / "run", run=RunConfig(quiet=True, threads=1), say=said.append)
    assert sum("under two superclasses: 1; thanos check" in line for line in said) == 1


def test_a_misspelt_folder_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "new").mkdir()
    for name in ("nwe", str(tmp_path / "nwe")):
        with pytest.raises(ConfigError, match=r"no such path exists \(did you mean 'new'\?\)"):
            check_data(name)
    with pytest.raises(ConfigError, match=r"no such path exists \(did you mean 'digits'\?\)"):
        check_data("digts")
    with pytest.raises(ConfigError, match=r"no such path exists\."):
        check_data(str(tmp_path / "photographs"))
    (tmp_path / "names.yaml").touch()
    with pytest.raises(ConfigError, match=r"name.yaml does not exist \(did you mean 'names.yaml'\?\)"):
        read_yaml(tmp_path / "name.yaml")
