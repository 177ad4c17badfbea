"""Images and labels as arrays: in memory, in an .npz file, in a torch data set."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from thanos.config import DataConfig
from thanos.data.columns import columns_of, said_columns
from thanos.data.decode import squared
from thanos.data.files import default_views
from thanos.data.imageset import ImageSet, check_enlarged, cut_off
from thanos.data.labels import known_units, label_fields, split_names
from thanos.data.splits import with_splits
from thanos.errors import DataError
from thanos.storage import read_npz

PICTURES = ("images", "image", "x", "data")
"""Names an array of images may have."""
SMALLEST = 4
"""Pixels a side."""


def from_arrays(
    images: ArrayLike,
    superclass: ArrayLike,
    *,
    subclass: ArrayLike | None = None,
    group: ArrayLike | None = None,
    split: ArrayLike | None = None,
    refs: Sequence[str] = (),
    name: str = "arrays",
    validation: float = 0.1,
    split_seed: int = 0,
) -> ImageSet:
    """Arrays as the record that everything else takes.

    Args:
        images: uint8, shape (n, height, width) or (n, height, width, 1 or 3).
        superclass: Of each image, integers or text, shape (n,).
        subclass, group: The same; -1, nan, None and '' are unknown. Subclasses are never used in training.
        split: train, validation, test or '' of each image; default: a fifth of the images is for testing.
        refs: Where each image came from; default: its number.
        name: Of the set.
        validation: Share of the training images held out, where ``split`` names none for it.
        split_seed: Of what is held out.
    Raises:
        DataError: for another type, shape or length, a missing superclass, or an unknown split.
    """
    labels = {"superclass": superclass, "subclass": subclass, "group": group, "split": split}
    given = {key: values for key, values in labels.items() if values is not None}
    return with_splits(_image_set(np.asarray(images), given, refs, name), validation, split_seed)


def from_dataset(
    dataset: Any, *, superclass: Mapping[str, str] | None = None, name: str | None = None, **options: Any
) -> ImageSet:
    """A torch (or torchvision) data set of pairs (image, label); all images are taken into memory.

    Args:
        dataset: Images are PIL images or uint8 arrays of one size; labels are integers (names from ``classes``, where
            the data set has them) or text.
        superclass: From the name of a label to its superclass; the labels are then subclasses. Default: they are
            superclasses.
        name: Of the set; default: the data set's type.
        options: ``group``, ``split``, ``validation``, ``split_seed``, ``refs`` of :func:`from_arrays`.
    Raises:
        DataError: as :func:`from_arrays`, or for a label that ``superclass`` does not know.
    """
    name = name or type(dataset).__name__
    pairs = [dataset[i][:2] for i in range(len(dataset))]
    pictures = [np.asarray(image) for image, _ in pairs]
    if len({picture.shape for picture in pictures}) != 1:
        shapes = sorted({picture.shape for picture in pictures})[:2]
        raise DataError(f"images of one size and mode are wanted; {name} has {shapes}. Resize and convert them first.")
    classes = getattr(dataset, "classes", None)
    words = [str(classes[int(label)]) if classes is not None else str(label) for _, label in pairs]
    if superclass is None:
        return from_arrays(np.stack(pictures), words, name=name, **options)
    if odd := sorted(set(words) - set(superclass)):
        raise DataError(f"superclass names one for every label; {odd[0]!r} of {name} has none. Add it.")
    above = [superclass[word] for word in words]
    return from_arrays(np.stack(pictures), above, subclass=words, name=name, **options)


def read_arrays(file: Path, config: DataConfig) -> ImageSet:
    """An .npz with ``images``, ``superclass`` and, if known, ``subclass``, ``group``, ``split``, ``path``.

    Raises:
        DataError: if it cannot be read or lacks one of the first two.
    """
    arrays = _of_splits(file)
    found = [name for name in arrays if name.lower() in PICTURES and arrays[name].ndim in (3, 4)]
    if len(found) != 1:
        has = ", ".join(f"{name} {value.shape}" for name, value in arrays.items()) or "nothing"
        raise DataError(
            f"{file.name} needs one array of images ({', '.join(PICTURES)}), or of embeddings (vectors, beside "
            f"superclass); it has {has}. Rename one."
        )
    pictures = arrays.pop(found[0])
    names = list(arrays)
    places, note = columns_of(file.name, names, "array", said_columns(config.columns, config.together))
    labels: dict[str, Any] = {key: arrays[names[i]] for key, i in places.items()}
    refs = [str(ref) for ref in labels.pop("path", ())]
    together = words_of(labels.pop("together"), "together", len(pictures), file.name) if "together" in labels else []
    together = known_units(together)
    notes = [note] if note else []
    pictures = _pictures(pictures, file.stem)
    if isinstance(config.size, int) and pictures.shape[1:3] != (config.size, config.size):
        side = config.size
        check_enlarged(side, min(pictures.shape[1:3]))
        from_ = pictures
        pictures = np.stack([np.asarray(squared(Image.fromarray(picture.squeeze()), side)) for picture in from_])
        height, width = from_.shape[1:3]
        notes.append(f"{len(from_)} of {len(from_)} brought to {side}x{side}{cut_off([(width, height)])}")
    read = _image_set(pictures, labels, refs, file.stem, config.unknown)
    return replace(read, notes=tuple(notes), together=tuple(together))


def _of_splits(file: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a file that has some for each split (MedMNIST's ``train_images``, ``train_labels``), together."""
    arrays = read_npz(file)
    here = [part for part in _PARTS if f"{part}_images" in arrays]
    parts = {_PARTS[part]: part for part in here}
    if not parts:
        return arrays
    shapes = {arrays[f"{part}_images"].shape[1:] for part in here}
    if len(parts) < len(here) or len(shapes) > 1:
        came = ", ".join(f"{part}_images {arrays[f'{part}_images'].shape}" for part in here)
        raise DataError(f"of arrays by split there is one for each, of one size; {file.name} has {came}. Mend one.")
    kinds = {name.removeprefix(f"{part}_") for part in parts.values() for name in arrays if name.startswith(f"{part}_")}
    every = [kind for kind in sorted(kinds) if all(f"{part}_{kind}" in arrays for part in parts.values())]
    if partial := sorted(kinds - set(every)):
        raise DataError(
            f"{file.name} has {partial[0]} of some splits only ({', '.join(parts.values())}). Add it to the others, or "
            f"leave it out."
        )
    whole = {kind: np.concatenate([arrays[f"{part}_{kind}"] for part in parts.values()]) for kind in every}
    whole = {
        kind: values.squeeze(1) if values.ndim == 2 and values.shape[1] == 1 else values
        for kind, values in whole.items()
    }
    split = [np.full(len(arrays[f"{part}_images"]), split) for split, part in parts.items()]
    return whole | {"split": np.concatenate(split)}


_PARTS = {"train": "train", "val": "validation", "validation": "validation", "test": "test"}


def _pictures(pictures: NDArray[Any], name: str) -> NDArray[np.uint8]:
    """Images of shape (n, height, width, channels)."""
    shape = pictures.shape
    if pictures.ndim == 3:
        pictures = pictures[..., None]
    if not len(pictures):
        raise DataError(f"{name} has no images (an array of shape {shape}). Save it again.")
    if pictures.dtype != np.uint8 or pictures.ndim != 4 or pictures.shape[3] not in (1, 3):
        raise DataError(
            f"images are uint8 of shape (n, height, width) or (n, height, width, 1 or 3); {name} has {pictures.dtype} "
            f"of shape {shape}. Convert them (0 to 255, channels last)."
        )
    if min(pictures.shape[1:3]) < SMALLEST:
        raise DataError(f"images have {SMALLEST} pixels a side or more; {name} has {shape}. Pass others.")
    return pictures


def _image_set(
    pictures: NDArray[Any], labels: dict[str, ArrayLike], refs: Sequence[str], name: str, unknown: str | None = None
) -> ImageSet:
    pictures = _pictures(pictures, name)
    if len(refs) not in (0, len(pictures)):
        raise DataError(
            f"every image has one path (or ref); {name} has {len(pictures)} images and {len(refs)} of them."
        )
    words = {key: words_of(values, key, len(pictures), name) for key, values in labels.items()}
    words["split"] = split_names(words.get("split", [""] * len(pictures)))
    fields = label_fields(words, len(pictures), name, unknown=unknown)
    return ImageSet(
        name=name,
        images=pictures,
        refs=tuple(refs) or tuple(f"{name}/{i}" for i in range(len(pictures))),
        views=default_views(pictures.shape[3]),
        **fields,
    )


def words_of(values: ArrayLike, key: str, count: int, name: str, kind: str = "image") -> list[str]:
    """Labels as text; nothing where a label is unknown."""
    array: NDArray[Any] = np.asarray(values)
    if array.dtype.kind == "S":
        array = np.char.decode(array, "utf-8", "backslashreplace")
    if array.shape != (count,):
        raise DataError(f"{key} has one label for each {kind}; {name} has {count} {kind}s and shape {array.shape}.")
    if array.dtype.kind in "iu":
        return ["" if v < 0 else str(v) for v in array.tolist()]
    if array.dtype.kind == "f":
        known = array[np.isfinite(array)]
        if (known != np.round(known)).any():
            raise DataError(f"labels are integers or text; {key} of {name} has {known[known != np.round(known)][0]}.")
        return ["" if not np.isfinite(v) or v < 0 else str(int(v)) for v in array.tolist()]
    return ["" if v is None else str(v).strip() for v in array.tolist()]
