"""The published sets with groups: Waterbirds, CelebA and ISIC, in the layouts they are distributed in.

Group counts are compared with the published ones; metadata and files must agree. Images are scaled by their shorter
side and cut to the centre square, 224 pixels unless ``size`` says otherwise.
"""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from thanos.config import DataConfig, ViewSpec
from thanos.data.files import Listing, read_listing
from thanos.data.imageset import ImageSet
from thanos.data.labels import SPLITS
from thanos.data.metadata import check_files, code_of, find_folder, read_rows
from thanos.data.waterbirds import BUILT
from thanos.errors import DataError

SIZE = 224
_VIEWS = ViewSpec(crop_scale=0.7)
WATERBIRDS = ("landbird", "waterbird"), ("on land", "on water")
CELEBA = ("not blond", "blond"), ("female", "male")
PUBLISHED_COUNTS = {
    "waterbirds": {"train": (3498, 184, 56, 1057), "validation": (467, 466, 133, 133), "test": (2255, 2255, 642, 642)},
    "celeba": {
        "train": (71629, 66874, 22880, 1387),
        "validation": (8535, 8276, 2874, 182),
        "test": (9767, 7535, 2480, 180),
    },
}
"""Images of the groups ``2 * superclass + attribute``; ISIC's depend on when it was downloaded."""


@dataclass(frozen=True)
class Entry:
    """One image of a metadata file."""

    file: str
    superclass: str
    group: str
    split: str


def load_grouped(config: DataConfig) -> ImageSet:
    """Waterbirds, CelebA or ISIC, with groups that are also the subclasses.

    Raises:
        DataError: if the set is not found, its metadata cannot be read or disagree with the files, or its groups have
            other sizes than the published ones.
    """
    return _READERS[config.data](config)


def _waterbirds(config: DataConfig) -> ImageSet:
    """``metadata.csv`` with img_filename, y, split (0, 1, 2), place (Sagawa et al., ICLR 2020)."""
    names = ("waterbird_complete95_forest2water2", "waterbirds", ".")
    folder = find_folder(
        config, names, ("metadata.csv",), "waterbird_complete95_forest2water2/metadata.csv with its images"
    )
    classes, places = WATERBIRDS
    rows = read_rows(folder / "metadata.csv", ("img_filename", "y", "split", "place"))
    entries = [
        Entry(
            row["img_filename"],
            classes[code_of(row, "y", 2)],
            f"{classes[code_of(row, 'y', 2)]} {places[code_of(row, 'place', 2)]}",
            SPLITS[code_of(row, "split", 3)],
        )
        for row in rows
    ]
    order = [f"{bird} {place}" for bird in classes for place in places]
    return _read("waterbirds", folder, entries, order, config, folder / "metadata.csv")


def _celeba(config: DataConfig) -> ImageSet:
    """``list_attr_celeba`` and ``list_eval_partition``, as .txt (the original) or .csv; blond against dark hair."""
    wanted = "celeba/{list_attr_celeba,list_eval_partition}.{txt,csv} and celeba/img_align_celeba/*.jpg"
    folder = find_folder(config, ("celeba", "celebA", "."), ("list_attr_celeba.txt", "list_attr_celeba.csv"), wanted)
    attributes, partition = (
        next((path for ending in ("txt", "csv") if (path := folder / f"{stem}.{ending}").is_file()), None)
        for stem in ("list_attr_celeba", "list_eval_partition")
    )
    if attributes is None or partition is None:
        raise DataError(f"celeba needs {wanted}; {folder} lacks list_eval_partition. Fetch it as well.")
    rows = read_rows(attributes, ("image_id", "Blond_Hair", "Male"), unnamed="image_id")
    splits = {row["image_id"]: row for row in read_rows(partition, ("image_id", "partition"), bare=True)}
    hair, sex = CELEBA
    entries = []
    for row in rows:
        name = row["image_id"]
        if name not in splits:
            raise DataError(f"{partition.name} gives every image of {attributes.name} a split; {name} has none.")
        blond, male = (int(row[key].strip() == "1") for key in ("Blond_Hair", "Male"))
        split = SPLITS[code_of(splits[name], "partition", 3)]
        entries.append(Entry(f"img_align_celeba/{name}", hair[blond], f"{hair[blond]}, {sex[male]}", split))
    order = [f"{a}, {b}" for a in hair for b in sex]
    return _read("celeba", folder, entries, order, config, attributes)


def _isic(config: DataConfig, *, attribute: str) -> ImageSet:
    """Benign against malignant; benign lesions with a plaster (or confirmed by histopathology) are a group.

    The published downloader and the published reader disagree on file and columns. Read here are, in this order:
    ``isic/metadata.csv`` with the columns image, split, malignant, patch and, if wanted, histopathology (0 or 1),
    images in ``isic/images``; the reader's ``isic/labels.csv`` (Image Index, fold, Diagnosis, benign_malignant, patch,
    diagnosis_confirm_type); the downloader's ``isic/processed/labels.csv`` (_id, split, is_malignant, patch).
    """
    files = ("metadata.csv", "labels.csv", "processed/labels.csv")
    wanted = "isic/metadata.csv (image,split,malignant,patch), isic/labels.csv or isic/processed/labels.csv"
    folder = find_folder(config, ("isic", "."), files, wanted)
    table = next(folder / name for name in files if (folder / name).is_file())
    if table.name == "metadata.csv":
        read = ("image", "split", "malignant", attribute)
    elif table.parent == folder:
        read = ("Image Index", "fold", "Diagnosis", "patch" if attribute == "patch" else "diagnosis_confirm_type")
    else:
        confirmed = "meta.clinical.diagnosis_confirm_type"
        read = ("_id", "split", "is_malignant", "patch" if attribute == "patch" else confirmed)
    image, split, malignant, mark = read
    marked = "patch" if attribute == "patch" else "histopathology"
    entries = []
    for row in read_rows(table, read):
        if row.get("benign_malignant", "benign") not in ("benign", "malignant"):
            continue  # undecided, as the published reader leaves them out
        bad = code_of(row, malignant, 2) == 1
        wears = row[mark].strip() in ("1", "1.0", "histopathology")
        group = "malignant" if bad else f"benign, {marked if wears else f'no {marked}'}"
        name = row[image] if Path(row[image]).suffix else f"{row[image]}.jpg"
        where = "processed/images" if table.parent != folder else "images"
        part = {"val": "validation", "valid": "validation"}.get(row[split].strip(), row[split].strip())
        if part not in SPLITS:
            raise DataError(f"{table} has the split {row[split]!r}; a split is train, val or test.")
        entries.append(Entry(f"{where}/{name}", "malignant" if bad else "benign", group, part))
    order = [f"benign, no {marked}", f"benign, {marked}", "malignant"]
    return _read(config.data, folder, entries, order, config, table)


_READERS: dict[str, Callable[[DataConfig], ImageSet]] = {
    "waterbirds": _waterbirds,
    "celeba": _celeba,
    "isic": partial(_isic, attribute="patch"),
    "isic-histopathology": partial(_isic, attribute="histopathology"),
}


def _read(
    name: str, folder: Path, entries: Sequence[Entry], order: Sequence[str], config: DataConfig, table: Path
) -> ImageSet:
    """The images of a metadata file, with its groups in the published order."""
    check_files(folder, [entry.file for entry in entries], table)
    _check_counts(name, entries, order, table)
    listing = Listing(name)
    for entry in entries:
        listing.add(
            folder / entry.file,
            superclass=entry.superclass,
            subclass=entry.group,
            group=entry.group,
            split=entry.split,
        )
    size = SIZE if config.size is None else config.size
    images = read_listing(listing, config.model_copy(update={"size": size, "convert": True}), _VIEWS)
    assert images.group is not None
    place = [order.index(known) for known in images.group_names]
    group = images.group.copy()
    for now, then in enumerate(place):
        group[images.group == now] = then
    return replace(images, group=group, group_names=tuple(order), subclass=group, subclass_names=tuple(order))


def _check_counts(name: str, entries: Sequence[Entry], order: Sequence[str], table: Path) -> None:
    """The groups have their published sizes, or those a set had when it was built here."""
    count = Counter((entry.split, entry.group) for entry in entries)
    wanted = PUBLISHED_COUNTS.get(name, {})
    built = table.with_name(BUILT)
    if built.is_file():
        wanted = {split: tuple(sizes) for split, sizes in json.loads(built.read_text("utf-8"))["counts"].items()}
    for split, published in wanted.items():
        came = tuple(count[split, group] for group in order)
        if came != published:
            raise DataError(
                f"{name} has {', '.join(map(str, published))} {split} images of {'; '.join(order)}; {table} has "
                f"{', '.join(map(str, came))}. Fetch it again, or name the folder's images in a CSV of your own "
                f"(columns path, superclass, group, split)."
            )
