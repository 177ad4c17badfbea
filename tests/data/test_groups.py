"""Waterbirds, CelebA and ISIC from fixtures in their exact formats; Waterbirds built from small CUB and Places."""

import csv

import numpy as np
import pytest
from PIL import Image

from thanos.config import DataConfig
from thanos.data import groups as room
from thanos.data.load import load
from thanos.data.waterbirds import build_waterbirds
from thanos.errors import DataError, OutputError

SPECIES = ("001.Black_footed_Albatross", "085.Horned_Lark")


def picture(path, colour=(200, 30, 30), size=(30, 20)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


def read(name, root, **settings):
    return load(DataConfig(data=name, root=root, size=16, **settings))


def by_split(images):
    return {s: np.bincount(images.group[images.rows(s)], minlength=4).tolist() for s in ("train", "validation", "test")}


@pytest.fixture
def waterbirds(tmp_path, monkeypatch):
    """metadata.csv as generate_waterbirds.py writes it: an index, names in folders, ids."""
    folder = tmp_path / "waterbird_complete95_forest2water2"
    rows, counts = [], {"train": [4, 1, 1, 2], "validation": [1, 2, 1, 1], "test": [2, 2, 1, 3]}
    for number, split in enumerate(counts):
        for group, count in enumerate(counts[split]):
            for _ in range(count):
                name = f"{SPECIES[1 - group // 2]}/Bird_{len(rows):04d}.jpg"
                picture(folder / name)
                rows.append([len(rows) + 1, name, group // 2, number, group % 2, "/b/bamboo_forest/00001.jpg"])
    with (folder / "metadata.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["img_id", "img_filename", "y", "split", "place", "place_filename"], *rows])
    monkeypatch.setitem(room.PUBLISHED_COUNTS, "waterbirds", {s: tuple(c) for s, c in counts.items()})
    return tmp_path, folder, counts


def test_waterbirds(waterbirds):
    root, folder, counts = waterbirds
    images = read("waterbirds", root)
    assert by_split(images) == counts
    assert images.group_names == ("landbird on land", "landbird on water", "waterbird on land", "waterbird on water")
    np.testing.assert_array_equal(images.group // 2, images.superclass)
    assert images.superclass_names == ("landbird", "waterbird")
    assert images.images.shape[1:] == (16, 16, 3)
    assert read("waterbirds", folder).fingerprint == images.fingerprint  # --root may be the folder itself


def test_other_counts_than_the_published_ones_are_said(waterbirds, monkeypatch):
    monkeypatch.undo()
    with pytest.raises(DataError, match=r"waterbirds has 3498, 184, 56, 1057 train images .* has 4, 1, 1, 2"):
        read("waterbirds", waterbirds[0])


def test_tables_by_tabs_and_semicolons(waterbirds):
    root, folder, counts = waterbirds
    table = folder / "metadata.csv"
    table.write_text(table.read_text().replace(",", "\t"))
    assert by_split(read("waterbirds", root)) == counts


def test_metadata_and_files_that_disagree(waterbirds):
    root, folder, _ = waterbirds
    gone = next(folder.glob("*/*.jpg"))
    gone.rename(gone.with_name("Stranger.jpg"))
    with pytest.raises(DataError, match=r"lists 21 images; 1 of them are not in .*; 1 that are there are not listed"):
        read("waterbirds", root)


@pytest.mark.parametrize(("change", "said"), [
    (("img_filename", "file"), "needs a column 'img_filename'"),
    ((",0,0,0,", ",0,7,0,"), "'split' holds 0 to 2; it has '7'"),
    (("Bird_0001", "Bird_0000"), "lists 085.Horned_Lark/Bird_0000.jpg twice"),
    ((",0,0,0,/b", ",0,0,/b"), "line 2 has 5 entries"),
])  # fmt: skip
def test_damaged_metadata(waterbirds, change, said):
    root, folder, _ = waterbirds
    table = folder / "metadata.csv"
    table.write_text(table.read_text().replace(*change))
    with pytest.raises(DataError, match=said):
        read("waterbirds", root)


def test_a_set_that_is_not_there_is_said_with_its_layout(tmp_path):
    for name in ("waterbirds", "celeba", "isic"):
        with pytest.raises(DataError, match=f"{name} was looked for in {tmp_path} as .* and not found"):
            read(name, tmp_path)


ATTRIBUTES = ["5_o_Clock_Shadow", "Blond_Hair", "Male", "Young"]
FACES = [(0, 0), (0, 1), (1, 0), (1, 1), (0, 0), (1, 0), (0, 1), (0, 0), (1, 1)]  # blond, male


@pytest.fixture
def celeba(tmp_path, monkeypatch):
    folder = tmp_path / "celeba"
    for i in range(len(FACES)):
        picture(folder / f"img_align_celeba/{i + 1:06d}.jpg", size=(18, 22))
    counts = {s: [0] * 4 for s in ("train", "validation", "test")}
    for i, (blond, male) in enumerate(FACES):
        counts[list(counts)[i % 3]][2 * blond + male] += 1
    monkeypatch.setitem(room.PUBLISHED_COUNTS, "celeba", {s: tuple(c) for s, c in counts.items()})
    return folder, counts


def celeba_text(folder):
    """The original files: a count, a header without the image's column, runs of spaces; no header in the partition."""
    lines = [str(len(FACES)), " ".join(ATTRIBUTES) + " "]
    for i, (blond, male) in enumerate(FACES):
        lines.append(f"{i + 1:06d}.jpg -1  {2 * blond - 1} {2 * male - 1:2d}  1")
    (folder / "list_attr_celeba.txt").write_text("\n".join(lines) + "\n")
    (folder / "list_eval_partition.txt").write_text("".join(f"{i + 1:06d}.jpg {i % 3}\n" for i in range(len(FACES))))


def celeba_csv(folder):
    """Kaggle's and WILDS' files."""
    lines = [",".join(["image_id", *ATTRIBUTES])]
    lines += [f"{i + 1:06d}.jpg,-1,{2 * b - 1},{2 * m - 1},1" for i, (b, m) in enumerate(FACES)]
    (folder / "list_attr_celeba.csv").write_text("\n".join(lines) + "\n")
    rows = "".join(f"{i + 1:06d}.jpg,{i % 3}\n" for i in range(len(FACES)))
    (folder / "list_eval_partition.csv").write_text("image_id,partition\n" + rows)


@pytest.mark.parametrize("write", [celeba_text, celeba_csv])
def test_celeba_in_both_published_formats(celeba, write):
    folder, counts = celeba
    write(folder)
    images = read("celeba", folder.parent)
    assert by_split(images) == counts
    assert images.group_names == ("not blond, female", "not blond, male", "blond, female", "blond, male")
    assert [(g // 2, g % 2) for g in images.group] == FACES


def test_celeba_without_its_partition(celeba):
    celeba_text(celeba[0])
    (celeba[0] / "list_eval_partition.txt").unlink()
    with pytest.raises(DataError, match="lacks list_eval_partition"):
        read("celeba", celeba[0].parent)


LESIONS = [("train", 0, 0), ("train", 0, 1), ("train", 1, 0), ("val", 0, 1), ("test", 1, 0), ("test", 0, 0)]


def isic_own(folder):
    for i in range(len(LESIONS)):
        picture(folder / f"images/lesion{i}.jpg")
    rows = "".join(f"lesion{i}.jpg,{s},{m},{p},{p}\n" for i, (s, m, p) in enumerate(LESIONS))
    (folder / "metadata.csv").write_text("image,split,malignant,patch,histopathology\n" + rows)


def isic_reader(folder):
    """What the published reader wants; an undecided lesion is left out."""
    for i in range(len(LESIONS) + 1):
        picture(folder / f"images/{i}.jpg")
    head = "Image Index,fold,benign_malignant,Diagnosis,patch,diagnosis_confirm_type\n"
    rows = "".join(
        f"{i}.jpg,{s},{('benign', 'malignant')[m]},{m},{p},{'histopathology' if p else 'single image'}\n"
        for i, (s, m, p) in enumerate(LESIONS)
    )
    (folder / "labels.csv").write_text(head + rows + f"{len(LESIONS)}.jpg,train,indeterminate,0,0,\n")


def isic_downloader(folder):
    """What the published downloader writes."""
    for i in range(len(LESIONS)):
        picture(folder / f"processed/images/id{i}.jpg")
    head = "_id,dataset.name,meta.clinical.diagnosis_confirm_type,is_malignant,split,patch\n"
    rows = "".join(
        f"id{i},{'SONIC' if p else 'HAM'},{'histopathology' if p else ''},{m},{s},{p}\n"
        for i, (s, m, p) in enumerate(LESIONS)
    )
    (folder / "processed/labels.csv").write_text(head + rows)


@pytest.mark.parametrize("write", [isic_own, isic_reader, isic_downloader])
@pytest.mark.parametrize(("name", "mark"), [("isic", "patch"), ("isic-histopathology", "histopathology")])
def test_isic_in_three_formats(tmp_path, write, name, mark):
    (tmp_path / "isic").mkdir()
    write(tmp_path / "isic")
    images = read(name, tmp_path)
    assert images.group_names == (f"benign, no {mark}", f"benign, {mark}", "malignant")
    assert images.group.tolist() == [2 if m else p for _, m, p in LESIONS]
    assert images.split.tolist() == [{"train": 0, "val": 1, "test": 2}[s] for s, _, _ in LESIONS]


def test_waterbirds_are_built_from_birds_masks_and_places(tmp_path):
    cub, masks, places = tmp_path / "CUB_200_2011", tmp_path / "segmentations", tmp_path / "data_large"
    listed, splits = [], []
    names = ("001.Black_footed_Albatross", "140.Western_Meadowlark")  # "tern" is part of the second
    for i in range(120):
        path = f"{names[i % 2]}/bird{i}.jpg"
        picture(cub / "images" / path, (255, 0, 0))
        mask = np.zeros((20, 30), dtype=np.uint8)
        mask[5:15, 10:20] = 255
        (masks / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save((masks / path).with_suffix(".png"))
        listed.append(f"{i + 1} {path}")
        splits.append(f"{i + 1} {int(i < 100)}")
    (cub / "images.txt").write_text("\n".join(listed))
    (cub / "train_test_split.txt").write_text("\n".join(splits))
    for kind, colour in (("bamboo_forest", (0, 255, 0)), ("forest/broadleaf", (0, 255, 0)), ("ocean", (0, 0, 255)),
                         ("lake/natural", (0, 0, 255))):  # fmt: skip
        for i in range(40):
            picture(places / kind[0] / kind / f"{i}.jpg", colour, size=(50, 60))
    folder = build_waterbirds(cub, masks, places, tmp_path, seed=0, say=lambda line: None)
    counts = {"train": (38, 2, 2, 38), "validation": (5, 5, 5, 5), "test": (5, 5, 5, 5)}
    images = load(DataConfig(data="waterbirds", root=tmp_path, size=20))
    assert {s: tuple(c) for s, c in by_split(images).items()} == counts
    pixels = images.images[np.arange(len(images))].astype(int)
    on_water = images.group % 2 == 1
    assert (pixels[on_water, 0, 0, 2] > 200).all()
    assert (pixels[~on_water, 0, 0, 1] > 200).all()
    assert (pixels[:, 10, 10, 0] > 200).all()
    with (folder / "metadata.csv").open() as file:
        used = [row["place_filename"] for row in csv.DictReader(file)]
    assert len(set(used)) == len(used)  # no place twice
    with pytest.raises(OutputError, match="is there already"):
        build_waterbirds(cub, masks, places, tmp_path, seed=0, say=lambda line: None)
    for extra in (places / "o/ocean").iterdir():
        extra.unlink()
    with pytest.raises(DataError, match=r"images of ocean and lake/natural are needed"):
        build_waterbirds(cub, masks, places, tmp_path / "new", seed=0, say=lambda line: None)
    assert not (tmp_path / "new").exists()
