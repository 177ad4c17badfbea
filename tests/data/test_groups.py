"""Waterbirds, CelebA and ISIC from fixtures in their exact formats; Waterbirds built from small CUB and Places."""

import csv
import json
import os
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from thanos.config import DataConfig
from thanos.data import coarse_to_fine
from thanos.data import groups as room
from thanos.data.check import check
from thanos.data.load import load
from thanos.data.splits import split_by_group
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


MANY = [(i % 4 // 2, i % 2) for i in range(20)] + [(0, 0)] * 20  # 5 images of a group, 25 of the first


def faces(folder, labels, *, home="celebA", side=22, listed=None):
    """Half the set as copies of it lie: some images, each with content of its own, a table that lists more, a count."""
    for i in range(len(labels)):
        picture(folder / home / f"{i + 1:06d}.jpg", (5 * i, 30, 30), (side - 4, side))
    lines = ["202599", " ".join(ATTRIBUTES) + " "]
    lines += [f"{i + 1:06d}.jpg -1 {2 * b - 1:2d} {2 * m - 1:2d}  1" for i, (b, m) in enumerate((labels * 2)[:listed])]
    (folder / "list_attr_celeba.txt").write_text("\n".join(lines) + "\n")
    return folder


def groups_by_file(images):
    return {Path(ref).name: (int(g), int(s)) for ref, g, s in zip(images.refs, images.group, images.split, strict=True)}


def test_celeba_without_its_partition_is_split_within_every_group(tmp_path):
    faces(tmp_path / "celeba", MANY)
    images = read("celeba", tmp_path)
    assert by_split(images) == {"train": [15, 3, 3, 3], "validation": [5, 1, 1, 1], "test": [5, 1, 1, 1]}
    assert any("40 of 80 rows of list_attr_celeba.txt have their image" in note for note in images.notes)
    assert any("split 60/20/20 within every group by `split_seed=0`: list_eval_part" in note for note in images.notes)
    assert any("not blond, female 15/5/5; not blond, male 3/1/1;" in note for note in images.notes)
    again, other = read("celeba", tmp_path), read("celeba", tmp_path, split_seed=1)
    assert groups_by_file(again) == groups_by_file(images)
    assert groups_by_file(other) != groups_by_file(images)
    assert read("celeba", tmp_path / "celeba").fingerprint == images.fingerprint


def test_a_partition_that_covers_every_group_is_kept_and_another_is_not(tmp_path):
    folder = faces(tmp_path / "celeba", MANY)
    partition = folder / "list_eval_partition.txt"
    partition.write_text("".join(f"{i + 1:06d}.jpg {i // 4 % 3}\n" for i in range(len(MANY))))
    images = read("celeba", tmp_path)
    assert {int(name[:6]): split for name, (_, split) in groups_by_file(images).items()} == {
        i + 1: i // 4 % 3 for i in range(len(MANY))
    }
    partition.write_text("".join(f"{i + 1:06d}.jpg 0\n" for i in range(len(MANY))))
    images = read("celeba", tmp_path)
    assert by_split(images)["test"] == [5, 1, 1, 1]
    assert any("its own leave no validation image of not blond, female" in note for note in images.notes)
    partition.write_text("000001.jpg 0\n")
    assert any("list_eval_partition.txt leaves some out" in note for note in read("celeba", tmp_path).notes)


def test_the_official_counts_are_demanded_of_whole_tables_only(celeba, monkeypatch):
    folder, counts = celeba
    celeba_text(folder)
    wrong = {split: tuple(each[::-1]) for split, each in counts.items()}
    monkeypatch.setitem(room.PUBLISHED_COUNTS, "celeba", wrong)
    with pytest.raises(DataError, match=r"celeba has .* train images of not blond, female"):
        read("celeba", folder.parent)
    (folder / "list_eval_partition.txt").unlink()
    with pytest.raises(DataError, match=r"'blond, female' has 1 image. Add some, or name the splits in a CSV") as error:
        read("celeba", folder.parent)  # two faces of one colour are one picture
    assert "\n" not in str(error.value)


def test_faces_are_not_enlarged_without_a_word(tmp_path):
    faces(tmp_path / "celeba", MANY)
    images = load(DataConfig(data="celeba", root=tmp_path))
    assert images.size == (18, 18)
    assert "18 pixels a side, as no `size` is given" in images.notes
    asked = load(DataConfig(data="celeba", root=tmp_path, size=24))
    assert any(note.startswith("40 of 40 brought to 24x24, enlarged from 18 pixels") for note in asked.notes)
    faces(tmp_path / "large" / "celeba", MANY, side=240)
    large = load(DataConfig(data="celeba", root=tmp_path / "large"))
    assert large.size == (room.SIZE, room.SIZE)


def test_images_without_a_row_are_left_out_and_counted(tmp_path):
    faces(tmp_path / "celeba", MANY, home="img_align_celeba", listed=20)
    images = read("celeba", tmp_path)
    assert len(images) == 20
    assert {reason for _, reason in images.left_out} == {"without a row in list_attr_celeba.txt"}
    assert len(images.left_out) == 20


@pytest.mark.parametrize(("old", "new", "said"), [
    ("Blond_Hair", "Brown_Hair", "needs a column 'Blond_Hair'; it has"),
    ("000002.jpg", "000001.jpg", "lists celebA/000001.jpg twice"),
    ("000002.jpg -1 -1", "000002.jpg -1 7", "Blond_Hair is 1 or -1; .* has '7' for 000002.jpg"),
    (".jpg", ".png", "lists 80 images; none is in .*celebA"),
])  # fmt: skip
def test_a_table_of_faces_that_does_not_fit(tmp_path, old, new, said):
    table = faces(tmp_path / "celeba", MANY) / "list_attr_celeba.txt"
    table.write_text(table.read_text().replace(old, new))
    with pytest.raises(DataError, match=said) as error:
        read("celeba", tmp_path)
    assert "\n" not in str(error.value)


def test_faces_without_a_folder_or_a_group(tmp_path):
    folder = faces(tmp_path / "celeba", MANY)
    (folder / "celebA").rename(folder / "pictures")
    with pytest.raises(DataError, match="has no such folder of images"):
        read("celeba", tmp_path)
    faces(tmp_path / "other" / "celeba", [(0, 0), (0, 1), (1, 0)] * 5)
    with pytest.raises(DataError, match="celeba has no image of 'blond, male' among the 15 that are there"):
        read("celeba", tmp_path / "other")


@pytest.mark.parametrize("seed", range(3))
def test_every_group_keeps_its_share_in_every_split_and_units_whole(seed):
    rng = np.random.default_rng(seed)
    group = rng.permutation(np.repeat(["a", "b", "c"], [200, 37, 3]))
    unit = np.array([f"{g}{rng.integers(60)}" if g == "a" else str(i) for i, g in enumerate(group)])
    split = np.array(split_by_group(unit, group, seed))
    for name in "abc":
        units = {part: set(unit[(group == name) & (split == part)]) for part in ("train", "validation", "test")}
        size = len(set.union(*units.values()))
        assert sum(map(len, units.values())) == size  # none in two
        assert all(units.values())
        assert abs(len(units["test"]) - 0.2 * size) < 1
        assert abs(len(units["validation"]) - 0.2 * size) < 1
    order = rng.permutation(len(group))
    assert split_by_group(unit[order], group[order], seed) == split[order].tolist()


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


PATCHED = json.loads(files("thanos.data").joinpath("isic_2017_patches.json").read_text("utf-8"))
BENIGN = [name for name in PATCHED["patched"]["train"] if name not in PATCHED["malignant"]]


@pytest.fixture
def challenge(tmp_path, monkeypatch):
    """The 2017 challenge: four patched images, one of them malignant, and none in the numbered test part."""
    folder, shade = tmp_path / "isic", iter(range(1, 250))
    parts = {
        "Training": [*BENIGN[:2], *PATCHED["malignant"], *(f"ISIC_90000{i:02d}" for i in range(9))],
        "Validation": [*PATCHED["patched"]["validation"][:1], *(f"ISIC_91000{i:02d}" for i in range(5))],
        "Test_v2": [f"ISIC_92000{i:02d}" for i in range(6)],
    }
    for part, names in parts.items():
        rows = []
        for i, name in enumerate(names):
            picture(folder / f"ISIC-2017_{part}_Data" / f"{name}.jpg", (next(shade), 90, 90))
            bad = name in PATCHED["malignant"] or (i % 3 == 0 and "ISIC_9" in name)
            rows.append(f"{i + 1 if part == 'Test_v2' else name},{bad:d}.0,0.0\n")
        table = folder / f"ISIC-2017_{part}_Part3_GroundTruth.csv"
        table.write_text("image_id,melanoma,seborrheic_keratosis\n" + "".join(rows))
    monkeypatch.setitem(coarse_to_fine.PUBLISHED_COUNTS, "isic-2017", tuple(len(names) for names in parts.values()))
    return folder


def test_the_challenge_of_2017_with_the_patches_that_were_looked_up(challenge):
    images = read("isic", challenge.parent)
    assert images.name == "isic"
    assert images.group_names == ("benign, no patch", "benign, patch", "malignant")
    assert images.superclass_names == ("benign", "malignant")
    found = groups_by_file(images)
    patched = [*BENIGN[:2], *PATCHED["patched"]["validation"][:1]]
    assert {name for name, (group, _) in found.items() if group == 1} == {f"{name}.jpg" for name in patched}
    assert found[f"{PATCHED['malignant'][0]}.jpg"][0] == 2
    assert all(min(counts[:3]) > 0 for counts in by_split(images).values())
    assert any("its own leave no test image of benign, patch" in note for note in images.notes)
    assert any("numbers its rows" in note for note in images.notes)
    assert read("isic", challenge).fingerprint == images.fingerprint


def test_one_picture_under_two_ids_is_in_one_split(challenge):
    home, other = challenge / "ISIC-2017_Training_Data", challenge / "ISIC-2017_Test_v2_Data"
    for i in (1, 2, 4):
        (other / f"ISIC_920000{i}.jpg").write_bytes((home / f"ISIC_900000{i}.jpg").read_bytes())
    for seed in range(6):
        found = groups_by_file(read("isic", challenge.parent, split_seed=seed))
        assert all(found[f"ISIC_920000{i}.jpg"][1] == found[f"ISIC_900000{i}.jpg"][1] for i in (1, 2, 4))


@pytest.mark.parametrize(("change", "said"), [
    (("image_id,melanoma,seborrheic_keratosis", "image,MEL,NV"), "needs a column 'image_id'; it has image, MEL, NV"),
    (("ISIC_9000001", "ISIC_9000000"), "lists ISIC_9000000.jpg twice"),
    (("ISIC_9000001", "ISIC_9999999"), "1 of them are not in .*ISIC_9999999.jpg first"),
    (("ISIC_9000001,0.0", "ISIC_9000001,2.0"), "'melanoma' holds 0 to 1; it has '2.0'"),
])  # fmt: skip
def test_tables_of_the_challenge_that_do_not_fit(challenge, change, said):
    table = challenge / "ISIC-2017_Training_Part3_GroundTruth.csv"
    table.write_text(table.read_text().replace(*change))
    with pytest.raises(DataError, match=said) as error:
        read("isic", challenge.parent)
    assert "\n" not in str(error.value)


def test_the_challenge_says_nothing_of_histopathology(challenge):
    with pytest.raises(DataError, match="isic-histopathology was looked for"):
        read("isic-histopathology", challenge.parent)


def test_the_list_of_patches_is_what_its_header_says():
    first, second, both = (PATCHED["passes"][key] for key in ("first", "second", "both"))
    alone = [PATCHED["passes"][key] for key in ("first_only", "second_only")]
    assert (first - both, second - both) == tuple(map(len, alone))
    patched = [name for names in PATCHED["patched"].values() for name in names]
    assert len(set(patched)) == len(patched) == both + sum(map(len, alone))
    assert {*alone[0], *alone[1], *PATCHED["malignant"]} <= {*patched}
    images = PATCHED["passes"]["images"]
    agreed = 1 - sum(map(len, alone)) / images
    chance = (first * second + (images - first) * (images - second)) / images**2
    assert PATCHED["passes"]["kappa"] == pytest.approx((agreed - chance) / (1 - chance), abs=5e-4)


REAL = Path(os.environ.get("THANOS_DATA", "/nowhere"))


@pytest.mark.real_data
@pytest.mark.skipif(not (REAL / "celeba" / "celebA").is_dir(), reason="docs/robust.md says where CelebA comes from")
def test_the_first_faces_of_celeba():
    images = load(DataConfig(data="celeba", root=REAL, size=16))
    assert by_split(images) == {
        "train": [2648, 2482, 823, 49], "validation": [882, 827, 274, 16], "test": [882, 827, 274, 16]
    }  # fmt: skip


@pytest.mark.real_data
@pytest.mark.skipif(not (REAL / "isic").is_dir(), reason="docs/robust.md says where the challenge's images come from")
def test_the_challenge_of_2017_itself():
    checked = check(DataConfig(data="isic", root=REAL, size=64))
    assert checked.faults == []
    assert np.bincount(checked.images.group).tolist() == [2085, 144, 521]
    assert set(PATCHED["malignant"]) <= {
        Path(checked.images.refs[i]).stem for i in np.flatnonzero(checked.images.group == 2)
    }


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
