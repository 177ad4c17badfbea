"""From what a user names (data set, folder, CSV) to an ImageSet with its splits; the only place that knows names."""

from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from thanos import registry
from thanos.config import DataConfig, check_data, refuse_settings
from thanos.data.arrays import read_arrays
from thanos.data.draw import draw_stratified
from thanos.data.files import Listing, read_listing
from thanos.data.folder import list_folder
from thanos.data.group_table import grouped
from thanos.data.imageset import ImageSet
from thanos.data.labels import UNLABELLED, known_words
from thanos.data.load_vectors import read_vectors
from thanos.data.samples import Samples
from thanos.data.saved_images import read_saved_images
from thanos.data.splits import all_for_testing, with_splits
from thanos.data.table import list_table, names_labels
from thanos.data.vector_arrow import folder_holds, parquet_holds
from thanos.data.vector_files import holds_vectors
from thanos.data.vectors import VectorSet
from thanos.errors import ConfigError, DataError, MissingLabels
from thanos.names import nearest

OF_LABELS = ("columns", "together", "layout", "level", "judged_level")
"""Settings of how labels are read."""
Split = TypeVar("Split", ImageSet, VectorSet)


def load(config: DataConfig | str | Path) -> ImageSet:
    """Read, check, bring to one size and split the images that ``config`` names.

    Args:
        config: What to read and how; or the name of a data set, or a path, alone.
    Raises:
        ConfigError: if the name is neither a data set nor a path, or holds vectors.
        DataError: if images or labels cannot be read or used; nothing has been written then.
    """
    config = config if isinstance(config, DataConfig) else DataConfig(data=str(config))
    check_data(config.data)
    if is_of_vectors(config.data):
        raise ConfigError(f"images are wanted, and {config.data} holds vectors; in Python, load_vectors reads them.")
    images = load_samples(config)
    assert isinstance(images, ImageSet)
    return images


def load_samples(config: DataConfig, *, to_embed: bool = False) -> ImageSet | VectorSet:
    """Images as :func:`load` reads them, or vectors as :func:`~thanos.data.load_vectors.load_vectors` does.

    Args:
        config: What to read and how.
        to_embed: Nothing is trained on them: rows without labels and splits are all for testing.
    """
    check_data(config.data)
    known = registry.dataset(config.data)
    if isinstance(config.labels, Path) and known is not None:
        raise ConfigError(f"{config.data} has its own labels; drop `labels={config.labels}`.")
    if known is not None:
        refuse_settings(config, (*OF_LABELS, "unknown"), "labels of your own, and these are published")
        return _ready(_load_known(known, config), config, to_embed)
    if is_of_vectors(config.data):
        return _ready(read_vectors(config), config, to_embed)
    return _ready(_load_own(config), config, to_embed)


def _ready(images: Split, config: DataConfig, to_embed: bool) -> Split:
    if to_embed and images.superclass_names == (UNLABELLED,) and not images.splits_named:
        return all_for_testing(images)
    return _finished(with_splits(images, config.validation, config.split_seed), config)


def is_of_vectors(data: str) -> bool:
    """Whether ``data`` names vectors, not images."""
    return registry.dataset(data) is None and holds_vectors(Path(data))


def _finished(images: Split, config: DataConfig) -> Split:
    """Fewer training rows, other groups or fine labels, where that is asked for."""
    if config.train_limit is not None:
        known = registry.dataset(config.data)
        kept_shares = images.subclass if known is not None and known.uneven else images.superclass
        assert kept_shares is not None
        images = _limit_training(images, config.train_limit, kept_shares, config.split_seed)
    if config.unseen:
        images = replace(images, unseen=_set_aside(images, config.unseen, config.split_seed))
    if config.groups_from is not None:
        images = grouped(images, config.groups_from, config.groups_named)
    return _labelled_finely(images) if config.labels == "subclass" else images


def load_together(config: DataConfig) -> tuple[ImageSet, dict[str, Any]]:
    """As :func:`load`, with images of several sizes or modes brought together.

    Returns:
        The images, and the settings that this took beside those of ``config``.
    Raises:
        DataError: as :func:`load`, where something else stands in the way.
    """
    first: DataError | None = None
    for changes in ({}, {"size": "auto"}, {"convert": True}, {"size": "auto", "convert": True}):
        if config.size is not None and "size" in changes:
            continue
        try:
            return load(config.model_copy(update=changes)), changes
        except DataError as error:
            first = first or error
    assert first is not None
    raise first


def _load_known(spec: registry.DatasetSpec, config: DataConfig) -> ImageSet:
    images = registry.resolve(spec.load, spec)(config)
    if not isinstance(images, ImageSet):
        raise DataError(
            f"a data set's loader returns an ImageSet; that of {spec.name!r}, added by {registry.home_of(spec)}, "
            f"returned {type(images).__name__}."
        )
    return images


def _load_own(config: DataConfig) -> ImageSet:
    """A folder, a folder with a table of labels, a table, or a file of arrays."""
    source = Path(config.data)
    if config.layout is not None and (not source.is_dir() or isinstance(config.labels, Path)):
        refuse_settings(config, ("layout",), "what folders are, and labels come from a file")
    if config.layout is not None:
        refuse_settings(config, ("level", "judged_level"), "which folders are superclasses, as `layout` is")
    if isinstance(config.labels, Path):
        if not config.labels.is_file():
            raise ConfigError(
                f"`labels` takes a CSV, superclass or subclass; there is no file {config.labels.absolute()}"
                f"{nearest(str(config.labels), ('superclass', 'subclass'))}."
            )
        if not source.is_dir():
            raise ConfigError(f"`labels` names the labels of the images in a folder; {source} is a file. Drop one.")
        return read_listing(list_table(config.labels, config, folder=source), config)
    if folder_holds(source) == "images" or (source.suffix.lower() == ".parquet" and parquet_holds(source) == "images"):
        refuse_settings(config, ("layout",), "folders, and this holds images with its own labels")
        return read_saved_images(source, config)
    if source.is_dir() and config.layout is None and (table := _own_table(source, config)):
        return read_listing(list_table(table, config, folder=source), config)
    if source.is_dir():
        refuse_settings(config, ("columns", "together"), "a table (name it by `labels`), and this is a folder")
        listing = list_folder(source, config)
        if len(set(listing.superclass)) < 2 and config.layout is None:
            table, notes = _labels_beside(source, config)
            listing = listing if table is None else list_table(table, config, folder=source)
            listing.notes = [*notes, *listing.notes]
        return read_listing(_without_unknown(listing, config), config)
    if source.suffix.lower() == ".npz":
        refuse_settings(config, ("level", "judged_level"), "folders and tables, and this holds arrays")
        return read_arrays(source, config)
    return read_listing(list_table(source, config), config)


def _without_unknown(listing: Listing, config: DataConfig) -> Listing:
    """The images in folders whose name is a class; those in one that says it is not known are faults."""
    words = known_words(listing.superclass, "superclass", config.unknown)[0]
    blank = [i for i, word in enumerate(words) if not word]
    if blank and not config.skip_bad:
        raise DataError(
            f"{listing.paths[blank[0]]} lies in {listing.superclass[blank[0]]!r}, which means not known, as "
            f'{len(blank)} images do. Pass `unknown=""` if it is a class, or `skip_bad` to go on without them.'
        )
    listing.skipped += [(str(listing.paths[i]), f"{listing.superclass[i]!r} means not known") for i in blank]
    return listing.keep([i for i, word in enumerate(words) if word]) if blank else listing


def _labels_beside(folder: Path, config: DataConfig) -> tuple[Path | None, list[str]]:
    """The one table in a folder that says labels, and notes on those that are not read."""
    kinds = (".csv", ".tsv", ".jsonl", ".parquet")
    tables = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in kinds and path.is_file()]
    able = [path for path in tables if names_labels(path, config)]
    if len(able) == 1:
        return able[0], [f"labels from {able[0].name}"]
    names = ", ".join(path.name for path in tables[:4])
    return None, [
        f"no labels are read from {names}: name the table by `labels`, its columns by `columns`"
    ] if tables else []


def _own_table(folder: Path, config: DataConfig) -> Path | None:
    """The table of labels that published folders hold: Hugging Face's, Waterbirds', SubpopBench's metadata."""
    tables = (folder / name for name in ("metadata.csv", "metadata.jsonl", "metadata.parquet"))
    return next((table for table in tables if table.is_file() and names_labels(table, config)), None)


def _limit_training(images: Split, limit: int, label: NDArray[np.int64], seed: int) -> Split:
    train = images.rows("train")
    if limit >= len(train):
        return images
    kept = draw_stratified(train, label, limit, np.random.default_rng((seed, 7)))
    return images.take(np.sort(np.concatenate([kept, images.rows("validation"), images.rows("test")])))


def _set_aside(images: Samples, share: float, seed: int) -> NDArray[np.bool_]:
    train = images.rows("train")
    chosen = draw_stratified(train, images.superclass, round(share * len(train)), np.random.default_rng((seed, 8)))
    return np.isin(np.arange(len(images)), chosen)


def _labelled_finely(images: Split) -> Split:
    """The same images and splits, with the fine labels in the superclass's place.

    Raises:
        MissingLabels: where a fine label is not known.
    """
    if images.subclass is None or (images.subclass < 0).any():
        raise MissingLabels(
            f"`labels=subclass` trains on fine labels, and {images.name} does not have one for every row. Add them, "
            f"or train on superclasses."
        )
    return replace(images, superclass=images.subclass, superclass_names=images.subclass_names)


def check_superclasses(images: Samples, method: str = "thanos") -> None:
    """Two or more superclasses of two or more training rows, where ``method`` contrasts them; some to validate on.

    Raises:
        DataError: if that is not so.
    """
    train = np.bincount(images.superclass[images.rows("train")], minlength=len(images.superclass_names))
    if len(images.superclass_names) > 1 or not registry.method(method).one_is_enough:
        _check_contrast(images, train, method)
    if train.sum() < 2:
        raise DataError(f"training needs two or more {images.kind}; {images.name} has {train.sum()}. Add some.")
    if len(images.rows("validation")) < 2:
        raise DataError(
            f"training is watched on two or more validation {images.kind}; {images.name} has "
            f"{len(images.rows('validation'))}. Add {images.kind}, or raise `validation`."
        )


def _check_contrast(images: Samples, train: NDArray[np.int64], method: str) -> None:
    able = " or ".join(name for name in registry.methods() if registry.method(name).one_is_enough)
    if images.superclass_names == (UNLABELLED,):
        where = (
            "Add an array or a column superclass (or label, y, ...), or name a table of labels, a row for each vector"
            if images.size is None
            else "Put its images in a folder for each superclass, or name a table with columns path, superclass"
        )
        raise DataError(
            f"{method} needs labels, and {images.name} has none. {where}: `labels=labels.csv`; or train by {able}, "
            f"which need none."
        )
    if (train > 0).sum() < 2:
        only = images.superclass_names[int(train.argmax())]
        raise DataError(
            f"{method} contrasts two or more superclasses; {images.name} has only {only!r} among its training "
            f"{images.kind}. Add a second superclass, or train by {able}, which need none (thanos discover then "
            f"takes one of these by itself)."
        )
    if (train < 2).any():
        thin = images.superclass_names[int((train < 2).argmax())]
        raise DataError(
            f"every superclass needs two or more training {images.kind}; {thin!r} of {images.name} has {train.min()}. "
            f"Add {images.kind}, or merge or remove that superclass."
        )
