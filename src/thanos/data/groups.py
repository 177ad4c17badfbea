"""The published sets with groups: Waterbirds, CelebA and ISIC, in the layouts they are distributed in.

Group counts are compared with the published ones where a set is whole; metadata and files must agree. Images are scaled
by their shorter side and cut to the centre square, 224 pixels (smaller faces: as they are) unless ``size`` is given.
"""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import blake2b
from importlib.resources import files
from pathlib import Path

from PIL import Image

from thanos.config import DataConfig, ViewSpec
from thanos.data.coarse_to_fine import ISIC_2017_TABLES, list_isic_2017
from thanos.data.files import Listing, read_listing
from thanos.data.imageset import ImageSet
from thanos.data.labels import SPLITS
from thanos.data.metadata import check_files, code_of, find_folder, read_rows
from thanos.data.splits import GROUP_VALIDATION_SHARE, TEST_SHARE, split_by_group
from thanos.data.walk import SUFFIXES
from thanos.data.waterbirds import BUILT
from thanos.errors import DataError
from thanos.storage import read_json
from thanos.storage.schemas import Built

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
    """``list_attr_celeba`` and, if there, ``list_eval_partition``, as .txt (the original) or .csv; blond against dark.

    Read are the images that lie there, all or some. Where the partition leaves a group without images in a split, the
    images are split here.
    """
    wanted = "celeba/list_attr_celeba.{txt,csv} (with list_eval_partition) and celeba/{img_align_celeba,celebA}/*.jpg"
    folder = find_folder(config, ("celeba", "celebA", "."), ("list_attr_celeba.txt", "list_attr_celeba.csv"), wanted)
    attributes, partition = (
        next((path for ending in ("txt", "csv") if (path := folder / f"{stem}.{ending}").is_file()), None)
        for stem in ("list_attr_celeba", "list_eval_partition")
    )
    homes = ("img_align_celeba/img_align_celeba", "img_align_celeba", "celebA")
    home = next((name for name in homes if (folder / name).is_dir()), None)
    if attributes is None or home is None:
        raise DataError(f"celeba was looked for as {wanted}; {folder} has no such folder of images. Add it.")
    entries = _faces(attributes, partition, home)
    whole = all(entry.split for entry in entries) and len(entries) == sum(map(sum, PUBLISHED_COUNTS["celeba"].values()))
    if whole:
        _check_counts("celeba", entries, _ORDER_OF_FACES, attributes)
    there = {f"{home}/{path.name}" for path in (folder / home).iterdir() if path.suffix.lower() in SUFFIXES}
    kept = [entry for entry in entries if entry.file in there]
    if not kept:
        raise DataError(
            f"{attributes} lists {len(entries):,} images; none is in {folder / home}. Fetch both from one source."
        )
    check_files(folder, [entry.file for entry in kept], attributes)
    listing, unlisted = _listing("celeba", folder, kept), there - {entry.file for entry in kept}
    listing.left_out = [(name, f"without a row in {attributes.name}") for name in sorted(unlisted)]
    if not whole or len(kept) < len(entries):
        listing.notes.append(f"{len(kept):,} of {len(entries):,} rows of {attributes.name} have their image there")
        lack = "list_eval_partition is not there" if partition is None else f"{partition.name} leaves some out"
        _split_where_needed(listing, _ORDER_OF_FACES, config, lack)
    return _grouped(listing, _ORDER_OF_FACES, config, side=_side_of(folder / kept[0].file))


_ORDER_OF_FACES = [f"{hair}, {sex}" for hair in CELEBA[0] for sex in CELEBA[1]]


def _faces(attributes: Path, partition: Path | None, home: str) -> list[Entry]:
    """The rows of the table of attributes, without a split where the partition has none."""
    splits = {}
    if partition is not None:
        rows = read_rows(partition, ("image_id", "partition"), bare=True)
        splits = {row["image_id"]: SPLITS[code_of(row, "partition", 3)] for row in rows}
    hair, sex = CELEBA
    entries = []
    for row in read_rows(attributes, ("image_id", "Blond_Hair", "Male"), unnamed="image_id"):
        name = row["image_id"]
        blond, male = (_has(row, key, attributes) for key in ("Blond_Hair", "Male"))
        entries.append(Entry(f"{home}/{name}", hair[blond], f"{hair[blond]}, {sex[male]}", splits.get(name, "")))
    return entries


def _has(row: dict[str, str], attribute: str, table: Path) -> bool:
    value = row[attribute].strip()
    if value not in ("1", "-1", "0"):
        raise DataError(f"{attribute} is 1 or -1; {table} has {value!r} for {row['image_id']}. Fetch it again.")
    return value == "1"


def _side_of(path: Path) -> int:
    """The side that images like this one are brought to without being enlarged."""
    try:
        with Image.open(path) as image:
            return min(SIZE, *image.size)
    except OSError:  # that it cannot be read is said where all are
        return SIZE


def _split_where_needed(listing: Listing, order: Sequence[str], config: DataConfig, lack: str = "") -> None:
    """Split the images here where a group lacks images in a split that the set names, or some have none.

    Files of the same content stay together: the challenge of 2017 has such in training and test.
    """
    count = Counter(zip(listing.group, listing.split, strict=True))
    missing = next(((part, group) for group in order for part in SPLITS if not count[group, part]), None)
    if empty := [group for group in order if group not in listing.group]:
        raise DataError(
            f"{listing.name} has no image of {empty[0]!r} among the {len(listing.paths):,} that are there. Add some."
        )
    if missing is not None or not all(listing.split):
        reason = lack if not all(listing.split) else "its own leave no {} image of {}".format(*missing or ())
        content = [blake2b(path.read_bytes(), digest_size=16).hexdigest() for path in listing.paths]
        listing.split = split_by_group(content, listing.group, config.split_seed)
        held_out = round(100 * GROUP_VALIDATION_SHARE), round(100 * TEST_SHARE)
        shares = "/".join(map(str, (100 - sum(held_out), *held_out)))
        listing.notes.append(f"split {shares} within every group by `split_seed={config.split_seed}`: {reason}")
        count = Counter(zip(listing.group, listing.split, strict=True))
    sizes = [f"{group} {'/'.join(f'{count[group, part]:,}' for part in SPLITS)}" for group in order]
    listing.notes.append(f"{'/'.join(SPLITS)}: {'; '.join(sizes)}")


def _isic(config: DataConfig, *, attribute: str) -> ImageSet:
    """Benign against malignant; benign lesions with a plaster (or confirmed by histopathology) are a group.

    The published downloader and the published reader disagree on file and columns. Read here are, in this order:
    ``isic/metadata.csv`` with the columns image, split, malignant, patch and, if wanted, histopathology (0 or 1),
    images in ``isic/images``; the reader's ``isic/labels.csv`` (Image Index, fold, Diagnosis, benign_malignant, patch,
    diagnosis_confirm_type); the downloader's ``isic/processed/labels.csv`` (_id, split, is_malignant, patch). And, for
    patches, the 2017 challenge as it lies.
    """
    tables = ("metadata.csv", "labels.csv", "processed/labels.csv")
    wanted = "isic/metadata.csv (image,split,malignant,patch), isic/labels.csv or isic/processed/labels.csv"
    marks, folders = (*tables, ISIC_2017_TABLES[0]), ("isic", "isic-2017/data", "isic-2017", ".")
    if attribute == "patch":
        folder = find_folder(config, folders, marks, f"{wanted}, or isic/{ISIC_2017_TABLES[0]} with its images")
    else:
        folder = find_folder(config, ("isic", "."), tables, wanted)
    table = next((folder / name for name in tables if (folder / name).is_file()), None)
    if table is None:
        return _isic_2017(config)
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


def patched_isic_2017() -> frozenset[str]:
    """Ids of the 2017 challenge's images that show a coloured patch, as looked at by eye; the file says how."""
    table = json.loads(files("thanos.data").joinpath("isic_2017_patches.json").read_text("utf-8"))
    return frozenset(name for names in table["patched"].values() for name in names)


def _isic_2017(config: DataConfig) -> ImageSet:
    """The 2017 challenge: benign with a patch, benign without, malignant.

    The one malignant lesion beside a patch is malignant: a group of one image can be neither split nor scored. None of
    the 600 test images has a patch, so the images are split here.
    """
    listing, patched = list_isic_2017(config), patched_isic_2017()
    listing.name = config.data
    order = ["benign, no patch", "benign, patch", "malignant"]
    listing.group = [
        bad if bad == "malignant" else order[path.stem in patched]
        for path, bad in zip(listing.paths, listing.superclass, strict=True)
    ]
    listing.subclass = listing.group
    _split_where_needed(listing, order, config)
    return _grouped(listing, order, config)


_READERS: dict[str, Callable[[DataConfig], ImageSet]] = {
    "waterbirds": _waterbirds,
    "celeba": _celeba,
    "isic": partial(_isic, attribute="patch"),
    "isic-histopathology": partial(_isic, attribute="histopathology"),
}


def _read(
    name: str, folder: Path, entries: Sequence[Entry], order: Sequence[str], config: DataConfig, table: Path
) -> ImageSet:
    """The images of a metadata file, all of them there."""
    check_files(folder, [entry.file for entry in entries], table)
    _check_counts(name, entries, order, table)
    return _grouped(_listing(name, folder, entries), order, config)


def _listing(name: str, folder: Path, entries: Sequence[Entry]) -> Listing:
    listing = Listing(name)
    for entry in entries:
        listing.add(
            folder / entry.file,
            superclass=entry.superclass,
            subclass=entry.group,
            group=entry.group,
            split=entry.split,
        )
    return listing


def _grouped(listing: Listing, order: Sequence[str], config: DataConfig, *, side: int = SIZE) -> ImageSet:
    """The images of a listing, with its groups in the published order."""
    if config.size is None and side < SIZE:
        listing.notes.append(f"{side} pixels a side, as no `size` is given")
    size = side if config.size is None else config.size
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
        wanted = {split: tuple(sizes) for split, sizes in read_json(built, Built)["counts"].items()}
    for split, published in wanted.items():
        came = tuple(count[split, group] for group in order)
        if came != published:
            raise DataError(
                f"{name} has {', '.join(map(str, published))} {split} images of {'; '.join(order)}; {table} has "
                f"{', '.join(map(str, came))}. Fetch it again, or name the folder's images in a CSV of your own "
                f"(columns path, superclass, group, split)."
            )
