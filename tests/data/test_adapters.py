"""The same images and labels are the same data set, wherever a person has them."""

import csv
from dataclasses import replace

import datasets
import numpy as np
import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet
from torch.utils.data import Dataset

from thanos.cli import run_command
from thanos.config import DataConfig, RunConfig, TrainConfig
from thanos.data.arrays import from_arrays, from_dataset
from thanos.data.imageset import ImageSet
from thanos.data.load import load
from thanos.errors import ConfigError, DataError
from thanos.training.fit import train

QUIET = RunConfig(quiet=True, threads=1)
KINDS = {"cat": "animals", "dog": "animals", "truck": "vehicles"}


@pytest.fixture(scope="module")
def pictures():
    """By fine class, in the order in which a folder lists them."""
    rng = np.random.default_rng(0)
    return {kind: rng.integers(0, 256, (14, 8, 8, 3), dtype=np.uint8) for kind in KINDS}


@pytest.fixture(scope="module")
def folder(pictures, tmp_path_factory):
    root = tmp_path_factory.mktemp("photos")
    for kind, images in pictures.items():
        for i, image in enumerate(images):
            path = root / KINDS[kind] / kind / f"{i:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
    return root


def table(path, folder, *, columns=("path", "superclass", "subclass"), delimiter=",", inside=True, extra=()):
    with path.open("w", newline="") as file:
        out = csv.writer(file, delimiter=delimiter)
        out.writerow([*columns, *extra])
        for image in sorted(folder.rglob("*.png")):
            where = image.relative_to(folder) if inside else image
            out.writerow([where, image.parent.parent.name, image.parent.name, *("7" for _ in extra)])
    return path


class Pairs(Dataset):
    """As torchvision's data sets: PIL images, integers, names."""

    def __init__(self, pictures):
        self.classes = list(KINDS)
        self._pairs = [(Image.fromarray(i), n) for n, images in enumerate(pictures.values()) for i in images]

    def __len__(self):
        return len(self._pairs)

    def __getitem__(self, i):
        return self._pairs[i]


def every_way(folder, pictures, tmp_path):
    """The same data through each adapter."""
    images = np.concatenate(list(pictures.values()))
    fine = np.repeat(list(KINDS), 14)
    coarse = np.array([KINDS[kind] for kind in fine])
    np.savez(tmp_path / "a.npz", images=images, superclass=coarse, subclass=fine)
    np.savez(tmp_path / "b.npz", X=images, y=coarse, fine_label=fine, ages=np.arange(42))
    named = {"columns": ("filename", "Label", "fine"), "inside": False}
    files = [str(path) for path in sorted(folder.rglob("*.png"))]
    rows = {"path": files, "superclass": coarse.tolist(), "subclass": fine.tolist()}
    parquet.write_table(pyarrow.table(rows), tmp_path / "paths.parquet")
    saved = datasets.Dataset.from_dict({"image": files, "label": rows["superclass"], "fine_label": rows["subclass"]})
    saved = saved.cast_column("image", datasets.Image())
    saved.save_to_disk(tmp_path / "saved")
    saved.to_parquet(tmp_path / "pictures.parquet")
    return {
        "parquet of paths": load(DataConfig(data=str(tmp_path / "paths.parquet"))),
        "parquet of pictures": load(DataConfig(data=str(tmp_path / "pictures.parquet"))),
        "Hugging Face folder": load(DataConfig(data=str(tmp_path / "saved"))),
        "folder": load(DataConfig(data=str(folder))),
        "csv": load(DataConfig(data=str(table(tmp_path / "a.csv", folder, inside=False)))),
        "tsv": load(DataConfig(data=str(table(tmp_path / "a.tsv", folder, inside=False, delimiter="\t")))),
        "other names": load(DataConfig(data=str(table(tmp_path / "b.csv", folder, delimiter=";", **named)))),
        "folder and labels": load(DataConfig(data=str(folder), labels=table(tmp_path / "c.csv", folder))),
        "npz": load(DataConfig(data=str(tmp_path / "a.npz"))),
        "npz, other names": load(DataConfig(data=str(tmp_path / "b.npz"))),
        "arrays": from_arrays(images, coarse, subclass=fine),
        "torch data set": from_dataset(Pairs(pictures), superclass=KINDS),
    }


def test_one_fingerprint(folder, pictures, tmp_path):
    found = {way: images.fingerprint for way, images in every_way(folder, pictures, tmp_path).items()}
    assert len(set(found.values())) == 1, found


def test_one_fingerprint_with_labels_that_some_readers_change(tmp_path):
    """``none`` and ``1.0``, by every way that has text."""
    pixels = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
    coarse = np.repeat(["1.0", "none"], 20)
    files = []
    for i, label in enumerate(coarse):
        place = tmp_path / "set" / label / f"{i:02d}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[i]).save(place)
        files.append(str(place))
    lines = ["path,superclass", *(f"{file},{label}" for file, label in zip(files, coarse, strict=True))]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    (tmp_path / "a.tsv").write_text("\n".join(lines).replace(",", "\t"))
    np.savez(tmp_path / "a.npz", images=pixels, superclass=coarse)
    parquet.write_table(pyarrow.table({"path": files, "superclass": coarse.tolist()}), tmp_path / "a.parquet")
    sources = [tmp_path / name for name in ("set", "a.csv", "a.tsv", "a.npz", "a.parquet")]
    found = {source: load(DataConfig(data=str(source), unknown="")) for source in sources}
    assert {images.fingerprint for images in found.values()} == {found[sources[0]].fingerprint}
    assert found[sources[0]].superclass_names == ("1.0", "none")
    for source in sources:
        with pytest.raises(DataError, match="20 of 40 rows have the superclass 'none'"):
            load(DataConfig(data=str(source)))


def test_arrays_of_each_split_as_medmnist_has_them(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", 20), ("val", 6), ("test", 8)):
        arrays[f"{part}_images"] = rng.integers(0, 256, (count, 8, 8), dtype=np.uint8)
        arrays[f"{part}_labels"] = (np.arange(count) % 2)[:, None]
    np.savez(tmp_path / "pneumonia.npz", **arrays)
    images = load(DataConfig(data=str(tmp_path / "pneumonia.npz")))
    assert [len(images.rows(split)) for split in ("train", "validation", "test")] == [20, 6, 8]
    assert images.superclass_names == ("0", "1")
    np.testing.assert_array_equal(images.of("test").images[np.arange(8)][..., 0], arrays["test_images"])


def test_one_outcome(folder, pictures, tmp_path):
    config = TrainConfig(method="spread", epochs=2, batch=16)
    ways = every_way(folder, pictures, tmp_path)
    ends = {}
    for way in ("folder", "npz", "torch data set", "Hugging Face folder", "parquet of pictures"):
        run = train(
            config, tmp_path / way, images=ways[way], run=RunConfig(quiet=True, threads=1), say=lambda line: None
        )
        ends[way] = run.metrics["final"]
    assert all(end == ends["folder"] for end in ends.values())


def test_what_was_taken_for_what_is_told(folder, tmp_path):
    file = table(
        tmp_path / "t.csv", folder, columns=("filename", "Label", "fine"), inside=False, extra=("age", "camera")
    )
    (note,) = load(DataConfig(data=str(file))).notes[:1]
    assert note == (
        "t.csv: path from 'filename', superclass from 'Label', subclass from 'fine' · not used: age, camera"
    )


def test_images_without_a_row_are_told(folder, tmp_path):
    file = table(tmp_path / "t.csv", folder)
    lines = file.read_text().splitlines()
    file.write_text("\n".join(lines[:-3]))
    images = load(DataConfig(data=str(folder), labels=file))
    assert len(images) == 39
    assert any(note == "3 files left out: 3 not in t.csv" for note in images.notes)
    assert len(images.left_out) == 3


@pytest.mark.parametrize("unknown", ["", "nan", None, -1])
def test_fine_labels_may_be_partly_missing(pictures, unknown):
    images = np.concatenate(list(pictures.values()))
    fine = np.repeat([0, 1, 2], 14).astype(object)
    fine[:5] = unknown
    if unknown == -1:
        fine = fine.astype(int)
    found = from_arrays(images, np.repeat([0, 0, 1], 14), subclass=fine)
    assert (found.subclass < 0).sum() == 5
    assert found.subclass_names == ("0", "1", "2")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"images": np.zeros((42, 8, 8, 3))}, "images are uint8"),
        ({"images": np.zeros((42, 3, 8, 8), np.uint8)}, "channels last"),
        ({"images": np.zeros((42, 2, 2), np.uint8)}, "4 pixels a side"),
        ({"superclass": np.zeros(41)}, "42 images and shape (41,)"),
        ({"superclass": np.full(42, 0.5)}, "integers or text"),
        ({"superclass": np.array(["a"] * 41 + ["nan"])}, "row 41 of arrays has none"),
        ({"split": np.array(["train"] * 41 + ["tets"])}, "'tets'"),
    ],
)
def test_arrays_that_cannot_be_used(pictures, change, said):
    given = {"images": np.concatenate(list(pictures.values())), "superclass": np.repeat([0, 0, 1], 14)} | change
    with pytest.raises(DataError) as error:
        from_arrays(**given)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_files_that_cannot_be_used(folder, pictures, tmp_path):
    images = np.concatenate(list(pictures.values()))
    np.savez(tmp_path / "none.npz", images=images)
    np.savez(tmp_path / "blank.npz", pixels=images, superclass=np.zeros(42))
    (tmp_path / "text.npz").write_text("x")
    for name, said in (
        ("none", "needs the array 'superclass'"),
        ("blank", "one array of images"),
        ("text", "an .npz of arrays, without pickled objects, is wanted"),
    ):
        with pytest.raises(DataError, match=said):
            load(DataConfig(data=str(tmp_path / f"{name}.npz")))
    with pytest.raises(ConfigError, match="did you mean 'subclass'"):
        load(DataConfig(data=str(folder), labels="subclas"))
    with pytest.raises(ConfigError, match="has its own labels"):
        load(DataConfig(data="digits", labels=table(tmp_path / "c.csv", folder)))
    with pytest.raises(DataError, match="superclass names one for every label; 'truck'"):
        from_dataset(Pairs(pictures), superclass={"cat": "a", "dog": "a"})


def test_labels_of_a_folder_from_the_command_line(folder, tmp_path, capsys):
    file = table(tmp_path / "t.csv", folder, columns=("image", "class", "fine"))
    arguments = ["train", "--data", str(folder), "--labels", str(file), "--method", "spread", "--epochs", "1"]
    assert run_command([*arguments, "--batch", "16", "--quiet", "--out", str(tmp_path / "run")]) == 0
    assert "superclass from 'class'" in capsys.readouterr().out
    assert run_command(["embed", str(tmp_path / "run")]) == 0


@pytest.mark.parametrize("extra", ["site", "class", "class_id", "age"])
def test_other_columns_are_left_out(folder, tmp_path, extra):
    file = table(tmp_path / "t.csv", folder, columns=("path", "superclass", "fine"), inside=False, extra=(extra,))
    (note,) = load(DataConfig(data=str(file))).notes[:1]
    assert f"not used: {extra}" in note


def test_arrays_of_a_file_are_checked_before_they_are_resized(tmp_path):
    np.savez(tmp_path / "x.npz", images=np.zeros((10, 3, 40, 40)), superclass=np.arange(10) % 2)
    with pytest.raises(DataError, match="images are uint8"):
        load(DataConfig(data=str(tmp_path / "x.npz"), size=32))
    with pytest.raises(DataError, match="10 images and 2 of them"):
        from_arrays(np.zeros((10, 8, 8), np.uint8), np.arange(10) % 2, refs=["a", "b"])


def test_images_in_a_map_are_read_once_for_their_fingerprints_and_again_when_the_file_changes(tmp_path, monkeypatch):
    """Equal to those of an array in memory; some rows of a map are not taken for all of it."""
    monkeypatch.setenv("THANOS_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    pixels, file = rng.integers(0, 256, (12, 4, 4, 3), dtype=np.uint8), tmp_path / "pixels.npy"
    reads = []
    digest = ImageSet._digest_pixels
    monkeypatch.setattr(ImageSet, "_digest_pixels", lambda images: reads.append(images) or digest(images))

    def as_map(content):
        np.save(file, content)
        return np.load(file, mmap_mode="r")

    def a_set(images):
        found = from_arrays(np.array(images), np.arange(len(images)) % 2, split=["train"] * len(images))
        return replace(found, images=images)

    def facts(images):
        return a_set(images).pixels, a_set(images).fingerprint

    kept = as_map(pixels)
    assert facts(kept) == facts(pixels)
    reads.clear()
    assert facts(np.load(file, mmap_mode="r")) == facts(kept)
    assert not reads
    assert facts(kept[2:]) == facts(pixels[2:])
    some = np.array([3, 5])
    assert a_set(kept).take(some).pixels == a_set(pixels).take(some).pixels
    changed = facts(as_map(255 - pixels))
    assert changed == facts(255 - pixels)
    assert changed != facts(pixels)
