"""Published sets beyond the paper's with two levels of labels: groceries, skin lesions, traffic signs.

Lists and files must agree, and be as many as published. Of a lesion or a sign that several images show, all are in one
split. Images are scaled by their shorter side and cut to the centre square.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from thanos.config import DataConfig, ViewSpec
from thanos.data.draw import draw_units
from thanos.data.files import Listing, read_listing
from thanos.data.hierarchy import GTSRB, HAM10000, ISIC_2017
from thanos.data.imageset import ImageSet
from thanos.data.labels import SPLITS
from thanos.data.metadata import check_files, code_of, find_folder, read_rows
from thanos.data.splits import TEST_SHARE
from thanos.errors import DataError

PUBLISHED_COUNTS = {
    "grocery": (2640, 296, 2485),
    "ham10000": (10_015,),
    "gtsrb": (39_209, 12_630),
    "isic-2017": (2000, 150, 600),
}
"""Images: training, validation and test; all; training and test."""
ISIC_2017_TABLES = tuple(f"ISIC-2017_{part}_Part3_GroundTruth.csv" for part in ("Training", "Validation", "Test_v2"))
"""Of the published splits, in the order of ours."""
SETS = "docs/data-sets.md"
"""Says where they come from."""


@dataclass(frozen=True)
class TwoLevels:
    """How one set is found and shown."""

    find: Callable[[DataConfig], Listing]
    size: int
    """Side in pixels, where ``size`` is not given."""
    views: ViewSpec


def load_two_levels(config: DataConfig) -> ImageSet:
    """The set ``config.data`` with its fine labels as subclasses.

    Raises:
        DataError: if it is not found, or its lists cannot be read, or disagree with the files or the published counts.
    """
    known = TWO_LEVELS[config.data]
    listing = known.find(config)
    if config.size is None:
        listing.notes.append(f"{known.size} pixels a side, as no `size` is given")
        config = config.model_copy(update={"size": known.size})
    return read_listing(listing, config.model_copy(update={"convert": True}), known.views)


def _grocery(config: DataConfig) -> Listing:
    """``classes.csv`` and, without a header, ``train.txt``, ``val.txt`` and ``test.txt``: path, fine and coarse id."""
    wanted = "grocery/[dataset/]{classes.csv,train.txt,val.txt,test.txt,train/,val/,test/}"
    folders = ("grocery/dataset", "grocery", "GroceryStoreDataset/dataset", "dataset", ".")
    folder = find_folder(config, folders, ("classes.csv",), wanted, source=SETS)
    fine, fine_id, coarse, coarse_id = (
        f"{level}{column}" for level in ("", "Coarse ") for column in ("Class Name (str)", "Class ID (int)")
    )
    table = folder / "classes.csv"
    rows = read_rows(table, (fine, fine_id, coarse, coarse_id))
    classes = {code_of(row, fine_id, len(rows)): row for row in rows}
    if len(classes) < len(rows):
        raise DataError(f"{table} has {len(rows)} rows for {len(classes)} classes. Fetch it again.")
    listing, counts = Listing("grocery"), []
    for name, split in zip(("train", "val", "test"), SPLITS, strict=True):
        lines = read_rows(folder / f"{name}.txt", ("path", "class", "coarse class"), bare=True)
        check_files(folder, [line["path"] for line in lines], folder / f"{name}.txt", all_listed=True)
        counts.append(len(lines))
        for line in lines:
            row = classes[code_of(line, "class", len(rows))]
            if line["coarse class"].strip() != row[coarse_id].strip():
                raise DataError(
                    f"{name}.txt gives {line['path']} the coarse class {line['coarse class'].strip()}; that of "
                    f"{row[fine]} in classes.csv is {row[coarse_id]}. Fetch both again."
                )
            listing.add(folder / line["path"], superclass=row[coarse], subclass=row[fine], split=split)
    _check_counts("grocery", counts, folder)
    return listing


def _ham10000(config: DataConfig) -> Listing:
    """``HAM10000_metadata`` with image_id, lesion_id and dx; its images in ``images`` or in the two published parts."""
    wanted = "ham10000/[data/]HAM10000_metadata.csv with images/*.jpg or HAM10000_images_part_{1,2}/*.jpg"
    tables = ("HAM10000_metadata.csv", "HAM10000_metadata.tab", "HAM10000_metadata")
    folders = ("ham10000/data", "ham10000", "HAM10000", "data", ".")
    folder = find_folder(config, folders, tables, wanted, source=SETS)
    table = next(folder / name for name in tables if (folder / name).is_file())
    parts = [("images",), ("HAM10000_images_part_1", "HAM10000_images_part_2")]
    homes = next((part for part in parts if (folder / part[0]).is_dir()), None)
    if homes is None:
        raise DataError(f"ham10000 was looked for as {wanted}; {folder} has no such folder of images. Add it.")
    rows = read_rows(table, ("image_id", "lesion_id", "dx"))
    names = [f"{row['image_id']}.jpg" for row in rows]
    files = [next((f"{h}/{n}" for h in homes if (folder / h / n).is_file()), f"{homes[0]}/{n}") for n in names]
    check_files(folder, files, table, all_listed=True)
    _check_counts("ham10000", (len(rows),), folder)
    _check_lesions(rows, table)
    lesion, dx = [row["lesion_id"] for row in rows], [row["dx"] for row in rows]
    test = draw_units(lesion, dx, TEST_SHARE, np.random.default_rng(SPLITS.index("test")))
    split = _with_validation(lesion, [HAM10000[kind] for kind in dx], test, config)
    listing = Listing("ham10000", notes=[f"{TEST_SHARE:.0%} of the lesions, always the same, held out for testing"])
    for file, kind, part, unit in zip(files, dx, split, lesion, strict=True):
        listing.add(folder / file, superclass=HAM10000[kind], subclass=kind, split=part, together=unit)
    return listing


def _check_lesions(rows: Sequence[dict[str, str]], table: Path) -> None:
    """Every image has a diagnosis that is known, and is of a lesion, which has one diagnosis."""
    diagnosis: dict[str, str] = {}
    for row in rows:
        if row["dx"] not in HAM10000:
            raise DataError(f"dx is one of {', '.join(HAM10000)}; {table} has {row['dx']!r} for {row['image_id']}.")
        if not row["lesion_id"]:
            raise DataError(f"{table} has no lesion_id for {row['image_id']}; images of one lesion must stay together.")
        if diagnosis.setdefault(row["lesion_id"], row["dx"]) != row["dx"]:
            both = f"{diagnosis[row['lesion_id']]} and {row['dx']}"
            raise DataError(f"a lesion has one dx; {table} has {both} for {row['lesion_id']}. Fetch it again.")


def list_isic_2017(config: DataConfig) -> Listing:
    """For each published split a folder of images and a table of image_id, melanoma, seborrheic_keratosis.

    A lesion that is neither is a nevus. A table that numbers its rows (as copies of the test table do) is taken to be
    of the images in the order of their names: the rows of the two other tables are in that order.

    Raises:
        DataError: if it is not found, or its tables cannot be read, or disagree with the files or the published counts.
    """
    tables, folders = ISIC_2017_TABLES, ("isic-2017/data", "isic-2017", "isic", "data", ".")
    wanted = "isic-2017/[data/]ISIC-2017_{Training,Validation,Test_v2}{_Data/*.jpg,_Part3_GroundTruth.csv}, or in isic/"
    folder = find_folder(config, folders, tables[:1], wanted, source="docs/own-data.md")
    listing, counts = Listing("isic-2017"), []
    for table, split in zip(tables, SPLITS, strict=True):
        home = folder / table.replace("_Part3_GroundTruth.csv", "_Data")
        rows = read_rows(folder / table, ("image_id", "melanoma", "seborrheic_keratosis"))
        names = [row["image_id"].strip() for row in rows]
        if names == [str(i + 1) for i in range(len(rows))] and home.is_dir():
            names = sorted(path.stem for path in home.glob("ISIC_*.jpg"))
            listing.notes.append(f"{table} numbers its rows: taken in the order of the images' names")
        if len(names) != len(rows):
            raise DataError(f"{folder / table} has {len(rows)} rows for the {len(names)} images in {home}. Fetch both.")
        check_files(home, [f"{name}.jpg" for name in names], folder / table, all_listed=True)
        for name, row in zip(names, rows, strict=True):
            melanoma, keratosis = code_of(row, "melanoma", 2), code_of(row, "seborrheic_keratosis", 2)
            kind = "melanoma" if melanoma else "seborrheic keratosis" if keratosis else "nevus"
            listing.add(home / f"{name}.jpg", superclass=ISIC_2017[kind], subclass=kind, split=split)
        counts.append(len(rows))
    _check_counts("isic-2017", counts, folder)
    return listing


def _gtsrb(config: DataConfig) -> Listing:
    """``GT-CLASS.csv`` in each folder of training images; for the test images ``GT-final_test.csv``."""
    first = "Final_Training/Images/00000/GT-00000.csv"
    folder = find_folder(config, ("gtsrb/GTSRB", "gtsrb", "GTSRB", "."), (first,), _GTSRB_LAYOUT, source=SETS)
    places = (folder / "Final_Test", folder / "Final_Test/Images", folder, folder.parent)
    labels = next((path for place in places if (path := place / "GT-final_test.csv").is_file()), None)
    if labels is None:
        raise DataError(f"gtsrb needs GT-final_test.csv, the labels of its test images; {folder} lacks it. Add it.")
    training, tested = (
        _training_signs(folder / "Final_Training/Images"),
        _annotated(folder / "Final_Test/Images", labels),
    )
    _check_counts("gtsrb", (len(training), len(tested)), folder)
    signs = list(GTSRB)
    track = [f"{code}/{_track(path)}" for path, code in training]
    split = _with_validation(track, [GTSRB[signs[code]] for _, code in training], np.zeros(len(track), bool), config)
    listing = Listing("gtsrb", notes=["no sign that was passed by is in training and in validation"])
    unknown = [""] * len(tested)
    for (path, code), part, unit in zip(
        training + tested, split + ["test"] * len(tested), track + unknown, strict=True
    ):
        listing.add(path, superclass=GTSRB[signs[code]], subclass=signs[code], split=part, together=unit)
    return listing


_GTSRB_LAYOUT = (
    "gtsrb/[GTSRB/]{Final_Training/Images/CLASS,Final_Test/Images}/*.ppm with GT-CLASS.csv and GT-final_test.csv"
)


def _training_signs(folder: Path) -> list[tuple[Path, int]]:
    names = [f"{code:05d}" for code in range(len(GTSRB))]
    if strange := sorted({path.name for path in folder.iterdir() if path.is_dir()} - {*names}):
        raise DataError(
            f"gtsrb has the classes 00000 to {names[-1]}; {folder / strange[0]} is none of them. Remove it."
        )
    found = []
    for code, name in enumerate(names):
        table = folder / name / f"GT-{name}.csv"
        images = _annotated(folder / name, table)
        if wrong := [(path, given) for path, given in images if given != code]:
            raise DataError(f"{table} is of class {code}; it has {wrong[0][1]} for {wrong[0][0].name}. Fetch it again.")
        found += images
    return found


def _annotated(folder: Path, table: Path) -> list[tuple[Path, int]]:
    """The images of a folder with their class ids, all of them listed."""
    rows = read_rows(table, ("Filename", "ClassId"))
    check_files(folder, [row["Filename"] for row in rows], table, all_listed=True)
    return [(folder / row["Filename"], code_of(row, "ClassId", len(GTSRB))) for row in rows]


def _track(path: Path) -> str:
    """The number of the track within its class, TRACK_IMAGE.ppm: some 30 images of one sign as it is passed by."""
    track, mark, image = path.stem.partition("_")
    if not (mark and track.isdecimal() and image.isdecimal()):
        raise DataError(f"training images of gtsrb are called TRACK_IMAGE.ppm; {path} is not. Fetch them again.")
    return track


def _with_validation(
    unit: Sequence[str], superclass: Sequence[str], test: NDArray[np.bool_], config: DataConfig
) -> list[str]:
    """The split of each image, its units drawn whole; fine labels play no part in what is held out for validation."""
    rest = np.flatnonzero(~test)
    rng = np.random.default_rng((config.split_seed, SPLITS.index("validation")))
    drawn = draw_units(np.asarray(unit)[rest], np.asarray(superclass)[rest], config.validation, rng)
    split = np.where(test, "test", "train").astype(object)
    split[rest[drawn]] = "validation"
    return list(split)


def _check_counts(name: str, came: Sequence[int], folder: Path) -> None:
    wanted = PUBLISHED_COUNTS[name]
    if tuple(came) != wanted:
        listed, published = (" + ".join(f"{count:,}" for count in counts) for counts in (came, wanted))
        raise DataError(
            f"{name} has {published} images; {folder} lists {listed}. Fetch it again, or name the folder's images in a "
            f"CSV of your own (columns path, superclass, subclass, split)."
        )


# Crops are milder where the object fills the frame, and colours change little where they tell one kind from another.
_OF_SKIN = ViewSpec(crop_scale=0.5, brightness=0.2, contrast=0.2, saturation=0.2, hue=0.02, grey=0)
TWO_LEVELS = {
    "grocery": TwoLevels(_grocery, 128, ViewSpec(crop_scale=0.3, hue=0.02, grey=0)),
    "ham10000": TwoLevels(_ham10000, 128, _OF_SKIN),
    "isic-2017": TwoLevels(list_isic_2017, 128, _OF_SKIN),
    # a sign turned left is another sign
    "gtsrb": TwoLevels(_gtsrb, 32, ViewSpec(crop_scale=0.5, flip=0, hue=0.02, grey=0)),
}
