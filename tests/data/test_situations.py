"""Sets of images as people have them: each is read rightly or refused in one right line, and the account adds up.

A situation is a function that writes files into an empty folder and says what must come of it: superclasses with the
number of their images, and what else; or the words of a refusal. Every file below the folder is an image of the set,
skipped, or left out.
"""

import io
import json
import os
import re
import struct
import sys
import unicodedata
import zlib

import datasets
import numpy as np
import pillow_heif
import pytest
from PIL import Image, ImageOps

from thanos.config import DataConfig
from thanos.data import walk
from thanos.data.check import account
from thanos.data.decode import decode
from thanos.data.labels import SPLITS
from thanos.data.load import load, load_together
from thanos.errors import DataError, ThanosError

SITUATIONS = {}


def situation(function):
    SITUATIONS[function.__name__] = function
    return function


def draw(path, seed=0, mode="RGB", size=(8, 8), form=None, **options):
    """A random picture; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    channels = len(Image.new(mode, (1, 1)).getbands())
    pixels = rng.integers(0, 256, (size[1], size[0], channels), dtype=np.uint8)
    image = Image.frombytes(mode, size, np.packbits(pixels, axis=1).tobytes() if mode == "1" else pixels.tobytes())
    image.save(path, format=form, **options)
    return path


def pets(home, suffix=".png", count=6, form=None):
    """Folders cats and dogs."""
    for i in range(2 * count):
        draw(home / ("cats", "dogs")[i % 2] / f"{i:02d}{suffix}", i, form=form)


def loose(home, count=12):
    """Pictures without folders; their names."""
    for i in range(count):
        draw(home / f"{i:02d}.png", i)
    return [f"{i:02d}.png" for i in range(count)]


def listed(home, text, name="labels.csv", encoding="utf-8", count=12):
    loose(home, count)
    (home / name).write_bytes(text.encode(encoding) if isinstance(text, str) else text)
    return home / name


def rows(form="{i:02d}.png,{label}", count=12, header="path,superclass", end="\n"):
    lines = [form.format(i=i, label=("cats", "dogs")[i % 2]) for i in range(count)]
    return end.join([header, *lines] if header else lines) + end


PETS = {"cats": 6, "dogs": 6}

# ---------------------------------------------------------------- folders


@situation
def notebooks_leave_hidden_folders(home):
    pets(home)
    draw(home / ".ipynb_checkpoints" / "x.png")
    return PETS, "1 file left out: 1 hidden"


@situation
def archives_of_a_mac(home):
    pets(home)
    (home / "__MACOSX" / "cats").mkdir(parents=True)
    (home / "__MACOSX" / "cats" / "._00.png").write_bytes(b"\0\5\26\7")
    (home / "cats" / "._00.png").write_bytes(b"\0\5\26\7")
    return PETS, "2 files left out: 2 hidden"


@situation
def a_synology_disk_and_a_bin(home):
    pets(home)
    draw(home / "cats" / "@eaDir" / "00.png")
    draw(home / ".Trash-1000" / "files" / "old.png")
    (home / "cats" / ".DS_Store").write_text("x")
    return PETS, "3 files left out: 3 hidden"


@situation
def other_files_beside(home):
    pets(home)
    (home / "readme.txt").write_text("hello")
    (home / "cats" / "notes").write_text("none")
    (home / "cats" / "film.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(40))
    return PETS, "1 .txt", "1 without a suffix", "1 .mp4"


@situation
def jfif_and_no_suffix_are_images(home):
    pets(home, ".jfif", form="JPEG")
    draw(home / "cats" / "scan", 50, form="PNG")
    draw(home / "dogs" / "scan.dat", 51, form="PNG")
    return {"cats": 7, "dogs": 7}


@situation
def avif(home):
    pets(home, ".avif")
    return PETS


@situation
def upper_case_suffixes(home):
    pets(home, ".PNG")
    return PETS


@situation
def a_linked_folder(home):
    pets(home / "photos")
    for i in range(4):
        draw(home / "elsewhere" / f"{i}.png", 60 + i)
    (home / "photos" / "birds").symlink_to(home / "elsewhere")
    return home / "photos", PETS | {"birds": 4}


@situation
def a_link_in_a_circle(home):
    pets(home)
    (home / "cats" / "again").symlink_to(home)
    return PETS, "1 linked folders that are read already"


@situation
def a_link_to_nothing(home):
    pets(home)
    (home / "cats" / "gone.png").symlink_to(home / "nowhere.png")
    return PETS, "1 links to nothing"


@situation
def train_and_val(home):
    for split in ("train", "val"):
        pets(home / split)
    return {"cats": 12, "dogs": 12}, {"train": 12, "validation": 12, "test": 0}


@situation
def training_and_testing(home):
    for split in ("Training", "Testing"):
        pets(home / split)
    return {"cats": 12, "dogs": 12}, {"test": 12}


@situation
def train_val_and_unlabeled(home):
    for split in ("train", "val"):
        pets(home / split)
    draw(home / "unlabeled" / "u.png")
    return {"cats": 12, "dogs": 12}, "1 in unlabeled, outside the splits"


@situation
def only_train(home):
    pets(home / "train")
    return PETS, "all images are in train/"


@situation
def splits_below_superclasses(home):
    for split in ("train", "test"):
        for i in range(6):
            draw(home / ("cats", "dogs")[i % 2] / split / f"{i}.png", i)
    return PETS, {"test": 6}


@situation
def a_train_among_vehicles(home):
    for name in ("train", "bus", "test car"):
        for i in range(4):
            draw(home / name / f"{i}.png", i + 10 * len(name))
    return {"bus": 4, "test car": 4, "train": 4}


@situation
def yolo(home):
    for split in ("train", "val"):
        draw(home / "images" / split / "a.png", len(split))
        (home / "labels" / split).mkdir(parents=True)
        (home / "labels" / split / "a.txt").write_text("0 .5 .5 .1 .1")
    return {"unknown": 2}, "labels/ beside images/ is of another tool", {"train": 1, "validation": 1}


@situation
def the_same_folders_under_every_top(home):
    for top in ("one", "two"):
        pets(home / top)
    return "2 folders in", "hold the same 2 (cats, dogs, ...): splits or superclasses?", "`layout=split/superclass`"


@situation
def the_same_folders_as_said(home):
    for top in ("one", "two"):
        pets(home / top)
    return {"layout": "*/superclass"}, {"cats": 12, "dogs": 12}


@situation
def a_layout_that_is_none(home):
    pets(home)
    return {"layout": "superclas"}, "`layout` takes split, superclass, subclass, *"


@situation
def three_levels(home):
    for i in range(12):
        place = ("fruit/apple/red", "fruit/apple/green", "fruit/pear", "milk/oat")[i % 4]
        draw(home / place / f"{i}.png", i)
    return {"fruit": 9, "milk": 3}, ("apple > green", "apple > red", "oat", "pear")


@situation
def three_levels_the_second_is_the_superclass(home):
    for i in range(12):
        place = ("fruit/apple/red", "fruit/apple/green", "fruit/pear", "milk/oat")[i % 4]
        draw(home / place / f"{i}.png", i)
    return {"level": 2}, {"fruit/apple": 6, "fruit/pear": 3, "milk/oat": 3}, ("green", "oat", "pear", "red")


@situation
def splits_below_one_folder(home):
    for split in ("train", "test"):
        pets(home / "petset" / split)
    return {"cats": 12, "dogs": 12}, {"test": 12}, "all images are in petset/"


@situation
def splits_below_subclasses(home):
    for i in range(24):
        draw(home / ("a/x", "a/y", "b/z")[i % 3] / ("train", "test")[i % 2] / f"{i}.png", i)
    return {"a": 16, "b": 8}, ("x", "y", "z"), {"test": 12}


@situation
def split_folders_twice(home):
    for split in ("training_set", "test_set"):
        pets(home / split / split)
    return {"cats": 12, "dogs": 12}, {"test": 12}


@situation
def a_test_part_without_labels(home):
    pets(home / "train")
    for i in range(3):
        draw(home / "test" / f"{i}.png", 40 + i)
        draw(home / "sample" / f"{i}.png", 50 + i)
    return PETS, "3 in sample, outside the splits", "3 in test, without a folder that says the label"


@situation
def train_and_unlabeled(home):
    pets(home / "train")
    draw(home / "unlabeled" / "u.png")
    return PETS, "1 in unlabeled, outside the splits"


@situation
def splits_and_another_folder_below(home):
    for name in ("cats/train", "cats/test", "dogs/train", "dogs/test", "dogs/extra"):
        for i in range(3):
            draw(home / name / f"{i}.png", len(name) + 9 * i)
    return "are called test, train beside extra: splits or subclasses?"


@situation
def folders_that_look_alike(home):
    for name in ("caf\u00e9", "cafe\u0301", "dogs"):
        for i in range(6):
            draw(home / name / f"{i}.png", i + 10 * len(name))
    return {"caf\u00e9": 12, "dogs": 6}, "is spelt in 2 ways that look alike"


@situation
def versions_are_no_numbers(home):
    for name in ("v1", "v1.0"):
        for i in range(6):
            draw(home / name / f"{i}.png", i + 10 * len(name))
    return {"v1": 6, "v1.0": 6}


@situation
def three_levels_judged_by_the_second(home):
    for i in range(12):
        place = ("fruit/apple/red", "fruit/apple/green", "fruit/pear", "milk")[i % 4]
        draw(home / place / f"{i}.png", i)
    return {"judged_level": 2}, {"fruit": 9, "milk": 3}, ("apple", "pear")


@situation
def more_levels_than_there_are(home):
    pets(home)
    return {"level": 3}, "level 3 is asked for, and"


@situation
def a_folder_called_none(home):
    pets(home)
    for i in range(6):
        draw(home / "none" / f"{i}.png", 70 + i)
    return "6 of 18 rows have the superclass 'none': is it a class, or not known?", 'unknown=""'


@situation
def a_folder_called_none_is_a_class(home):
    pets(home)
    for i in range(6):
        draw(home / "none" / f"{i}.png", 70 + i)
    return {"unknown": ""}, PETS | {"none": 6}


@situation
def images_alone(home):
    loose(home)
    return {"unknown": 12}


@situation
def nothing_but_hidden_files(home):
    draw(home / ".cache" / "x.png")
    return "holds no images", "1 file left out: 1 hidden"


NAMES = {
    "newline": "a\nb.png",
    "quotes": "a\"b'c.png",
    "emoji": "\U0001f469\u200d\U0001f52c.png",
    "long": "x" * 250 + ".png",
    "dash": "-rf.png",
    "leading_dot": ".x.png",
    "space": " a .png",
    "percent": "100%.png",
    "nfd": unicodedata.normalize("NFD", "é.png"),
}
for called, file_name in NAMES.items():

    def named(home, file_name=file_name):
        pets(home)
        draw(home / "cats" / file_name, 80)
        return PETS if file_name.startswith(".") else {"cats": 7, "dogs": 6}

    SITUATIONS[f"a_name_with_{called}"] = named


@situation
def a_name_that_is_not_utf8(home):
    pets(home)
    raw = os.fsencode(home / "cats") + b"/caf\xe9.png"
    with open(raw, "wb") as file:
        file.write((home / "cats" / "00.png").read_bytes())
    return {"cats": 7, "dogs": 6}


# ---------------------------------------------------------------- tables


@situation
def byte_order_mark(home):
    return listed(home, rows(), encoding="utf-8-sig"), PETS


@situation
def utf_16(home):
    return listed(home, rows(), encoding="utf-16"), PETS


@situation
def latin_1(home):
    return listed(home, rows().replace("cats", "chât"), encoding="latin-1"), "labels are read from a CSV in UTF-8"


@situation
def semicolons(home):
    return listed(home, rows("{i:02d}.png;{label}", header="path;superclass")), PETS


@situation
def tabs(home):
    return listed(home, rows("{i:02d}.png\t{label}", header="path\tsuperclass")), PETS


@situation
def excel_says_the_delimiter(home):
    return listed(home, "sep=;\n" + rows("{i:02d}.png;{label}", header="path;superclass")), PETS


@situation
def carriage_returns(home):
    return listed(home, rows(end="\r")), PETS


@situation
def carriage_returns_and_line_feeds(home):
    return listed(home, rows(end="\r\n")), PETS


@situation
def quoted_commas_and_newlines(home):
    return listed(home, rows('{i:02d}.png,"{label}, all\nof them"')), {"cats, all\nof them": 6, "dogs, all\nof them": 6}


@situation
def a_quote_that_is_not_closed(home):
    return listed(home, rows().replace("00.png,cats", '00.png,"cats')), "row 2 opens a quote that swallows the 11 lines"


@situation
def a_cell_of_200_kb(home):
    return listed(home, rows("{i:02d}.png,{label}," + "x" * 200_000, header="path,superclass,mask")), PETS


@situation
def a_row_twice(home):
    return listed(home, rows() + "00.png,cats\n"), "row 14 lists 00.png a second time (first in row 2)"


@situation
def no_header(home):
    return listed(home, rows(header="")), PETS


@situation
def paths_and_labels_split_by_a_space(home):
    return listed(home, rows("{i:02d}.png {label}", header=""), "train.txt"), PETS


@situation
def fine_and_coarse_without_header(home):
    text = "".join(f"{i:02d}.png, {i % 4}, {i % 2}\n" for i in range(12))
    return listed(home, text, "train.txt"), {"0": 6, "1": 6}, ("0", "1", "2", "3")


@situation
def three_labels_without_header(home):
    text = "".join(f"{i:02d}.png,{i % 4},{i % 3},{i % 2}\n" for i in range(12))
    return listed(home, text), "has no header and 3 columns beside the path"


@situation
def columns_without_header_by_number(home):
    text = "".join(f"{i:02d}.png,{i % 4},{i % 3},{i % 2}\n" for i in range(12))
    return listed(home, text), {"columns": "path=1,superclass=4"}, {"0": 6, "1": 6}


@situation
def an_empty_table(home):
    return listed(home, ""), "needs the column 'path'"


@situation
def a_header_alone(home):
    return listed(home, "path,superclass\n"), "lists no images"


@situation
def columns_of_another_tool(home):
    return (
        listed(home, rows("IMG/{i:02d},{label}", header="ident,kind")),
        "Pass `columns=path=ident,superclass=kind`",
    )


@situation
def columns_as_said(home):
    return listed(home, rows("{i:02d},{label}", header="ident,kind")), {"columns": "path=ident,superclass=kind"}, PETS


@situation
def a_said_column_that_is_not_there(home):
    return listed(home, rows()), {"columns": "superclass=kinds"}, "has no column 'kinds' for the superclass"


@situation
def a_role_that_is_none(home):
    return listed(home, rows()), {"columns": "colour=superclass"}, "`columns` takes ROLE=COLUMN"


@situation
def yes_and_no_is_called_by_its_column(home):
    text = "image_id,Blond,Male\n" + "".join(f"{i:02d}.png,{(1, -1)[i % 2]},{(1, -1)[i // 2 % 2]}\n" for i in range(12))
    return listed(home, text), {"columns": "superclass=Blond,group=Male"}, {"Blond": 6, "not Blond": 6}


@situation
def celeba(home):
    text = "12\nBlond Male\n" + "".join(f"{i:02d}.png  {(1, -1)[i % 2]} -1\n" for i in range(12))
    return listed(home, text, "list_attr.txt"), {"columns": "superclass=Blond"}, {"Blond": 6, "not Blond": 6}


@situation
def one_hot(home):
    text = "image,MEL,NV,BCC\n" + "".join(f"{i:02d},{i % 3 == 0:d},{i % 3 == 1:d},{i % 3 == 2:d}\n" for i in range(12))
    return listed(home, text), {"BCC": 4, "MEL": 4, "NV": 4}


@situation
def several_labels_in_columns(home):
    text = "image,cat,dog\n" + "".join(f"{i:02d},1,{i % 2}\n" for i in range(12))
    return listed(home, text), "row 3 is cat and dog: an image has one superclass"


@situation
def several_labels_in_a_cell(home):
    return listed(home, rows().replace("02.png,cats", '02.png,"cats,dogs"')), "an image has one superclass; row 4"


@situation
def levels_in_a_cell(home):
    text = rows("{i:02d}.png,pet > {label} > kind {i}")
    return listed(home, text), {"level": 2}, {"pet/cats": 6, "pet/dogs": 6}


@situation
def none_in_a_table_is_asked_about(home):
    return listed(home, rows().replace("cats", "none")), "6 of 12 rows have the superclass 'none'"


@situation
def none_in_a_table_as_said(home):
    return listed(home, rows().replace("cats", "none")), {"unknown": ""}, {"dogs": 6, "none": 6}


@situation
def a_rare_na_is_not_known(home):
    text = rows("{i:02d}.png,{label},a", 40, "path,superclass,subclass").replace("07.png,dogs,a", "07.png,dogs,NA")
    return listed(home, text, count=40), {"cats": 20, "dogs": 20}, ("cats/a", "dogs/a")


@situation
def whole_numbers_with_a_point(home):
    return listed(home, rows().replace("cats", "1.0").replace("dogs", "2.0")), {"1": 6, "2": 6}


@situation
def labels_that_look_alike(home):
    text = rows().replace("00.png,cats", "00.png,cats\u200b").replace("02.png,cats", "02.png,cats\0")
    return listed(home, text), PETS, "the superclass 'cats' is spelt in 3 ways that look alike"


@situation
def composed_and_not(home):
    text = rows().replace("cats", "caf\u00e9").replace("00.png,caf\u00e9", "00.png,cafe\u0301")
    return listed(home, text), {"café": 6, "dogs": 6}


@situation
def another_case_and_another_machine(home):
    return listed(home, rows("D:\\eve\\photos\\{i:02d}.PNG,{label}")), PETS, "12 paths did not exist and are repaired"


@situation
def a_column_of_patients(home):
    text = "path,superclass,patient_id\n" + "".join(f"{i:02d}.png,{'ab'[i % 2]},p{i // 4}\n" for i in range(40))
    return listed(home, text, count=40), {"a": 20, "b": 20}, "(together) has 10 values, each in one split"


@situation
def a_column_that_may_say_what_belongs_together(home):
    text = "path,superclass,sample\n" + "".join(f"{i:02d}.png,{'ab'[i % 2]},p{i // 4}\n" for i in range(40))
    return listed(home, text, count=40), {"a": 20, "b": 20}, "`together=sample` keeps those in one split"


@situation
def keras_names_classes(home):
    (home / "class_indices.json").write_text(json.dumps({"cats": 0, "dogs": 1}))
    return listed(home, rows().replace("cats", "0").replace("dogs", "1")), PETS, "called as in class_indices.json"


@situation
def hugging_face(home):
    listed(home, "".join(json.dumps({"file_name": f"{i:02d}.png", "label": "ab"[i % 2]}) + "\n" for i in range(12)),
           "metadata.jsonl")  # fmt: skip
    return {"a": 6, "b": 6}


@situation
def subpopbench(home):
    text = "id,filename,split,y,a\n" + "".join(f"{i},{i:02d}.png,{i % 3},{i % 2},{i // 6}\n" for i in range(12))
    listed(home, text, "metadata.csv")
    return {"0": 6, "1": 6}, {"train": 4, "validation": 4, "test": 4}


@situation
def a_box_beside_a_path_is_no_vector(home):
    return listed(home, rows('{i:02d}.png,{label},"[1, 2, 3, 4]"', header="path,superclass,bbox")), PETS


@situation
def stanford_cars(home):
    return (
        listed(home, rows("{i:02d}.png,39,116,569,375,{label}", header="fname,x1,y1,x2,y2,class")),
        {"columns": "path=fname"},
        PETS,
    )


@situation
def many_columns_of_0_and_1(home):
    text = "image," + ",".join("0123456789") + "\n"
    text += "".join(f"{i:02d}," + ",".join(f"{k == i % 2:d}" for k in range(10)) + "\n" for i in range(12))
    return listed(home, text), {"0": 6, "1": 6}


@situation
def a_row_of_more_cells_than_columns(home):
    return listed(
        home, rows().replace("03.png,dogs", "03.png,dogs,oops")
    ), "row 5 has 3 cells, and 2 columns have names"


@situation
def delimiters_at_the_end_of_rows(home):
    return listed(home, rows("{i:02d}.png,{label},")), PETS


@situation
def scores_without_a_name(home):
    return listed(home, rows("{i:02d}.png,{label},0.9")), "row 2 has 3 cells, and 2 columns have names"


@situation
def the_one_table_of_a_folder(home):
    listed(home, rows())
    return PETS, "labels from labels.csv"


@situation
def the_one_table_of_a_folder_with_a_bad_row(home):
    listed(home, rows() + "gone.png,cats\n")
    return "labels.csv row 14 names the image 'gone.png', which does not exist"


@situation
def a_table_whose_columns_nobody_knows(home):
    listed(home, rows(header="photo,kind"))
    return {"unknown": 12}, "no labels are read from labels.csv: name the table by `labels`"


@situation
def metadata_about_something_else(home):
    pets(home)
    (home / "metadata.csv").write_text("key,value\ncamera,EOS\n")
    return PETS, "1 .csv"


@situation
def patients_that_are_not_known(home):
    text = "path,superclass,patient_id\n"
    text += "".join(f"{i:02d}.png,{'ab'[i % 2]},{'NA' if i < 30 else i // 2}\n" for i in range(40))
    return listed(home, text, count=40), {"a": 20, "b": 20}, "(together) has 5 values"


@situation
def a_column_of_is_train(home):
    text = "path,superclass,is_train\n" + "".join(f"{i:02d}.png,{'ab'[i % 2]},{i % 3 > 0:d}\n" for i in range(12))
    return listed(home, text), {"columns": "split=is_train"}, "is_train of labels.csv is 0 or 1: as a split"


@situation
def masks_without_header(home):
    for i in range(12):
        draw(home / f"mask{i:02d}.png", i)
    return listed(home, rows("{i:02d}.png,mask{i:02d}.png,{label}", header="")), "has no header and 2 columns beside"


@situation
def a_list_as_a_label(home):
    lines = [json.dumps({"path": f"{i:02d}.png", "label": [["a"], ["b"], ["a", "b"]][i % 3]}) for i in range(12)]
    return listed(home, "\n".join(lines), "l.jsonl"), "an image has one superclass"


@situation
def json_without_an_end(home):
    return listed(home, '{"path":' + "[" * 100_000, "l.jsonl"), "row 1 is no JSON"


@situation
def two_columns_for_one_role(home):
    return (
        listed(home, rows()),
        {"columns": "superclass=path,superclass=superclass"},
        "names one column for the superclass",
    )


@situation
def a_layout_for_a_table(home):
    return (
        listed(home, rows()),
        {"layout": "superclass"},
        "`layout` is about what folders are, and labels come from a file",
    )


@situation
def a_rare_folder_called_none(home):
    pets(home, count=30)
    draw(home / "none" / "x.png", 99)
    return "x.png lies in 'none', which means not known", '`unknown=""` if it is a class'


@situation
def one_file_by_two_links(home):
    table = listed(home, rows())
    for i in (0, 2):
        (home / f"{i:02d}.png").unlink()
        (home / f"{i:02d}.png").symlink_to(home / "01.png")
    return table, PETS


# ---------------------------------------------------------------- pixels


@situation
def colours_of_16_bits(home):
    pets(home)
    png = io.BytesIO()
    Image.new("RGB", (8, 8)).save(png, "PNG")
    rows = b"".join(b"\0" + struct.pack(">24H", *range(0, 24 * 900, 900)) for _ in range(8))
    header = struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    content = b"".join(struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks)
    (home / "cats" / "deep.png").write_bytes(png.getvalue()[:8] + content)
    return {"cats": 7, "dogs": 6}, "1 of 13 have 16 bits a channel, of which the upper 8 are read"


for mode, suffix in (("CMYK", "jpg"), ("LA", "png"), ("1", "png"), ("RGBA", "png"), ("L", "png"), ("P", "gif")):

    def one_mode(home, mode=mode, suffix=suffix):
        for i in range(12):
            draw(home / ("cats", "dogs")[i % 2] / f"{i}.{suffix}", i, mode=mode)
        return {"together": True}, PETS

    SITUATIONS[f"mode_{mode}"] = one_mode


@situation
def a_palette_with_transparency(home):
    for i in range(12):
        draw(home / ("cats", "dogs")[i % 2] / f"{i}.png", i, mode="P", transparency=0)
    return {"together": True}, PETS


for most in (255, 300, 1023, 4095, 16383, 65535):

    def deep(home, most=most):
        for i in range(12):
            value = most if i == 0 else 250
            path = home / ("cats", "dogs")[i % 2] / f"{i:02d}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(np.full((8, 8), value, dtype=np.uint16)).save(path)
        top = next(2**bits - 1 for bits in (8, 10, 12, 14, 16) if most < 2**bits)
        return {"together": True}, PETS, f"0 to {top} (", {1: round(250 / top * 255)}

    SITUATIONS[f"sixteen_bits_up_to_{most}"] = deep


@situation
def fractions(home):
    for i in range(12):
        path = home / ("cats", "dogs")[i % 2] / f"{i:02d}.tiff"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((8, 8), i / 11, dtype=np.float32)).save(path)
    return {"together": True}, PETS, "0 to 1 becomes 0 to 255", {1: round(2 / 11 * 255)}


@situation
def whole_numbers_of_32_bits(home):
    for i in range(12):
        path = home / ("cats", "dogs")[i % 2] / f"{i:02d}.tiff"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((8, 8), 10_000 * i, dtype=np.int32)).save(path)
    return {"together": True}, PETS, "0 to 110000 (percentiles", {1: round(2 / 11 * 255)}


@situation
def pixels_that_are_no_numbers(home):
    for i in range(12):
        path = home / ("cats", "dogs")[i % 2] / f"{i:02d}.tiff"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((8, 8), np.nan if i == 3 else 0.5, dtype=np.float32)).save(path)
    return {"together": True}, "03.tiff cannot be read as an image (some of its pixels are no numbers)"


@situation
def a_mixture_of_depths(home):
    pets(home)
    Image.fromarray(np.full((8, 8), 300, dtype=np.uint16)).save(home / "cats" / "deep.png")
    return {"convert": True}, "1 of 13 images have more than 8 bits, deep.png first, and the others 8"


@situation
def animated(home):
    pets(home)
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(home / "cats" / "z.gif", save_all=True, append_images=frames[1:])
    return {"together": True}, {"cats": 7, "dogs": 6}, "1 of 13 have several frames or pages: the first of each is read"


@situation
def pages(home):
    pets(home)
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(home / "cats" / "z.tiff", save_all=True, append_images=frames[1:])
    return {"cats": 7, "dogs": 6}, "1 of 13 have several frames or pages"


@situation
def one_pixel(home):
    pets(home)
    draw(home / "cats" / "z.png", 90, size=(1, 1))
    return {"size": 8}, {"cats": 7, "dogs": 6}


@situation
def a_strip(home):
    pets(home)
    draw(home / "cats" / "z.png", 90, size=(2, 6000))
    return {"size": 8}, {"cats": 7, "dogs": 6}


@situation
def more_pixels_than_allowed(home):
    pets(home)
    Image.new("1", (14000, 14000)).save(home / "cats" / "z.png")
    return {"size": 8, "convert": True}, "exceeds limit of", "allow it by `megapixels`"


@situation
def a_large_scan_that_is_allowed(home):
    pets(home)
    Image.new("1", (14000, 14000)).save(home / "cats" / "z.png")
    return {"size": 8, "convert": True, "megapixels": 200.0}, {"cats": 7, "dogs": 6}


@situation
def the_suffix_of_another_format(home):
    pets(home)
    draw(home / "cats" / "z.jpg", 90, form="PNG")
    return {"cats": 7, "dogs": 6}


@situation
def a_page_of_an_error_instead_of_an_image(home):
    pets(home)
    (home / "cats" / "z.jpg").write_text("<html>404</html>")
    return "z.jpg cannot be read as an image (no image format is recognised); 1 of 13"


@situation
def a_page_of_an_error_is_skipped(home):
    pets(home)
    (home / "cats" / "z.jpg").write_text("<html>404</html>")
    return {"skip_bad": True}, PETS, "1 skipped"


SETTINGS = {*DataConfig.model_fields, "together"} - {"data"}


def read(source, settings):
    config = {name: value for name, value in settings.items() if name != "together" or value is not True}
    config = DataConfig(data=str(source), **config)
    return load_together(config)[0] if settings.get("together") is True else load(config)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("THANOS_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.mark.skipif(sys.platform == "win32", reason="names and links of other systems")
@pytest.mark.parametrize("name", SITUATIONS)
def test_a_situation(name, tmp_path):
    home = tmp_path / "set"
    home.mkdir()
    said = SITUATIONS[name](home)
    said = list(said) if isinstance(said, tuple) else [said]
    source = said.pop(0) if isinstance(said[0], os.PathLike) else home
    is_settings = isinstance(said[0], dict) and set(said[0]) <= SETTINGS and not isinstance(said[0].get("unknown"), int)
    settings = said.pop(0) if is_settings else {}
    if isinstance(said[0], str):
        with pytest.raises(ThanosError) as refused:
            read(source, settings)
        message = str(refused.value)
        assert "\n" not in message
        for words in said:
            assert words in message, message
        return
    images = read(source, settings)
    wanted, *others = said
    counts = np.bincount(images.superclass, minlength=len(images.superclass_names))
    assert dict(zip(images.superclass_names, counts.tolist(), strict=True)) == wanted
    for other in others:
        if isinstance(other, str):
            assert any(other in note for note in images.notes), (other, images.notes)
        elif isinstance(other, tuple):
            assert images.subclass_names == other
        elif isinstance(next(iter(other)), int):  # the value of every pixel of a row
            for row, value in other.items():
                assert set(images.images[np.array([row])].ravel().tolist()) == {value}
        else:
            assert {split: len(images.rows(split)) for split in other} == other
    assert len(images.refs) == len(images)
    assert all(ref.encode("utf-8") for ref in images.refs)
    if source.is_dir():
        there = [name for _, _, names in os.walk(source) for name in names]
        table = any("labels from" in note for note in images.notes) or name in ("hugging_face", "subpopbench")
        linked = sum(path.is_symlink() and path.is_dir() for path in source.rglob("*"))
        inside = 4 if name == "a_linked_folder" else 0
        seen = len(images) + len(images.skipped) + len(images.left_out)
        assert seen == len(there) - table + (inside if inside else linked)
    assert account(images).startswith(f"seen {len(images) + len(images.skipped) + len(images.left_out):,}: ")


def test_there_are_many_situations():
    assert len(SITUATIONS) >= 60


def test_photos_of_a_phone(tmp_path, monkeypatch):
    pets(tmp_path / "set")
    pixels = np.full((16, 16, 3), (200, 40, 90), dtype=np.uint8)
    pillow_heif.from_pillow(Image.fromarray(pixels)).save(tmp_path / "set" / "cats" / "phone.HEIC", quality=90)
    images = read(tmp_path / "set", {"size": 8})
    (row,) = (i for i, ref in enumerate(images.refs) if ref.endswith("phone.HEIC"))
    assert np.abs(images.images[np.array([row])][0].astype(int) - pixels[0, 0]).max() <= 6
    monkeypatch.setattr(walk, "READS_HEIC", False)
    without = read(tmp_path / "set", {"size": 8})
    assert len(without) == 12
    assert "1 file left out: 1 .heic (pip install 'thanos-repr[heic]')" in without.notes


@pytest.mark.parametrize("turn", range(1, 9))
def test_every_turn_of_a_camera_against_pillow(tmp_path, turn):
    image = Image.fromarray(np.random.default_rng(turn).integers(0, 256, (16, 12, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = turn
    image.save(tmp_path / "x.png", exif=exif)
    with Image.open(tmp_path / "x.png") as opened:
        upright = ImageOps.exif_transpose(opened)
    left, top = (upright.width - 12) // 2, (upright.height - 12) // 2
    wanted = np.asarray(upright.crop((left, top, left + 12, top + 12)))
    np.testing.assert_array_equal(decode(tmp_path / "x.png", 12, 3), wanted)


def test_a_broken_tag_of_a_camera_says_nothing_about_pixels(tmp_path):
    pets(tmp_path / "set")
    broken = b"Exif\0\0II*\0\x08\0\0\0\x05\0" + struct.pack("<HHII", 0x0112, 3, 1000, 0xFFFFFF)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8))
    image.save(tmp_path / "set" / "cats" / "z.jpg", exif=broken, quality=95)
    images = read(tmp_path / "set", {})
    assert len(images) == 13
    row = next(i for i, ref in enumerate(images.refs) if ref.endswith("z.jpg"))
    wanted = np.asarray(Image.open(tmp_path / "set" / "cats" / "z.jpg"))
    np.testing.assert_array_equal(images.images[np.array([row])][0], wanted)


@pytest.mark.parametrize("cut", np.linspace(0.02, 0.98, 20))
@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_an_image_cut_short_is_a_fault_anywhere(tmp_path, cut, form):
    pets(tmp_path / "set")
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(buffer, form)
    whole = buffer.getvalue()
    (tmp_path / "set" / "cats" / f"z.{form.lower()}").write_bytes(whole[: int(cut * len(whole))])
    with pytest.raises(DataError, match="cannot be read as an image"):
        read(tmp_path / "set", {"size": 8})


@pytest.mark.parametrize("size", [(40, 40), (37, 53), (300, 20), (9, 700), (641, 480)])
def test_scaling_what_is_kept_is_scaling_all_and_cutting(size):
    """Against the obvious way: all of the image is scaled, and the centre cut out."""
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    for side in (8, 32, 64):
        scale = side / min(size)
        whole = image.resize((max(side, round(size[0] * scale)), max(side, round(size[1] * scale))), 2)
        left, top = (whole.width - side) // 2, (whole.height - side) // 2
        wanted = np.asarray(whole.crop((left, top, left + side, top + side))).astype(int)
        path = io.BytesIO()
        image.save(path, "PNG")
        assert np.abs(decode(path, side, 3).astype(int) - wanted).max() <= 1


def test_splits_of_a_table_keep_patients_whole(tmp_path):
    text = "path,superclass,who\n" + "".join(f"{i:02d}.png,{'ab'[i // 4 % 2]},p{i // 4}\n" for i in range(80))
    table = listed(tmp_path, text, count=80)
    images = load(DataConfig(data=str(table), together="who"))
    where = {}
    for name, split in zip(images.together, images.split.tolist(), strict=True):
        assert where.setdefault(name, split) == split
    assert {split: len(images.rows(split)) for split in SPLITS} == {"train": 56, "validation": 8, "test": 16}


@pytest.mark.parametrize("setting", [{"columns": "superclass=a"}, {"together": "a"}, {"level": 2}, {"unknown": "a"}])
def test_settings_of_labels_are_refused_where_labels_are_published(setting):
    with pytest.raises(ThanosError, match=f"`{next(iter(setting))}` is about labels of your own, and these are"):
        read("digits", setting)


def pictures_in_parquet(folder, **columns):
    """Four pictures with these columns, as Hugging Face writes them."""
    pictures = [
        Image.fromarray(np.full((8, 8, 3), i, dtype=np.uint8)) for i in range(len(next(iter(columns.values()))))
    ]
    saved = datasets.Dataset.from_dict({"image": pictures} | columns).cast_column("image", datasets.Image())
    saved.to_parquet(folder / "set.parquet")
    return folder / "set.parquet"


def test_columns_of_pictures_in_parquet_are_as_the_user_says(tmp_path):
    kind, who = ["cat > siamese", "dog > pug"] * 20, [f"p{i // 4}" for i in range(40)]
    file = pictures_in_parquet(tmp_path, kind=kind, who=who, Male=[0, 1] * 20, age=list(range(40)))
    images = read(file, {"columns": "superclass=kind,group=male", "together": "who", "level": 1})
    assert images.superclass_names == ("cat", "dog")
    assert images.subclass_names == ("pug", "siamese")
    assert images.group_names == ("Male", "not Male")
    assert images.further == {"age": tuple(map(str, range(40)))}
    home = {}
    assert all(home.setdefault(one, at) == at for one, at in zip(images.together, images.split.tolist(), strict=True))
    assert {"train", "test"} <= {name for name in SPLITS if len(images.rows(name))}


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"columns": "superclass=a"}, "has no column 'a' for the superclass; it has 'label'"),
        ({"together": "a"}, "has no column 'a' for the together"),
        ({"level": 2}, "level 2 is asked for"),
        ({"layout": "superclass"}, "`layout` is about what folders are"),
    ],
)
def test_what_pictures_in_parquet_do_not_have_is_refused(tmp_path, setting, said):
    file = pictures_in_parquet(tmp_path, label=[0, 1, 0, 1])
    assert len(read(file, {})) == 4
    with pytest.raises(ThanosError, match=re.escape(said)):
        read(file, setting)


def test_a_table_about_something_else_that_cannot_be_read_stops_no_folder(tmp_path):
    loose(tmp_path)
    (tmp_path / "notes.csv").write_bytes("Größe,gut\n".encode("latin-1"))
    images = read(tmp_path, {})
    assert len(images) == 12
    assert "no labels are read from notes.csv" in images.notes[0]
