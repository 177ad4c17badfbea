"""Which images and labels, how they are read, and how views of them are drawn."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from thanos import registry
from thanos.config.base import Fraction, Settings
from thanos.errors import ConfigError
from thanos.names import nearest, nearest_beside

LISTINGS = (".csv", ".tsv", ".txt", ".jsonl", ".npz")
"""Kinds of file that list images or hold them."""
OF_VECTORS = (".npy", ".parquet")
"""Further kinds of file that hold vectors, or (.parquet) images or their names; those of LISTINGS may hold vectors."""


class ViewSpec(Settings):
    """How a random view is drawn, image by image."""

    crop_scale: Annotated[float, Field(gt=0, le=1)] = 0.2
    """Smallest share of the image's area a crop keeps; 1 turns cropping off."""
    flip: Fraction = 0.5
    """Probability of a left-right flip."""
    jitter: Fraction = 0.8
    """Probability of colour jitter."""
    brightness: Annotated[float, Field(ge=0)] = 0.4
    """Brightness factor is drawn from 1 +- this."""
    contrast: Annotated[float, Field(ge=0)] = 0.4
    """Contrast factor is drawn from 1 +- this."""
    saturation: Annotated[float, Field(ge=0)] = 0.4
    """Saturation factor is drawn from 1 +- this."""
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    """Hue shift is drawn from +- this, in turns of the colour circle."""
    grey: Fraction = 0.2
    """Probability of turning grey."""


class FeatureViewSpec(Settings):
    """How a random view of a vector is drawn, number by number."""

    noise: Annotated[float, Field(ge=0)] = 0.3
    """Deviation of the normal noise that is added, in standard deviations of the feature."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Probability that a feature takes its mean instead."""
    neighbours: Annotated[int, Field(ge=0)] = 0
    """All views but one are of the vector or of one of so many nearest of its superclass; 0: of the vector itself."""


class DataConfig(Settings):
    """Which images and labels, and how they are read."""

    data: str = "digits"
    """A data set's name ({datasets}), a folder SUPERCLASS[/SUBCLASS]/image, a CSV with columns path, superclass
    [, subclass][, group][, split], or an .npz with the arrays images, superclass and, of these, any others. Or vectors:
    .npy, .npz, .csv, .parquet, or a Hugging Face data set on disk (docs/own-data.md). To embed, images or vectors alone
    will do."""
    root: Path | None = None
    """Where the published data sets lie; default: $THANOS_DATA, else ~/.cache/thanos/data."""
    download: bool = False
    """Fetch a published data set that is not there."""
    size: Annotated[int, Field(ge=4)] | Literal["auto"] | None = None
    """Side in pixels that images are brought to; default: their own, if they all agree."""
    convert: bool = False
    """Bring images of mixed modes (grey, alpha, CMYK, 16 bit) to 8-bit RGB instead of stopping."""
    skip_bad: bool = False
    """Go on without unreadable images and rows, and list them in skipped.csv, instead of stopping."""
    columns: str | None = None
    """Which columns of a table say what, where their names do not: path=image_id,superclass=dx,subclass=...,group=sex,
    split=...,together=lesion_id. Columns of a list without header are numbered from 1."""
    together: str | None = None
    """The column that says what an image is of (a patient, a lesion, a track): images of one stay in one split."""
    layout: str | None = None
    """What the levels of folders are, where their names do not say: split/superclass, superclass/subclass, or
    ``*/superclass``."""
    level: Annotated[int, Field(ge=1)] | None = None
    """Which level of labels is the superclass, where there are more than two: folders in folders, or 'animal > dog >
    beagle' in a table; default: the first. What lies below is the subclass."""
    judged_level: Annotated[int, Field(ge=2)] | None = None
    """And which is the subclass, that judges; default: the finest. Not known where a label does not go so deep."""
    unknown: str | None = None
    """Labels that mean not known, split by commas; default: none, na, n/a and null, unless they are frequent. Empty and
    nan always do."""
    megapixels: Annotated[float, Field(gt=0)] = 179
    """The largest image that is opened; a file may claim more than memory can hold."""
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the training images held out for validation, where the data name no such split."""
    train_limit: Annotated[int, Field(ge=1)] | None = None
    """Train on this many images, each superclass keeping its share (in cifar100-u each subclass), after validation is
    held out."""
    unseen: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the training images that no encoder is trained on, each superclass keeping its own: afr fits its head
    on them (0.2 as published)."""
    split_seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the validation split, of the training subset and of the unseen ones."""
    labels: Literal["superclass", "subclass"] | Path = "superclass"
    """A CSV with the labels of the images in the folder --data, or of the vectors in the file --data, one row each or
    matched by an id (also .npy, .npz, .parquet; columns: docs/own-data.md). Or what training is told:
    superclass, or subclass, the fine labels themselves, to see what they would give."""
    groups_from: Path | None = None
    """A table of discovered subclasses (thanos discover), which take the place of the images' groups."""
    groups_named: Path | None = None
    """A YAML file 'discovered subclass: your name' for that table, equal names merge; or the edits that its page saved
    (subclasses-edited.yaml)."""


class SourceConfig(DataConfig):
    """Which of a run's weights, and which images; by default those it was trained on."""

    weights: Literal["last", "best"] = "last"
    """Of the last epoch, or of the best by validation superclass accuracy."""
    pretrained: bool | Path = False
    """A file of weights of the timm model that is named, or, where images are trained on first, of the --encoder to
    start from; without a file, those of an installed package (extra photos: tf_efficientnet_lite0), else the published
    ones (a download, once)."""


OF_IMAGES = ("size", "convert", "root", "download", "layout", "megapixels")
"""Settings of reading that say nothing about vectors."""


def refuse_settings(config: DataConfig, names: tuple[str, ...], about: str) -> None:
    """Raise ConfigError for one of these settings that was given another value than it has by itself.

    Args:
        config: With what may have been given.
        names: Of settings that say nothing here.
        about: What they say something about, and what came instead.
    """
    for name in names:
        if getattr(config, name) != DataConfig.model_fields[name].default:
            raise ConfigError(f"`{name}` is about {about}: {config.data}. Drop it.")


def check_data(name: str) -> None:
    """Raise ConfigError unless ``name`` is a data set, a folder, or a file of a kind that holds images or vectors."""
    path = Path(name)
    if path.is_file() and path.suffix.lower() not in (*LISTINGS, *OF_VECTORS):
        raise ConfigError(
            f"images are given as a folder SUPERCLASS/image, a table ({', '.join(LISTINGS[:-1])}) or an .npz, vectors "
            f"as {', '.join(OF_VECTORS)}, .csv or .npz; {name!r} is one file of another kind. Give the folder that it "
            f"is in, or a table that lists it."
        )
    if registry.dataset(name) is not None or path.exists():
        return
    known = registry.datasets()
    near = nearest_beside(path) or nearest(name, known)
    raise ConfigError(
        f"`data={name}`: no such path exists{near}. Give a folder, a CSV, an .npz, a file of vectors, or the name of a "
        f"data set ({', '.join(known)}){registry.broken()}."
    )
