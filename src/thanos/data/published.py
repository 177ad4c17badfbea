"""The published data sets with the paper's superclasses, in torchvision's layout or as {train,test}/CLASS/image."""

import gzip
from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import blake2b
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thanos.config import DataConfig, ViewSpec
from thanos.data import hierarchy
from thanos.data.cache import cached_images, data_folder
from thanos.data.files import Listing, read_listing
from thanos.data.imageset import ImageSet, check_enlarged
from thanos.data.labels import SPLITS, ids_of
from thanos.data.walk import SUFFIXES
from thanos.errors import DataError

# Crops are milder where the object fills the frame, and nothing that has a handedness is flipped.
_DIGIT_VIEWS = ViewSpec(crop_scale=0.85, flip=0, brightness=0.4, contrast=0.4, saturation=0, hue=0, grey=0)
_MNIST_VIEWS = ViewSpec(crop_scale=0.2, flip=0, brightness=0.4, contrast=0.4, saturation=0, hue=0, grey=0)
_FASHION_VIEWS = ViewSpec(crop_scale=0.2, flip=0.5, brightness=0.4, contrast=0.4, saturation=0, hue=0, grey=0)

_UNEVEN = (500, 250, 100, 50, 50)
"""CIFAR-100-U's training images of a superclass's five subclasses, in the order of their ids."""


@dataclass(frozen=True)
class Published:
    """How one data set is found on disk."""

    folder: str
    classes: hierarchy.Hierarchy
    views: ViewSpec
    torchvision: Callable[[Path, bool, bool], tuple[NDArray[Any], NDArray[Any], list[str]]] | None = None
    """(root, train, download) -> images, class ids, class names."""
    layouts: str = ""


def _torchvision_reader(name: str) -> Callable[[Path, bool, bool], tuple[NDArray[Any], NDArray[Any], list[str]]]:
    def read(root: Path, train: bool, download: bool) -> tuple[NDArray[Any], NDArray[Any], list[str]]:
        from torchvision import datasets

        data = getattr(datasets, name)(root, train=train, download=download)
        images = np.asarray(data.data)
        return images.reshape(*images.shape[:3], -1), np.asarray(data.targets, dtype=np.int64), list(data.classes)

    return read


_CLASS_FOLDERS = "{train,test}/CLASS/*.png"
PUBLISHED = {
    "mnist": Published(
        "mnist", hierarchy.DIGITS, _MNIST_VIEWS, _torchvision_reader("MNIST"), f"MNIST/raw/*-ubyte, {_CLASS_FOLDERS}"
    ),
    "fashion-mnist": Published(
        "fashion-mnist",
        hierarchy.FASHION_MNIST,
        _FASHION_VIEWS,
        _torchvision_reader("FashionMNIST"),
        f"FashionMNIST/raw/*-ubyte, *-ubyte[.gz], {_CLASS_FOLDERS}",
    ),
    "cifar10": Published(
        "cifar10",
        hierarchy.CIFAR10,
        ViewSpec(),
        _torchvision_reader("CIFAR10"),
        f"cifar-10-batches-py/, {_CLASS_FOLDERS}",
    ),
    "cifar100": Published(
        "cifar100",
        hierarchy.CIFAR100,
        ViewSpec(),
        _torchvision_reader("CIFAR100"),
        f"cifar-100-python/, {_CLASS_FOLDERS}",
    ),
}


def load_published(config: DataConfig) -> ImageSet:
    """The data set ``config.data`` with fine labels as subclasses and the paper's superclasses.

    Raises:
        DataError: if it is not found; the message lists where it was looked for and in which layouts.
    """
    if config.data == "digits":
        return resized(_digits(), config)
    if config.data == "tiny-imagenet":
        return _tiny_imagenet(config)
    name = "cifar100" if config.data == "cifar100-u" else config.data
    images = resized(_find(name, config), config)
    if config.data == "cifar100-u":
        images = replace(_uneven(images, config.validation, config.split_seed), name="cifar100-u")
    return images


def _digits() -> ImageSet:
    from sklearn.datasets import load_digits

    data = load_digits()
    images = (data.images * (255 / 16)).round().astype(np.uint8)[..., None]
    split = np.zeros(len(images), dtype=np.int8)
    names = [str(d) for d in range(10)]
    record = _record("digits", images, data.target, names, split, hierarchy.DIGITS, _DIGIT_VIEWS)
    return replace(record, splits_named=False)


def _find(name: str, config: DataConfig) -> ImageSet:
    """Look in the data folder and in its folder of that name: torchvision's layout first, then files."""
    published = PUBLISHED[name]
    top = data_folder(config.root)
    for root in (top / published.folder, top):
        found = _from_torchvision(name, published, root, config)
        found = found if found is not None else _from_idx(name, published, root)
        found = found if found is not None else _from_class_folders(name, published, root, config)
        if found is not None:
            return found
    if config.download and published.torchvision is not None:
        return _download(name, published, top / published.folder)
    raise DataError(
        f"{name} was looked for in {top / published.folder} and {top}, as {published.layouts}, and not found. Pass "
        f"`download` to fetch it, or `root` (or set THANOS_DATA) to the folder that holds it."
    )


def _download(name: str, published: Published, root: Path) -> ImageSet:
    """torchvision's own download into ``root``."""
    assert published.torchvision is not None
    try:
        root.mkdir(parents=True, exist_ok=True)
        return _joined(name, published, [published.torchvision(root, train, True) for train in (True, False)])
    except (OSError, RuntimeError) as error:
        raise DataError(f"{name} could not be downloaded into {root} ({error}). Try again later.") from None


def _from_torchvision(name: str, published: Published, root: Path, config: DataConfig) -> ImageSet | None:
    marks = {"mnist": "MNIST/raw", "fashion-mnist": "FashionMNIST/raw", "cifar10": "cifar-10-batches-py"}
    if published.torchvision is None or not (root / marks.get(name, "cifar-100-python")).is_dir():
        return None
    try:
        return _joined(name, published, [published.torchvision(root, train, False) for train in (True, False)])
    except (RuntimeError, OSError, ValueError) as error:
        reason = str(error).split("\n")[0]
        if config.download:
            return _download(name, published, root)
        raise DataError(f"{name} in {root} is incomplete or damaged ({reason}). Pass `download` to fetch it.") from None


def _joined(name: str, published: Published, parts: list[tuple[NDArray[Any], NDArray[Any], list[str]]]) -> ImageSet:
    images, labels = np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])
    split = np.repeat([0, 2], [len(p[1]) for p in parts]).astype(np.int8)
    names = [c.split(" - ")[0] for c in parts[0][2]] if name == "mnist" else parts[0][2]  # "0 - zero" -> "0"
    return _record(name, images, labels, names, split, published.classes, published.views)


def _from_idx(name: str, published: Published, root: Path) -> ImageSet | None:
    """MNIST's own file format, plain or gzipped, as Debian packages it."""
    if name not in ("mnist", "fashion-mnist"):
        return None
    parts = []
    for part in ("train", "t10k"):
        images, labels = (_read_idx(root, f"{part}-{kind}-ubyte") for kind in ("images-idx3", "labels-idx1"))
        if images is None or labels is None:
            return None
        parts.append((images[..., None], labels.astype(np.int64), list(published.classes)))
    if name == "fashion-mnist":
        order = [
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ]
        parts = [(images, labels, order) for images, labels, _ in parts]
    return _joined(name, published, parts)


def _read_idx(root: Path, stem: str) -> NDArray[np.uint8] | None:
    for path, opener in ((root / stem, open), (root / f"{stem}.gz", gzip.open)):
        if path.is_file():
            try:
                with opener(path, "rb") as file:
                    content = file.read()
                rank = content[3]
                shape = np.frombuffer(content, dtype=">u4", count=rank, offset=4).astype(int)
                return np.frombuffer(content, dtype=np.uint8, offset=4 + 4 * rank).reshape(shape)
            except (OSError, EOFError, IndexError, ValueError) as error:
                raise DataError(f"{path} is damaged ({error}). Fetch it again.") from None
    return None


def _from_class_folders(name: str, published: Published, root: Path, config: DataConfig) -> ImageSet | None:
    if not (root / "train").is_dir() or not (root / "test").is_dir():
        return None
    listing = Listing(name)
    for split in ("train", "test"):
        for folder in sorted(p for p in (root / split).iterdir() if p.is_dir()):
            if folder.name not in published.classes:
                known = ", ".join(list(published.classes)[:4])
                raise DataError(
                    f"{name} has the classes {known}, ...; {folder} is none of them. Remove that folder, or point "
                    f"`data` at {root} to use it as your own data."
                )
            found = (p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES)
            for path in sorted(found, key=attrgetter("name")):  # of whole paths that takes seconds
                listing.add(path, superclass=published.classes[folder.name], subclass=folder.name, split=split)
    return read_listing(listing, config, published.views)


def _record(
    name: str,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    label_names: list[str],
    split: NDArray[np.int8],
    classes: hierarchy.Hierarchy,
    views: ViewSpec,
) -> ImageSet:
    subclass, subclass_names = ids_of([label_names[i] for i in labels])
    superclass, superclass_names = ids_of([classes[label_names[i]] for i in labels])
    return ImageSet(
        name=name,
        images=images,
        superclass=superclass,
        superclass_names=superclass_names,
        split=split,
        subclass=subclass,
        subclass_names=subclass_names,
        refs=tuple(f"{name}/{i}" for i in range(len(labels))),
        views=views,
    )


def _tiny_imagenet(config: DataConfig) -> ImageSet:
    """The official layout; its validation images, the only other labelled ones, are the test set."""
    top = data_folder(config.root)
    root = next(
        (
            r
            for r in (top / "tiny-imagenet" / "tiny-imagenet-200", top / "tiny-imagenet-200", top / "tiny-imagenet")
            if (r / "val" / "val_annotations.txt").is_file()
        ),
        None,
    )
    if root is None and config.download:
        from torchvision.datasets.utils import download_and_extract_archive

        try:
            download_and_extract_archive(
                "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
                str(top / "tiny-imagenet"),
                md5="90528d7ca1a48142e341f4ef8d21d0de",
            )
        except (OSError, RuntimeError) as error:
            raise DataError(f"tiny-imagenet could not be downloaded into {top} ({error}). Try again later.") from None
        root = top / "tiny-imagenet" / "tiny-imagenet-200"
    if root is None:
        raise DataError(
            f"tiny-imagenet was looked for as {top}/tiny-imagenet/tiny-imagenet-200/{{train,val}} and "
            f"{top}/tiny-imagenet-200, and not found. Pass `download` to fetch it, or `root` (or set THANOS_DATA) to "
            f"the folder that holds it."
        )
    classes, listing = hierarchy.tiny_imagenet(), Listing("tiny-imagenet")
    for folder in sorted((root / "train").iterdir()):
        if folder.name not in classes:
            raise DataError(f"tiny-imagenet has 200 known wnids; {folder} is none of them. Remove that folder.")
        for path in sorted((folder / "images").iterdir(), key=attrgetter("name")):
            listing.add(path, superclass=classes[folder.name], subclass=folder.name, split="train")
    for line in (root / "val" / "val_annotations.txt").read_text("utf-8").splitlines():
        file, wnid = [*line.split("\t"), ""][:2]
        if wnid not in classes:
            raise DataError(
                f"val_annotations.txt of tiny-imagenet names its 200 wnids; {file} has {wnid!r}. Fetch it again."
            )
        listing.add(root / "val" / "images" / file, superclass=classes[wnid], subclass=wnid, split="test")
    # some of its images are grey JPEGs: RGB for all, as everyone reads it
    return read_listing(listing, config.model_copy(update={"convert": True}), ViewSpec())


def _uneven(images: ImageSet, validation: float, seed: int) -> ImageSet:
    """CIFAR-100-U: of each superclass's five subclasses 500, 250, 100, 50 and 50 training images, without replacement.

    Validation is held out of these in the same proportions (450, 225, 90, 45, 45 remain); the test set stays whole.
    """
    assert images.subclass is not None
    rng = np.random.default_rng((seed, 100))
    split, kept = images.split.copy(), [images.rows("test")]
    for superclass in range(len(images.superclass_names)):
        members = np.unique(images.subclass[images.superclass == superclass])
        for fine, count in zip(members, _UNEVEN, strict=True):
            rows = np.flatnonzero((images.subclass == fine) & images.in_split("train"))
            drawn = rng.permutation(rows)[:count]
            split[drawn[: round(validation * count)]] = SPLITS.index("validation")
            kept.append(drawn)
    return replace(images, split=split).take(np.sort(np.concatenate(kept)))


def resized(images: ImageSet, config: DataConfig) -> ImageSet:
    """Arrays that came at another size than ``size``, scaled with antialiasing into the cache."""
    if config.size in (None, "auto") or (config.size, config.size) == images.size:
        return images
    side = int(config.size)
    check_enlarged(side, min(images.size))
    source = images.images

    def fill(out: NDArray[np.uint8]) -> None:
        from PIL import Image

        for i in range(len(source)):
            picture = Image.fromarray(source[np.array([i])][0].squeeze())
            out[i] = np.asarray(picture.resize((side, side), Image.Resampling.BILINEAR)).reshape(out.shape[1:])

    key = blake2b(f"{images.fingerprint} {side}".encode(), digest_size=16).hexdigest()
    return replace(images, images=cached_images(key, (len(images), side, side, images.channels), fill))
