"""Which classes hide others: ranked by evidence, each side with its images, and nothing is written."""

import re
import shutil

import numpy as np
import pytest

from thanos.cli import run_command
from thanos.errors import ConfigError, DataError
from thanos.storage import read_json, write_marked_json
from thanos.storage.schemas import Found


@pytest.fixture(scope="module")
def vectors(tmp_path_factory):
    """Four superclasses: one of four kinds, one of two that are nearer, one cloud, and one of equal vectors."""
    rng = np.random.default_rng(0)
    parts, names, kinds = [], [], []
    for name, count, apart in (("four", 4, 6.0), ("two", 2, 3.0), ("cloud", 1, 0.0)):
        kind = np.arange(400) % count
        centre = apart * rng.normal(size=(count, 24)) / np.sqrt(24) * 2
        parts.append(centre[kind] + rng.normal(size=(400, 24)))
        names += [name] * 400
        kinds += [f"{name}{each}" for each in kind]
    parts.append(np.ones((30, 24)))
    names += ["equal"] * 30
    kinds += ["equal0"] * 30
    folder = tmp_path_factory.mktemp("split")
    refs = [f"photos/{kind}/{i}.png" for i, kind in enumerate(kinds)]
    np.savez(folder / "v.npz", X=np.concatenate(parts).astype(np.float32), y=np.array(names), id=np.array(refs))
    return folder / "v.npz"


def test_classes_that_hide_others_come_first_with_images_of_each_side(vectors, capsys):
    assert run_command(["split", str(vectors)]) == 0
    out = capsys.readouterr().out
    heads = re.findall(r"^(\w+): (.*)$", out, re.MULTILINE)
    said = {name: text for name, text in heads if name in ("four", "two", "cloud", "equal")}
    assert {*[*said][:2]} == {"four", "two"}
    assert said["four"].startswith("4 subclasses of 400 images (p < .0001, ")
    assert said["two"].startswith("2 subclasses of 400 images (p ")
    assert said["cloud"].startswith("one class as far as these vectors tell (400 images; p ")
    assert said["equal"].startswith("one class as far as these vectors tell (30 images; p 1, ")
    sides = re.findall(r"^  (part \d of four) +\d+, found again in 100% of fresh draws · (.*)$", out, re.MULTILINE)
    assert len(sides) == 4
    for _, shown in sides:
        assert len(shown.split(", ")) == 5
        assert len({image.split("/")[0] for image in shown.split(", ")}) == 1  # typical images are of one kind
    assert "2 of 4 superclasses are more than one class" in out
    assert [path.name for path in vectors.parent.iterdir()] == ["v.npz"]


def test_it_says_the_same_twice(vectors, capsys):
    said = []
    for _ in range(2):
        run_command(["split", str(vectors), "--seed", "3"])
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]


def test_what_it_cannot_look_at(vectors, tmp_path):
    broken = np.load(vectors)
    x = broken["X"].copy()
    x[7, 3] = np.nan
    np.savez(tmp_path / "nan.npz", X=x, y=broken["y"])
    with pytest.raises(DataError, match=r"row 7 of nan\.npz has numbers that are not finite"):
        run_command(["split", str(tmp_path / "nan.npz")])
    with pytest.raises(ConfigError, match="`without=age` needs the images, or columns beside the vectors"):
        run_command(["split", str(vectors), "--without", "age"])


def test_two_images_are_no_reason_to_stop(tmp_path, capsys):
    rng = np.random.default_rng(1)
    np.savez(tmp_path / "few.npz", X=rng.normal(size=(42, 5)).astype(np.float32), y=np.array(["a"] * 40 + ["b"] * 2))
    assert run_command(["split", str(tmp_path / "few.npz")]) == 0
    assert "b: one class as far as these vectors tell (2 images; p 1, " in capsys.readouterr().out


@pytest.fixture(scope="module")
def discovered(vectors, tmp_path_factory):
    """What discover leaves."""
    folder = tmp_path_factory.mktemp("discovered")
    assert run_command(["discover", str(vectors), "--number", "merging", "--out", str(folder / "found.csv")]) == 0
    return folder


def test_discover_finds_the_same_and_the_page_says_how_surely(discovered):
    page = re.sub(r"\s+", " ", (discovered / "found.html").read_text())
    assert "standard deviations better than in clouds of one piece" in page
    assert page.count("found again in 100.0% of fresh draws of images") >= 4


def test_a_report_says_of_each_subclass_its_own_probability(vectors, discovered, tmp_path):
    """In the order of the table and under a person's names, not those of the sizes; of merged ones nothing."""
    shutil.copytree(discovered, tmp_path, dirs_exist_ok=True)
    out = tmp_path / "found.csv"
    facts = read_json(out.with_suffix(".json"), Found)
    stated = {name: 0.1 + 0.2 * i for i, name in enumerate(reversed(facts["superclasses"]["four"]["holds"]))}
    facts["superclasses"]["four"]["holds"] = stated
    write_marked_json(out.with_suffix(".json"), facts)
    names = out.with_suffix(".yaml")
    names.write_text(names.read_text().replace("four/2: four/2", "four/2: anything"))
    run_command(["report", str(vectors), "--table", str(out), "--out", str(tmp_path / "r.html")])
    page = (tmp_path / "r.html").read_text()
    told = {
        name: re.search(r"found again in ([\d.]+)% of fresh draws", text)
        for name, text in re.findall(r"<h3>(four/\d|anything)</h3>(.*?)(?=<h3>|<h2>)", page, re.DOTALL)
    }
    assert {name: float(found[1]) for name, found in told.items()} == {
        name.replace("four/2", "anything"): pytest.approx(100 * share) for name, share in stated.items()
    }
    names.write_text(names.read_text().replace("four/1: four/1", "four/1: anything"))
    run_command(["report", str(vectors), "--table", str(out), "--out", str(tmp_path / "r.html")])
    page = (tmp_path / "r.html").read_text()
    of_merged = re.search(r"<h3>anything</h3>(.*?)(?=<h3>|<h2>)", page, re.DOTALL)[1]
    assert "fresh draws" not in of_merged
    assert re.search(r"<h3>four/0</h3>.*?found again in", page, re.DOTALL)


def test_it_says_that_what_discover_wrote_may_be_others(tmp_path, capsys):
    rng = np.random.default_rng(0)
    y = np.arange(200) % 2
    np.savez(tmp_path / "e.npz", vectors=rng.normal(size=(200, 4)).astype(np.float32), labels=y)
    run_command(["split", str(tmp_path / "e.npz")])
    assert "counted otherwise" not in capsys.readouterr().out
    run_command(["discover", str(tmp_path / "e.npz"), "--clusters", "2"])
    capsys.readouterr()
    run_command(["split", str(tmp_path / "e.npz")])
    assert "e-subclasses.csv has other subclasses, counted otherwise" in capsys.readouterr().out
    run_command(["discover", str(tmp_path / "e.npz"), "--number", "merging"])
    capsys.readouterr()
    run_command(["split", str(tmp_path / "e.npz")])
    assert "counted otherwise" not in capsys.readouterr().out
