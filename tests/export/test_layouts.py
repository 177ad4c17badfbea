"""Images with their subclasses, written for other tools: read back by their libraries where these are installed."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from thanos import load_vectors
from thanos.cli import main, run_command
from thanos.data.group_table import read_table
from thanos.embeddings import Embeddings, write_embeddings
from thanos.errors import DataError
from thanos.export.handed import Handed, folder_names
from thanos.export.layouts import LAYOUTS

HOSTILE = ("=1+2.png", "-test train.png", "é ü.png", "a;b,'c'.png", "..x.png", "con.png")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Pictures in files with hostile names, vectors of them, and subclasses that a person named."""
    folder = tmp_path_factory.mktemp("found")
    rng = np.random.default_rng(0)
    refs, n = [], 60
    kind = np.arange(n) % 4
    for i in range(n):
        file = folder / "photos" / "ab"[kind[i] // 2] / (HOSTILE[i] if i < len(HOSTILE) else f"{i}.png")
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)).save(file)
        refs.append(str(file))
    embeddings = Embeddings(
        vectors=(rng.normal(size=(4, 3)) * 4)[kind].astype(np.float32) + rng.normal(size=(n, 3)).astype(np.float32),
        superclass=kind // 2,
        superclass_names=("a", "b"),
        split=np.repeat([0, 1, 2], n // 3).astype(np.int8),
        subclass=np.where(np.arange(n) % 5 == 0, -1, kind),
        subclass_names=("red", "green", "blue", "=grey"),
        refs=tuple(refs),
    )
    write_embeddings(embeddings, folder / "e.npz")
    run_command(["discover", str(folder / "e.npz"), "--clusters", "2"])
    names = folder / "e-subclasses.yaml"
    head = [line for line in names.read_text().splitlines() if line.startswith("#")]
    names.write_text("\n".join([*head, '"a/0": "=HYPERLINK(1)"', '"b/0": "../../up\\n/x"', '"b/1": "train"']) + "\n")
    return folder, embeddings


@pytest.fixture(scope="module")
def called(found):
    """Each image's superclass and subclass as a person named it, by hand."""
    folder, embeddings = found
    listed = read_table(folder / "e-subclasses.csv")
    given = {"a/0": "=HYPERLINK(1)", "a/1": "a/1", "b/0": "../../up\n/x", "b/1": "train"}
    return [(listed[ref].superclass, given[listed[ref].subclass]) for ref in embeddings.refs]


def export(folder, to, out, *more):
    run_command(["export", str(folder / "e.npz"), "--to", to, "--out", str(out), *more])
    return out


def pixels(file):
    return np.asarray(Image.open(file))


def test_parquet_by_pyarrow_by_pandas_and_by_us(found, called, tmp_path):
    parquet, pandas = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pandas")
    folder, embeddings = found
    file = export(folder, "parquet", tmp_path / "t.parquet")
    columns = parquet.read_table(file).to_pydict()
    assert columns["path"] == list(embeddings.refs)
    assert list(zip(columns["superclass"], columns["subclass"], strict=True)) == called
    assert columns["split"] == ["train"] * 20 + ["validation"] * 20 + ["test"] * 20
    fine = ["" if k < 0 else embeddings.subclass_names[k] for k in embeddings.subclass]
    assert columns["fine_label"] == fine
    listed = read_table(folder / "e-subclasses.csv")
    assert columns["confidence"] == [listed[ref].confidence for ref in embeddings.refs]
    frame = pandas.read_parquet(file)  # as embedding-atlas and Spotlight do
    np.testing.assert_array_equal(np.stack(frame["vector"]), embeddings.vectors)
    again = load_vectors(file)
    np.testing.assert_array_equal(again.vectors, embeddings.vectors)
    assert [again.superclass_names[k] for k in again.superclass] == [superclass for superclass, _ in called]


def test_imagefolder_by_datasets(found, called, tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    folder, embeddings = found
    out = export(folder, "imagefolder", tmp_path / "hf")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    loaded = datasets.load_dataset("imagefolder", data_dir=str(out), cache_dir=str(tmp_path / "cache"))
    assert {split: len(part) for split, part in loaded.items()} == {"train": 20, "validation": 20, "test": 20}
    rows = [row for split in ("train", "validation", "test") for row in loaded[split]]
    by_path = {row["path"].removeprefix("'"): row for row in rows}
    assert len(by_path) == len(embeddings)
    for ref, (superclass, subclass) in zip(embeddings.refs, called, strict=True):
        row = by_path[ref]
        defused = f"'{subclass}" if subclass[0] == "=" else subclass
        assert (row["superclass"], row["subclass"]) == (superclass, defused)
        np.testing.assert_array_equal(np.asarray(row["image"]), pixels(ref))


def test_no_cell_of_a_table_is_a_formula(found, tmp_path):
    folder, _ = found
    out = export(folder, "imagefolder", tmp_path / "hf")
    files = [*out.rglob("metadata.csv")]
    assert len(files) == 3
    for file in files:
        with file.open(newline="", encoding="utf-8") as opened:
            cells = [cell for row in csv.reader(opened) for cell in row if cell]
        assert not [cell for cell in cells if cell[0] in "=+-@\t\r"]
        assert any(cell.startswith("'=HYPERLINK") for cell in cells)


def test_fiftyone_by_fiftyone(found, called, tmp_path):
    importers = pytest.importorskip("fiftyone.utils.data.importers", reason="reads with FiftyOne: pip install fiftyone")
    folder, embeddings = found
    out = export(folder, "fiftyone", tmp_path / "fo")
    importer = importers.FiftyOneImageClassificationDatasetImporter(dataset_dir=str(out))
    with importer:
        samples = list(importer)
    assert len(samples) == len(embeddings)
    for path, _, label in samples:
        i = int(Path(path).name.split("-")[0])
        assert label.label == called[i][1]
        np.testing.assert_array_equal(pixels(path), pixels(embeddings.refs[i]))


def test_fiftyone_as_its_documents_say(found, called, tmp_path):
    """``labels`` by file name without suffix, each a dict of label, confidence and attributes."""
    folder, embeddings = found
    out = export(folder, "fiftyone", tmp_path / "fo")
    content = json.loads((out / "labels.json").read_text())
    files = {file.stem: file for file in (out / "data").iterdir()}
    assert files.keys() == content["labels"].keys()
    assert content["classes"] is None
    for name, said in content["labels"].items():
        i = list(embeddings.refs).index(said["attributes"]["path"])
        assert (said["attributes"]["superclass"], said["label"]) == called[i]
        assert not {"label", "confidence", "tags", "id"} & said["attributes"].keys()  # Classification's own
        assert files[name].read_bytes() == open(embeddings.refs[i], "rb").read()  # noqa: SIM115


def test_coco_by_pycocotools_and_torchvision(found, called, tmp_path):
    pytest.importorskip("pycocotools", reason="reads with pycocotools: pip install pycocotools")
    from torchvision.datasets import CocoDetection

    folder, embeddings = found
    out = export(folder, "coco", tmp_path / "coco")
    read = CocoDetection(str(out / "data"), str(out / "labels.json"))
    assert len(read) == len(embeddings)
    for i, (image, (one,)) in enumerate(read):
        kind = read.coco.cats[one["category_id"]]
        assert (kind["supercategory"], kind["name"]) == called[i]
        np.testing.assert_array_equal(np.asarray(image), pixels(embeddings.refs[i]))
        assert one["bbox"] == [0, 0, 7, 5]


def test_coco_is_whole_in_itself(found, called, tmp_path):
    folder, embeddings = found
    content = json.loads((export(folder, "coco", tmp_path / "coco") / "labels.json").read_text())
    kinds = {kind["id"]: (kind["supercategory"], kind["name"]) for kind in content["categories"]}
    assert len(kinds) == len(content["categories"]) == 4
    images = {image["id"]: image for image in content["images"]}
    assert [images[one["image_id"]]["path"] for one in content["annotations"]] == list(embeddings.refs)
    assert [kinds[one["category_id"]] for one in content["annotations"]] == called
    for one in content["annotations"]:
        image = images[one["image_id"]]
        assert Image.open(tmp_path / "coco" / "data" / image["file_name"]).size == (image["width"], image["height"])


@pytest.mark.parametrize("link", [False, True])
def test_folders_by_torchvision(found, called, tmp_path, link):
    from torchvision.datasets import ImageFolder

    folder, embeddings = found
    out = export(folder, "folders", tmp_path / "sorted", *(["--link"] if link else []))
    assert sorted(each.name for each in out.iterdir()) == ["a", "b"]
    assert all(each.is_symlink() == link for each in out.rglob("*.png"))
    wanted: dict[tuple[str, str], int] = {}
    for kind in called:
        wanted[kind] = wanted.get(kind, 0) + 1
    sizes = []
    for top in ("a", "b"):
        read = ImageFolder(str(out / top))
        counts = np.bincount(read.targets).tolist()
        sizes += [(top, count) for count in counts]
    assert sorted(sizes) == sorted((top, count) for (top, _), count in wanted.items())
    by_bytes = {open(ref, "rb").read(): kind for ref, kind in zip(embeddings.refs, called, strict=True)}  # noqa: SIM115
    home = {}
    for file in out.rglob("*.png"):
        kind = by_bytes[file.read_bytes()]
        assert home.setdefault(kind, file.parent) == file.parent
        assert file.parent.parent == out / kind[0]


def test_folders_never_meet_or_lead_away():
    names = ["a/b", "a_b", "A_B", "..", ".", "", "con", "x" * 300, "x" * 301, "new\nline", "\u202egnp"]
    folders = folder_names(names)
    assert len({folder.lower() for folder in folders.values()}) == len(set(names))
    for folder in folders.values():
        assert 0 < len(folder) < 100
        assert not set(folder) & set("/\\\n\0:")
        assert folder.strip(".")


@pytest.mark.parametrize("to", ["fiftyone", "coco", "imagefolder", "folders"])
def test_pictures_that_are_no_files_become_png(tmp_path, to):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, 4, 6, 1), dtype=np.uint8)
    handed = Handed(
        ("s/0", "s/1", "s/2"), ("train",) * 3, ("s",) * 3, ("u", "v", "u"), np.ones(3), ("",) * 3, ("",) * 3,
        np.zeros((3, 2), np.float32), (None,) * 3, images,
    )  # fmt: skip
    LAYOUTS[to](handed, tmp_path / "out", link=False)
    files = sorted((tmp_path / "out").rglob("*.png"), key=lambda file: file.name)
    assert len(files) == 3
    for i, file in enumerate(files):
        np.testing.assert_array_equal(pixels(file), images[i, :, :, 0])


def run(*arguments):
    with pytest.raises(SystemExit) as done:
        main([str(each) for each in arguments])
    return done.value.code


def test_what_is_refused_and_that_nothing_is_left(found, tmp_path, capsys):
    folder, embeddings = found
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "mine").write_text("mine")
    bare = tmp_path / "bare.npz"
    write_embeddings(Embeddings(vectors=embeddings.vectors, superclass=embeddings.superclass,
                                superclass_names=("a", "b"), split=embeddings.split), bare)  # fmt: skip
    e = folder / "e.npz"
    for arguments, said in (
        ((e, "--to", "coco"), "--out names the folder to write"),
        ((e, "--to", "coco", "--out", tmp_path / "x.parquet"), "writes a folder"),
        ((e, "--to", "parquet", "--out", tmp_path / "x"), "writes a .parquet file"),
        ((e, "--to", "folders", "--out", tmp_path / "there"), "is there already"),
        ((e, "--to", "parquet", "--link", "--out", tmp_path / "x.parquet"), "--link is about pictures"),
        ((e, "--to", "csv", "--link", "--out", tmp_path / "x.csv"), "--link is about images"),
        ((bare, "--to", "folders", "--out", tmp_path / "x"), "has none: thanos discover"),
        ((e, "--to", "folders", "--names", tmp_path / "no.yaml", "--out", tmp_path / "x"), "does not exist"),
        ((e, "--to", "cocoa", "--out", tmp_path / "x"), "coco"),
    ):
        before = sorted(tmp_path.rglob("*"))
        assert run("export", *arguments) == 2
        err = capsys.readouterr().err
        assert said in err
        assert len(err.strip().splitlines()) == 1
        assert sorted(tmp_path.rglob("*")) == before


def test_a_picture_that_goes_leaves_nothing_behind(tmp_path):
    moved = tmp_path / "copy"
    moved.mkdir()
    gone = Image.fromarray(np.zeros((2, 2), np.uint8))
    gone.save(moved / "x.png")
    handed = Handed(
        ("x", "y"), ("test",) * 2, ("s",) * 2, ("u",) * 2, np.ones(2), ("",) * 2, ("",) * 2,
        np.zeros((2, 2), np.float32), (moved / "x.png", moved / "y.png"), None,
    )  # fmt: skip
    with pytest.raises(DataError, match=r"y\.png is gone"):
        LAYOUTS["fiftyone"](handed, tmp_path / "out", link=False)
    assert [each.name for each in tmp_path.iterdir()] == ["copy"]


def test_parquet_without_pyarrow(found, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    assert run("export", found[0] / "e.npz", "--to", "parquet", "--out", tmp_path / "x.parquet") == 2
    assert "pip install thanos-repr[parquet]" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
