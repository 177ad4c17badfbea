"""Groceries, lesions and signs: in small files of the exact layouts, and (marked real_data) the real ones."""

import csv
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from thanos.config import DataConfig
from thanos.data import coarse_to_fine as room
from thanos.data.draw import draw_units
from thanos.data.hierarchy import GTSRB, HAM10000
from thanos.data.load import load
from thanos.errors import DataError

SEEDS = range(4)
SPLITS = ("train", "validation", "test")
PARTS = ("HAM10000_images_part_1", "HAM10000_images_part_2")


def picture(path, size=(8, 6)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (200, 30, 30)).save(path)


def read(name, root, **settings):
    return load(DataConfig(data=name, root=root, **{"size": 8} | settings))


def write(path, rows, mark=","):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file, delimiter=mark).writerows(rows)


def replace_in(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def names_of(images):
    """Of each image its file, superclass, subclass and split."""
    labels = zip(images.refs, images.superclass, images.subclass, images.split, strict=True)
    return {Path(r).name: (images.superclass_names[c], images.subclass_names[f], SPLITS[s]) for r, c, f, s in labels}


def splits_of(images, unit):
    """The splits that each unit is in, by a function from a file to its unit."""
    found = {}
    for ref, split in zip(images.refs, images.split, strict=True):
        found.setdefault(unit(Path(ref)), set()).add(SPLITS[split])
    return found


# Groceries


FRUIT = [
    ("Royal-Gala", 0, "Apple", 0),
    ("Pink-Lady", 1, "Apple", 0),
    ("Banana", 2, "Banana", 1),
    ("Anjou", 3, "Pear", 2),
]


@pytest.fixture
def grocery(tmp_path, monkeypatch):
    """The folder with the lists; the last class has no validation image, as some of the real ones."""
    folder = tmp_path / "grocery" / "dataset"
    header = ["Class Name (str)", "Class ID (int)", "Coarse Class Name (str)", "Coarse Class ID (int)", "Iconic (str)"]
    write(folder / "classes.csv", [header, *((*fruit, f"/iconic/{fruit[0]}.jpg") for fruit in FRUIT)])
    for split, each, kinds in (("train", 3, 4), ("val", 1, 3), ("test", 2, 4)):
        lines = []
        for name, fine, coarse, coarse_id in FRUIT[:kinds]:
            for i in range(each):
                file = f"{split}/Fruit/{coarse}/{name}/{split}_{name}_{i}.jpg"
                picture(folder / file, (12, 8 + 8 * i))
                lines.append(f"{file}, {fine}, {coarse_id}\n")
        (folder / f"{split}.txt").write_text("".join(lines))
    monkeypatch.setitem(room.PUBLISHED_COUNTS, "grocery", (12, 3, 8))
    return folder


def test_groceries_keep_their_labels_and_their_splits(grocery):
    found = names_of(read("grocery", grocery.parent.parent, split_seed=3, validation=0.5))
    coarse = {name: superclass for name, _, superclass, _ in FRUIT}
    for file, (superclass, subclass, split) in found.items():
        official, name, _ = file.split("_")
        assert (superclass, subclass, split) == (coarse[name], name, {"val": "validation"}.get(official, official))
    assert [sum(split == s for *_, split in found.values()) for s in SPLITS] == [12, 3, 8]


@pytest.mark.parametrize(("file", "old", "new", "said"), [
    ("train.txt", "Pink-Lady_1.jpg, 1, 0", "Pink-Lady_1.jpg, 1, 2", "coarse class 2; that of Pink-Lady .* is 0"),
    ("val.txt", "Banana_0.jpg, 2, 1", "Banana_0.jpg, 7, 1", "'class' holds 0 to 3; it has ' 7' for val/Fruit/Banana"),
    ("test.txt", "Pink-Lady_1.jpg", "Pink-Lady_9.jpg", "1 of them are not in .*Lady_9.jpg first; 1 that are there"),
    ("classes.csv", "Banana,2", "Banana,1", "4 rows for 3 classes"),
    ("classes.csv", "Coarse Class ID", "Coarse ID", "needs a column 'Coarse Class ID"),
])  # fmt: skip
def test_grocery_lists_that_do_not_fit(grocery, file, old, new, said):
    replace_in(grocery / file, old, new)
    with pytest.raises(DataError, match=said) as error:
        read("grocery", grocery.parent.parent)
    assert "\n" not in str(error.value)


def test_a_grocery_that_no_list_names(grocery):
    picture(grocery / "train/Fruit/Pear/Anjou/more.jpg")
    with pytest.raises(DataError, match=r"train.txt lists 12 images; 1 beside them .* are not, .*Anjou/more.jpg first"):
        read("grocery", grocery.parent.parent)


# Lesions


@pytest.fixture
def ham10000(tmp_path, monkeypatch):
    """30 lesions of nv, 10 of each other dx, one to three images of each."""
    folder = tmp_path / "ham10000" / "data"
    rows = []
    for kind in HAM10000:
        for lesion in range(30 if kind == "nv" else 10):
            for _ in range(1 + lesion % 3):
                image = f"ISIC_{len(rows):04d}"
                picture(folder / "images" / f"{image}.jpg")
                rows.append([f"HAM_{kind}_{lesion}", image, kind, "histo"])
    monkeypatch.setitem(room.PUBLISHED_COUNTS, "ham10000", (len(rows),))
    write(folder / "HAM10000_metadata.csv", [["lesion_id", "image_id", "dx", "dx_type"], *rows])
    return folder, rows


def test_no_lesion_is_in_two_splits_and_the_test_part_is_fixed(ham10000):
    folder, rows = ham10000
    lesion = {f"{image}.jpg": unit for unit, image, *_ in rows}
    tests, validations = set(), set()
    for seed in SEEDS:
        images = read("ham10000", folder.parent.parent, split_seed=seed, validation=0.25)
        splits = splits_of(images, lambda path: lesion[path.name])
        assert all(len(found) == 1 for found in splits.values())
        of = {split: {unit for unit, found in splits.items() if found == {split}} for split in SPLITS}
        for kind in HAM10000:
            tested = sum(unit.split("_")[1] == kind for unit in of["test"])
            assert tested == (6 if kind == "nv" else 2)
        for superclass, lesions in (("benign", 60), ("malignant", 30)):
            held_out = sum(HAM10000[unit.split("_")[1]] == superclass for unit in of["validation"])
            assert abs(held_out - 0.25 * 0.8 * lesions) < 1
        tests.add(frozenset(of["test"]))
        validations.add(frozenset(of["validation"]))
    assert len(tests) == 1
    assert len(validations) == len(SEEDS)


def test_the_order_of_the_table_does_not_matter(ham10000):
    folder, rows = ham10000
    before = names_of(read("ham10000", folder.parent.parent))
    assert all(superclass == HAM10000[kind] for superclass, kind, _ in before.values())
    assert {file: kind for file, (_, kind, _) in before.items()} == {f"{image}.jpg": kind for _, image, kind, _ in rows}
    write(folder / "HAM10000_metadata.csv", [["lesion_id", "image_id", "dx", "dx_type"], *rows[::-1]])
    assert names_of(read("ham10000", folder.parent.parent)) == before


@pytest.mark.parametrize("table", ["HAM10000_metadata.csv", "HAM10000_metadata.tab", "HAM10000_metadata"])
def test_the_archives_of_ham10000_side_by_side(ham10000, table):
    folder, rows = ham10000
    before = names_of(read("ham10000", folder.parent.parent))
    for i, path in enumerate(sorted((folder / "images").iterdir())):
        picture(folder / PARTS[i % 2] / path.name)
        path.unlink()
    (folder / "images").rmdir()
    (folder / "HAM10000_metadata.csv").unlink()
    write(folder / table, [["lesion_id", "image_id", "dx", "dx_type"], *rows], "\t" if table.endswith("tab") else ",")
    assert names_of(read("ham10000", folder.parent.parent)) == before


@pytest.mark.parametrize(("old", "new", "said"), [
    ("HAM_nv_0,ISIC_0000,nv", "HAM_nv_0,ISIC_0000,scc", "dx is one of nv, .*'scc' for ISIC_0000"),
    ("HAM_nv_1,ISIC_0001,nv", "HAM_nv_1,ISIC_0001,mel", "one dx; .* has mel and nv for HAM_nv_1"),
    ("HAM_nv_0,ISIC_0000", ",ISIC_0000", "no lesion_id for ISIC_0000"),
    ("ISIC_0000", "ISIC_0001", "lists images/ISIC_0001.jpg twice"),
    ("ISIC_0000", "ISIC_9999", "1 of them are not in .*ISIC_9999.jpg first; 1 that are there"),
])  # fmt: skip
def test_a_table_of_lesions_that_does_not_fit(ham10000, old, new, said):
    folder, _ = ham10000
    replace_in(folder / "HAM10000_metadata.csv", old, new)
    with pytest.raises(DataError, match=said) as error:
        read("ham10000", folder.parent.parent)
    assert "\n" not in str(error.value)


def test_an_image_that_is_of_no_known_lesion(ham10000):
    picture(ham10000[0] / "images" / "more.jpg")
    with pytest.raises(DataError, match=r"1 beside them .* are not, images/more.jpg first"):
        read("ham10000", ham10000[0].parent.parent)


def test_lesions_without_a_folder_of_images(ham10000):
    (ham10000[0] / "images").rename(ham10000[0] / "pictures")
    with pytest.raises(DataError, match="has no such folder of images"):
        read("ham10000", ham10000[0].parent.parent)


# Signs


HEADER = ["Filename", "Width", "Height", "Roi.X1", "Roi.Y1", "Roi.X2", "Roi.Y2", "ClassId"]


def annotate(path, files, codes):
    write(path, [HEADER, *([file, 8, 8, 1, 1, 7, 7, code] for file, code in zip(files, codes, strict=True))], ";")


@pytest.fixture
def gtsrb(tmp_path, monkeypatch):
    """43 signs, each passed by four times with two images; a test image of each, in the opposite order."""
    folder = tmp_path / "gtsrb" / "GTSRB"
    files = [f"{track:05d}_{image:05d}.ppm" for track in range(4) for image in range(2)]
    for code in range(43):
        home = folder / f"Final_Training/Images/{code:05d}"
        for file in files:
            picture(home / file, (8, 8 + code % 2))
        annotate(home / f"GT-{code:05d}.csv", files, [code] * len(files))
        picture(folder / f"Final_Test/Images/{code:05d}.ppm")
    annotate(folder / "Final_Test/GT-final_test.csv", [f"{i:05d}.ppm" for i in range(43)], range(42, -1, -1))
    write(folder / "Final_Test/Images/GT-final_test.test.csv", [HEADER[:-1]], ";")
    monkeypatch.setitem(room.PUBLISHED_COUNTS, "gtsrb", (43 * 8, 43))
    return folder


def test_no_track_is_in_two_splits(gtsrb):
    validations = set()
    for seed in SEEDS:
        images = read("gtsrb", gtsrb.parent.parent, split_seed=seed, validation=0.25)
        splits = splits_of(images, lambda path: (path.parent.name, path.stem.split("_")[0]))
        assert all(len(found) == 1 for found in splits.values())
        assert len(images.rows("test")) == 43
        assert len(images.rows("validation")) == 43 * 2
        counts = images.counts()
        for superclass in set(GTSRB.values()):
            signs = [*GTSRB.values()].count(superclass)
            assert abs(counts["validation"][superclass] - 2 * signs) <= 2  # a track has two images
        validations.add(frozenset(unit for unit, found in splits.items() if found == {"validation"}))
    assert len(validations) == len(SEEDS)


def test_signs_are_named_by_their_ids(gtsrb):
    images, signs = read("gtsrb", gtsrb.parent.parent), list(GTSRB)
    assert sorted(images.subclass_names) == sorted(signs)
    assert set(images.superclass_names) == {"speed limit", "other prohibition", "danger", "mandatory", "other"}
    for ref, c, f, split in zip(images.refs, images.superclass, images.subclass, images.split, strict=True):
        path = Path(ref)
        code = 42 - int(path.stem) if split == 2 else int(path.parent.name)
        assert images.subclass_names[f] == signs[code]
        assert images.superclass_names[c] == GTSRB[signs[code]]
    assert (signs[0], signs[14], signs[17], signs[25], signs[40], signs[42]) == (
        "speed limit 20", "stop", "no entry", "road works", "roundabout", "end of no passing for trucks"
    )  # fmt: skip
    assert images.views.flip == 0


@pytest.mark.parametrize("place", ["Final_Test/Images", ".", ".."])
def test_labels_of_the_test_signs_lie_where_they_were_unpacked(gtsrb, place):
    before = names_of(read("gtsrb", gtsrb.parent.parent))
    (gtsrb / "Final_Test/GT-final_test.csv").rename(gtsrb / place / "GT-final_test.csv")
    assert names_of(read("gtsrb", gtsrb.parent.parent)) == before


def test_test_signs_without_labels(gtsrb):
    (gtsrb / "Final_Test/GT-final_test.csv").unlink()
    with pytest.raises(DataError, match=r"needs GT-final_test.csv, the labels of its test images"):
        read("gtsrb", gtsrb.parent.parent)


TRAINING = "Final_Training/Images/00007"


@pytest.mark.parametrize(("file", "old", "new", "said"), [
    (f"{TRAINING}/GT-00007.csv", "1;7;7;7", "1;7;7;8", "GT-00007.csv is of class 7; it has 8 for 00000_00000.ppm"),
    (f"{TRAINING}/GT-00007.csv", "1;7;7;7", "1;7;7;43", "'ClassId' holds 0 to 42; it has '43' for 00000_00000.ppm"),
    (f"{TRAINING}/GT-00007.csv", "00002_00001", "00002_00005", "1 of them are not in .*00002_00005.ppm first"),
    ("Final_Test/GT-final_test.csv", "00041.ppm", "00001.ppm", "lists 00001.ppm twice"),
])  # fmt: skip
def test_annotations_of_signs_that_do_not_fit(gtsrb, file, old, new, said):
    replace_in(gtsrb / file, old, new)
    with pytest.raises(DataError, match=said) as error:
        read("gtsrb", gtsrb.parent.parent)
    assert "\n" not in str(error.value)


def test_a_class_that_is_no_sign(gtsrb):
    (gtsrb / "Final_Training/Images/00043").mkdir()
    with pytest.raises(DataError, match=r"00000 to 00042; .*00043 is none of them"):
        read("gtsrb", gtsrb.parent.parent)


def test_a_sign_that_names_no_track(gtsrb):
    home = gtsrb / TRAINING
    (home / "00000_00000.ppm").rename(home / "left.ppm")
    replace_in(home / "GT-00007.csv", "00000_00000.ppm", "left.ppm")
    with pytest.raises(DataError, match=r"TRACK_IMAGE.ppm; .*left.ppm is not"):
        read("gtsrb", gtsrb.parent.parent)


# All three


# ISIC 2017


@pytest.fixture(name="isic-2017")
def isic_2017(tmp_path, monkeypatch):
    """Three diagnoses in each part; the table of the test part numbers its rows."""
    folder = tmp_path / "isic-2017" / "data"
    for part, first in (("Training", 0), ("Validation", 100), ("Test_v2", 200)):
        rows = [["image_id", "melanoma", "seborrheic_keratosis"]]
        for i in range(6):
            picture(folder / f"ISIC-2017_{part}_Data" / f"ISIC_{first + i:07d}.jpg")
            name = str(i + 1) if part == "Test_v2" else f"ISIC_{first + i:07d}"
            rows.append([name, f"{i % 3 == 0:d}.0", f"{i % 3 == 1:d}.0"])
        write(folder / f"ISIC-2017_{part}_Part3_GroundTruth.csv", rows)
    monkeypatch.setitem(room.PUBLISHED_COUNTS, "isic-2017", (6, 6, 6))
    return folder


def test_lesions_of_isic_2017_with_their_diagnosis_and_split(request, tmp_path):
    request.getfixturevalue("isic-2017")
    images = read("isic-2017", tmp_path)
    kinds = ["melanoma", "seborrheic keratosis", "nevus"]
    for file, (superclass, subclass, split) in names_of(images).items():
        number = int(file[5:12])
        assert subclass == kinds[number % 100 % 3]
        assert superclass == ("malignant" if subclass == "melanoma" else "benign")
        assert split == SPLITS[number // 100]
    assert any("numbers its rows" in note for note in images.notes)


@pytest.mark.parametrize(("change", "said"), [
    (lambda folder: (folder / "ISIC-2017_Test_v2_Data" / "ISIC_0000203.jpg").unlink(), "has 6 rows for the 5 images"),
    (lambda folder: (folder / "ISIC-2017_Training_Data" / "ISIC_0000003.jpg").unlink(), "1 of them are not in"),
    (lambda folder: picture(folder / "ISIC-2017_Training_Data" / "ISIC_0000009.jpg"), "1 beside them"),
])  # fmt: skip
def test_isic_2017_that_does_not_fit(request, tmp_path, change, said):
    change(request.getfixturevalue("isic-2017"))
    with pytest.raises(DataError, match=said):
        read("isic-2017", tmp_path)


def root_of(request, name):
    made = request.getfixturevalue(name)
    return made[0] if isinstance(made, tuple) else made


@pytest.mark.parametrize("name", room.TWO_LEVELS)
def test_the_outer_folder_may_be_absent_or_the_root_itself(tmp_path, request, name):
    folder = root_of(request, name)
    before = names_of(read(name, tmp_path))
    assert names_of(read(name, folder.parent)) == names_of(read(name, folder)) == before
    folder.rename(tmp_path / "moved")
    folder.parent.rmdir()
    (tmp_path / "moved").rename(tmp_path / name)
    assert names_of(read(name, tmp_path)) == before


@pytest.mark.parametrize(("name", "side"), [("grocery", 128), ("ham10000", 96), ("gtsrb", 32)])
def test_images_come_at_a_size_of_the_set_or_as_asked(tmp_path, request, monkeypatch, name, side):
    root_of(request, name)
    monkeypatch.setitem(room.TWO_LEVELS, name, replace(room.TWO_LEVELS[name], size=side))
    images = read(name, tmp_path, size=None)
    assert images.size == (side, side)
    assert f"{side} pixels a side, as no `size` is given" in images.notes
    images = read(name, tmp_path, size=16)
    assert images.size == (16, 16)
    assert not any("pixels a side" in note for note in images.notes)


@pytest.mark.parametrize("name", room.TWO_LEVELS)
def test_fewer_images_than_published(tmp_path, request, monkeypatch, name):
    root_of(request, name)
    monkeypatch.setitem(room.PUBLISHED_COUNTS, name, (50_000,))
    with pytest.raises(DataError, match=rf"{name} has 50,000 images; .* lists [0-9 +]+\. Fetch it again, or name"):
        read(name, tmp_path)


@pytest.mark.parametrize("name", room.TWO_LEVELS)
def test_a_set_that_is_not_there_is_said_with_its_layout(tmp_path, name):
    with pytest.raises(DataError, match=f"{name} was looked for in {tmp_path} as {name}/.* and not found") as error:
        read(name, tmp_path)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


UNITS = st.lists(st.integers(0, 4), min_size=2, max_size=40)  # the label of each unit


@given(UNITS, st.floats(0.01, 0.99), st.integers(0, 9), st.randoms(use_true_random=False))
def test_units_are_drawn_whole_and_each_label_keeps_its_share(labels, share, seed, order):
    unit = [f"unit {i:02d}" for i in range(len(labels)) for _ in range(1 + i % 3)]
    label = [labels[int(name[5:])] for name in unit]
    drawn = draw_units(unit, label, share, np.random.default_rng(seed))
    whole = dict(zip(unit, drawn, strict=True))
    assert all(whole[name] == each for name, each in zip(unit, drawn, strict=True))
    count = max(1, min(round(share * len(labels)), len(labels) - 1))
    assert sum(whole.values()) == count
    for kind in set(labels):
        mine = sum(whole[f"unit {i:02d}"] for i, each in enumerate(labels) if each == kind)
        assert abs(mine - count * labels.count(kind) / len(labels)) <= 1
    rows = list(range(len(unit)))
    order.shuffle(rows)
    again = draw_units([unit[i] for i in rows], [label[i] for i in rows], share, np.random.default_rng(seed))
    np.testing.assert_array_equal(again, drawn[rows])


@pytest.mark.real_data
@pytest.mark.parametrize(("name", "levels", "images"), [
    ("grocery", (43, 81), (2640, 296, 2485)), ("ham10000", (2, 7), 10_015), ("gtsrb", (5, 43), (39_209, 12_630)),
])  # fmt: skip
def test_the_real_data_set(monkeypatch, name, levels, images):
    root = os.environ.get("THANOS_DATA")
    if root is None or not (Path(root) / name).is_dir():
        pytest.skip(
            f"needs the real {name}: set THANOS_DATA to a folder that holds {name}/ in a layout docs/data-sets.md lists"
        )
    monkeypatch.delenv("THANOS_CACHE")
    data = read(name, Path(root), size=None)
    assert (len(data.superclass_names), len(data.subclass_names)) == levels
    train, validation, test = (len(data.rows(split)) for split in SPLITS)
    assert images in ((train, validation, test), (train + validation, test), train + validation + test)
    size = dict(zip(data.subclass_names, np.bincount(data.subclass).tolist(), strict=True))
    if name == "ham10000":
        assert size == {"nv": 6705, "mel": 1113, "bkl": 1099, "bcc": 514, "akiec": 327, "vasc": 142, "df": 115}
        assert np.bincount(data.superclass).tolist() == [8061, 1954]
        assert abs(test / 10_015 - 0.2) < 0.01
    if name == "gtsrb":
        assert (size["speed limit 20"], size["stop"], size["keep right"]) == (210 + 60, 780 + 270, 2070 + 690)
        assert abs(validation / 39_209 - 0.1) < 0.001
