"""Folders and CSVs of real files: what is read, how it is split, and every refusal."""

import csv
import json
import os

import numpy as np
import pytest
from PIL import ExifTags, Image

from thanos.config import DataConfig
from thanos.data import decode as decoding
from thanos.data import files
from thanos.data.cache import cached_images, identity
from thanos.data.decode import decode
from thanos.data.labels import SPLITS
from thanos.data.load import check_superclasses, draw_stratified, load
from thanos.data.pixels import Scale
from thanos.errors import DataError


def picture(path, size=(8, 8), mode="RGB", seed=0):
    """A random image file; ``mode`` is PIL's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    if mode == "I;16":
        Image.fromarray(rng.integers(0, 65536, size[::-1], dtype=np.uint16)).save(path)
        return path
    channels = len(Image.new(mode, (1, 1)).getbands())
    pixels = rng.integers(0, 256, (*size[::-1], channels), dtype=np.uint8)
    Image.frombytes(mode, size, pixels.tobytes()).save(path)
    return path


@pytest.fixture
def folder(tmp_path):
    """Two superclasses of two subclasses of ten images."""
    for i in range(40):
        superclass, subclass = ("cats", "dogs")[i % 2], ("a", "b")[i // 2 % 2]
        picture(tmp_path / "pets" / superclass / f"{superclass}-{subclass}" / f"{i:02d}.png", seed=i)
    return tmp_path / "pets"


def read(data, **settings):
    return load(DataConfig(data=str(data), **settings))


def refusal(data, **settings):
    with pytest.raises(DataError) as error:
        check_superclasses(read(data, **settings))
    message = str(error.value)
    assert error.value.exit_code == 2
    assert "\n" not in message
    assert len(message) < 400
    return message


def test_a_folder_of_superclasses_and_subclasses(folder):
    images = read(folder)
    assert images.superclass_names == ("cats", "dogs")
    assert images.subclass_names == ("cats-a", "cats-b", "dogs-a", "dogs-b")
    assert images.images.shape == (40, 8, 8, 3)
    for row in (0, 17, 39):
        path = images.refs[row]
        assert np.array_equal(images.images[np.array([row])][0], np.asarray(Image.open(path)))
        assert images.superclass_names[images.superclass[row]] in path
        assert images.subclass_names[images.subclass[row]] in path


def test_splits_are_stratified_seeded_and_blind_to_subclasses(folder):
    images = read(folder)
    assert [len(images.rows(s)) for s in SPLITS] == [29, 3, 8]
    for split, counts in images.counts().items():
        assert abs(counts["cats"] - counts["dogs"]) <= 1, split
    assert np.array_equal(images.split, read(folder).split)
    assert not np.array_equal(images.split, read(folder, split_seed=1).split)
    for i, path in enumerate(sorted(folder.rglob("*.png"))):  # other fine labels, same splits
        target = folder / path.parent.parent.name / f"{path.parent.name[:4]}-{'ab'[i % 2]}"
        target.mkdir(exist_ok=True)
    assert np.array_equal(images.split, read(folder).split)


@pytest.mark.parametrize("count", [0, 1, 7, 50])
def test_a_stratified_draw_keeps_shares(count):
    label = np.repeat([0, 1, 2], [60, 30, 10])
    drawn = draw_stratified(np.arange(100), label, count, np.random.default_rng(0))
    assert len(set(drawn.tolist())) == count
    assert np.abs(np.bincount(label[drawn], minlength=3) - count * np.array([0.6, 0.3, 0.1])).max() <= 1


def test_named_splits_are_kept(folder, tmp_path):
    for i, path in enumerate(sorted(folder.rglob("*.png"))):
        target = tmp_path / "split" / ("train", "train", "val", "test")[i % 4] / path.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    images = read(tmp_path / "split")
    assert [len(images.rows(s)) for s in SPLITS] == [20, 10, 10]


def write_table(path, rows, columns=("path", "superclass", "subclass", "group", "split"), delimiter=","):
    with path.open("w", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(columns)
        writer.writerows(rows)
    return path


def rows_of(folder):
    files = sorted(folder.rglob("*.png"))
    return [[str(p.relative_to(folder.parent)), p.parent.parent.name, p.parent.name, "", ""] for p in files]


@pytest.mark.parametrize("delimiter", [",", "\t"])
def test_a_table_gives_the_same_data_as_the_folder(folder, tmp_path, delimiter):
    rows = rows_of(folder)
    table = write_table(tmp_path / "labels.csv", rows, delimiter=delimiter)
    assert read(table).fingerprint == read(folder).fingerprint


def test_missing_fine_labels_and_groups_are_unknown(folder, tmp_path):
    rows = rows_of(folder)
    for row in rows[:5]:
        row[2], row[3] = "nan", "left"
    images = read(write_table(tmp_path / "labels.csv", rows))
    assert (images.subclass[:5] == -1).all()
    assert (images.subclass[5:] >= 0).all()
    assert images.group_names == ("left",)
    assert (images.group[5:] == -1).all()


def test_equal_subclass_names_in_two_superclasses_stay_apart(tmp_path):
    for i in range(16):
        picture(tmp_path / "x" / "ab"[i % 2] / ("other", "same")[i // 8] / f"{i}.png", seed=i)
    assert read(tmp_path / "x", layout="superclass/subclass").subclass_names == (
        "a/other",
        "a/same",
        "b/other",
        "b/same",
    )


def test_training_limit_keeps_validation_and_test(folder):
    images = read(folder, train_limit=10)
    assert [len(images.rows(s)) for s in SPLITS] == [10, 3, 8]


def test_an_empty_folder(tmp_path):
    (tmp_path / "empty").mkdir()
    assert "holds no images" in refusal(tmp_path / "empty")


def test_images_outside_a_superclass(folder):
    picture(folder / "stray.png")
    assert "stray.png does not" in refusal(folder)


def test_one_superclass_only(tmp_path):
    for i in range(6):
        picture(tmp_path / "one" / "cats" / f"{i}.png", seed=i)
    assert "has only 'cats'" in refusal(tmp_path / "one")


def test_a_superclass_of_one_image(folder):
    picture(folder / "birds" / "sparrow" / "only.png")
    message = refusal(folder)
    assert "two or more training images" in message
    assert "'birds'" in message


@pytest.mark.parametrize("damage", ["truncated", "text", "empty"])
def test_an_unreadable_image_is_named_and_can_be_skipped(folder, damage):
    victim = sorted(folder.rglob("*.png"))[3]
    content = {"truncated": victim.read_bytes()[:-40], "text": b"not an image", "empty": b""}[damage]
    victim.write_bytes(content)
    message = refusal(folder)
    assert str(victim) in message
    assert "1 of 40 files" in message
    assert "`skip_bad`" in message
    images = read(folder, skip_bad=True)
    assert len(images) == 39
    assert [name for name, _ in images.skipped] == [str(victim)]
    assert any("1 skipped" in note for note in images.notes)


def test_mixed_sizes(folder):
    picture(folder / "cats" / "cats-a" / "big.png", size=(30, 20))
    message = refusal(folder)
    assert "big.png is 30x20" in message
    assert "`size=8`" in message
    assert read(folder, size=16).images.shape == (41, 16, 16, 3)
    assert "`size=500` would enlarge images of 8 pixels 62 times" in refusal(folder, size=500)
    assert read(folder, size="auto").images.shape == (41, 8, 8, 3)


def test_oblong_images(tmp_path):
    for i in range(12):
        picture(tmp_path / "x" / "ab"[i % 2] / f"{i}.png", size=(10, 6), seed=i)
    assert "`size=6`" in refusal(tmp_path / "x")


@pytest.mark.parametrize(
    ("mode", "suffix", "said"),
    [("L", "png", "grey"), ("RGBA", "png", "with transparency"), ("CMYK", "jpg", "CMYK"), ("1", "png", "black and")],
)
def test_mixed_modes(folder, mode, suffix, said):
    odd = picture(folder / "cats" / "cats-a" / f"odd.{suffix}", mode=mode)
    message = refusal(folder)
    assert f"odd.{suffix} is {said}" in message
    assert "`convert`" in message
    images = read(folder, convert=True)
    assert images.images.shape == (41, 8, 8, 3)
    assert any("1 of 41 converted" in note for note in images.notes)
    assert str(odd) in images.refs


def test_palette_images_count_as_rgb(tmp_path):
    for i in range(12):
        path = picture(tmp_path / "x" / "ab"[i % 2] / f"{i}.png", mode="L" if i < 7 else "RGB", seed=i)
        if i >= 7:
            Image.open(path).convert("P").save(path)
    assert "all grey or all RGB" in refusal(tmp_path / "x")


def test_conversions_by_hand(tmp_path):
    deep = np.array([[0, 65535], [32768, 256]], dtype=np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    assert decode(tmp_path / "deep.png", 2, 3, Scale(0, 65535))[..., 0].tolist() == [[0, 255], [128, 1]]
    half = np.array([[[200, 0, 100, 128]]], dtype=np.uint8)
    Image.fromarray(half, "RGBA").save(tmp_path / "half.png")
    assert np.abs(decode(tmp_path / "half.png", 1, 3)[0, 0].astype(int) - [227, 127, 177]).max() <= 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"row": ["pets/nowhere.png", "cats", "", "", ""]}, "row 42 names the image 'pets/nowhere.png'"),
        ({"row": ["", "cats", "", "", ""]}, "row 42 names the image ''"),
        ({"superclass": "NaN"}, "row 5 has no superclass (it says 'NaN')"),
        ({"superclass": ""}, "row 5 has no superclass"),
        ({"split": "trian"}, "row 5 has the split 'trian'"),
        ({"columns": ("path", "superclas", "subclass", "group", "split")}, "did you mean 'superclass'?"),
        (
            {"columns": ("fil", "superclass", "subclass", "group", "split")},
            "needs the column 'path' (or file, filename",
        ),
        (
            {"columns": ("path", "label", "class", "group", "split")},
            "two columns for the superclass, 'label' and 'class'",
        ),
    ],
)
def test_faults_of_a_table_are_named_by_row(folder, tmp_path, change, said):
    rows = rows_of(folder)
    if "row" in change:
        rows.append(change["row"])
    rows[3][1] = change.get("superclass", rows[3][1])
    rows[3][4] = change.get("split", "")
    columns = change.get("columns", ("path", "superclass", "subclass", "group", "split"))
    table = write_table(tmp_path / "labels.csv", rows, columns)
    assert said in refusal(table)
    if "columns" not in change:
        images = read(table, skip_bad=True)
        assert len(images.skipped) == 1


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("head", ["", "sep=;\n"])
def test_a_table_as_spreadsheets_write_it(folder, tmp_path, encoding, head):
    plain = read(write_table(tmp_path / "labels.csv", rows_of(folder)))
    text = head + (tmp_path / "labels.csv").read_text().replace(",", ";")
    (tmp_path / "labels.csv").write_bytes(text.replace("\n", "\r\n").encode(encoding))
    assert read(tmp_path / "labels.csv").fingerprint == plain.fingerprint


def test_a_table_in_another_encoding_is_refused_with_the_remedy(folder, tmp_path):
    rows = rows_of(folder)
    rows[0][2] = "K\u00e4tzchen"
    table = write_table(tmp_path / "labels.csv", rows)
    table.write_bytes(table.read_text("utf-8").encode("latin-1"))
    assert "Save it anew as CSV UTF-8" in refusal(table)


def test_a_path_is_taken_for_the_one_file_that_fits(folder, tmp_path):
    rows = rows_of(folder)
    rows[2][0] = rows[2][0].removesuffix(".png")
    rows[3][0] = rows[3][0].upper()
    rows[4][0] = f"C:\\Users\\eve\\{rows[4][0]}".replace("/", "\\")
    rows[5][0] = rows[5][0].rpartition("/")[2]
    rows[6][0] = rows[6][0].replace(".png", "\0.png")
    images = read(write_table(tmp_path / "labels.csv", rows))
    assert images.fingerprint == read(folder).fingerprint
    assert images.notes[0].startswith("5 paths did not exist and are repaired, each to the one file"), images.notes


def test_a_path_that_could_be_two_files_is_none(folder, tmp_path):
    rows = rows_of(folder)
    picture(folder / "dogs" / "dogs-a" / "00.png", seed=99)
    rows[0][0] = "00.png"
    assert "row 2 names the image '00.png', which does not exist" in refusal(write_table(tmp_path / "l.csv", rows))
    rows[0][0] = rows[5][0].replace("cats/", "elsewhere/")  # one such name, and in another folder
    assert "which does not exist" in refusal(write_table(tmp_path / "l.csv", rows))


def test_images_without_labels_are_not_trained_on(tmp_path):
    for i in range(4):
        picture(tmp_path / "flat" / f"{i}.png", seed=i)
    assert "flat has none. Put its images in a folder for each superclass" in refusal(tmp_path / "flat")


def test_without_a_cache_images_are_read_all_the_same(folder, tmp_path, monkeypatch):
    kept = read(folder)
    monkeypatch.setenv("THANOS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache").write_text("")  # in the folder's place: nothing can be written there, by root neither
    images = read(folder)
    assert any("set THANOS_CACHE" in note for note in images.notes)
    assert images.fingerprint == kept.fingerprint
    np.testing.assert_array_equal(images.images[np.arange(40)], kept.images[np.arange(40)])


def test_an_image_listed_twice(folder, tmp_path):
    rows = rows_of(folder)
    assert "a second time (first in row 2)" in refusal(write_table(tmp_path / "labels.csv", [*rows, rows[0]]))


def test_too_little_space_for_the_cache_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("THANOS_CACHE", str(tmp_path / "cache"))
    with pytest.raises(DataError, match="set THANOS_CACHE to a folder on another disk"):
        cached_images("key", (10**9, 100, 100, 3), lambda out: None)
    assert list((tmp_path / "cache").rglob("*.*")) == []


def test_an_interrupted_decoding_leaves_no_entry(tmp_path, monkeypatch):
    monkeypatch.setenv("THANOS_CACHE", str(tmp_path / "cache"))

    def stop(out):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached_images("key", (10, 4, 4, 3), stop)
    assert list((tmp_path / "cache" / "images").iterdir()) == []


def test_a_changed_file_is_read_again(folder):
    before = read(folder)
    victim = sorted(folder.rglob("*.png"))[0]
    picture(victim, seed=999)
    assert read(folder).fingerprint != before.fingerprint


def test_every_fine_label_of_tiny_imagenet_is_known():
    from thanos.data.hierarchy import CIFAR10, CIFAR100, DIGITS, FASHION_MNIST, tiny_imagenet

    assert len(tiny_imagenet()) == 200
    assert len(set(tiny_imagenet().values())) == 52
    sizes = {"cifar100": (CIFAR100, 20, 5), "digits": (DIGITS, 2, 5)}
    for table, superclasses, members in sizes.values():
        assert len(set(table.values())) == superclasses
        assert all(list(table.values()).count(name) == members for name in set(table.values()))
    assert len(CIFAR10) == len(FASHION_MNIST) == 10
    assert sum(v == "animals" for v in CIFAR10.values()) == 6
    assert json.dumps(CIFAR100).count("willow_tree") == 1


def test_photos_stand_upright_and_large_ones_are_decoded_small(tmp_path):
    """A camera's orientation mark is followed; a JPEG decoded at a part of its size is the same picture."""
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (30, 45, 3), dtype=np.uint8))
    photo = small.resize((900, 600), Image.Resampling.BICUBIC)
    exif = photo.getexif()
    exif[ExifTags.Base.Orientation] = 6  # to be turned by a quarter
    for name, options in (("plain", {}), ("marked", {"exif": exif})):
        (tmp_path / "data" / name).mkdir(parents=True)
        photo.save(tmp_path / "data" / name / "0.jpg", quality=95, **options)
    images = load(DataConfig(data=str(tmp_path / "data"), size=64))
    marked, plain = (images.images[np.array([i])][0].astype(int) for i in (0, 1))
    whole = photo.resize((96, 64), Image.Resampling.BILINEAR).crop((16, 0, 80, 64))
    assert np.abs(plain - np.asarray(whole)).mean() < 2
    turned = photo.transpose(Image.Transpose.ROTATE_270).resize((64, 96), Image.Resampling.BILINEAR)
    assert np.abs(marked - np.asarray(turned.crop((0, 16, 64, 80)))).mean() < 2


def test_a_jpeg_cut_short_is_found(tmp_path):
    for name in ("a/0.jpg", "b/0.jpg"):
        (tmp_path / name).parent.mkdir()
        Image.effect_noise((300, 300), 60).convert("RGB").save(tmp_path / name)
    whole = (tmp_path / "b/0.jpg").read_bytes()
    (tmp_path / "b/0.jpg").write_bytes(whole[: len(whole) * 9 // 10])
    assert "truncated" in refusal(tmp_path)


def test_the_fingerprint_of_images_on_demand_is_remembered(folder, monkeypatch):
    """It is that of the same images in memory, is found once, and again when a file or a label changes."""
    in_memory = read(folder).fingerprint
    monkeypatch.setattr(files, "IN_CACHE", 0)
    monkeypatch.setattr(decoding, "MANY", 10)
    decoded = []
    decode = decoding.decode
    monkeypatch.setattr(decoding, "decode", lambda path, *rest: decoded.append(path) or decode(path, *rest))
    assert read(folder).fingerprint == in_memory
    assert len(decoded) == 40
    decoded.clear()
    assert read(folder).fingerprint == in_memory
    assert decoded == []
    assert read(folder, split_seed=1).fingerprint != in_memory
    few = read(folder).take(np.arange(5))
    assert few.fingerprint != in_memory
    picture(next((folder / "cats" / "cats-a").glob("*.png")), seed=77)
    assert read(folder).fingerprint != in_memory


@pytest.mark.parametrize("how", ["renamed", "written over"])
def test_files_that_are_swapped_are_read_anew_though_size_and_time_are_equal(tmp_path, how):
    folder = tmp_path / "pets"
    for i in range(8):  # uncompressed: all of one size
        picture(folder / ("cats", "dogs")[i % 2] / f"{i}.bmp", seed=i)
    for path in folder.rglob("*.bmp"):
        os.utime(path, ns=(10**18, 10**18))
    first, second = folder / "cats" / "0.bmp", folder / "cats" / "2.bmp"
    rows = [read(folder).refs.index(str(path)) for path in (first, second)]
    before, known, vectors = read(folder), identity(first), read(folder).images[np.array(rows)]
    assert identity(first) == known
    if how == "renamed":
        first.rename(tmp_path / "third")
        second.rename(first)
        (tmp_path / "third").rename(second)
    else:
        content = first.read_bytes(), second.read_bytes()
        for path, other in zip((second, first), content, strict=True):
            path.write_bytes(other)
            os.utime(path, ns=(10**18, 10**18))
    after = read(folder)
    assert np.array_equal(after.images[np.array(rows)], vectors[::-1])
    assert after.fingerprint != before.fingerprint
    assert identity(first) != known
