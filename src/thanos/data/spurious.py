"""Sets built from small images, in which something besides the class goes with it, or a subclass is rare.

Everything follows the split seed. Test images, and the validation images of the coloured digits, are balanced over
groups, so that every group's score rests on as many images as there are.
"""

import colorsys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thanos.config import DataConfig, ViewSpec
from thanos.data.cache import cached_images
from thanos.data.draw import draw_stratified
from thanos.data.imageset import ImageSet
from thanos.data.labels import SPLITS
from thanos.data.published import load_published, resized
from thanos.errors import ConfigError

DOMINO_CLASSES = (("automobile", "0"), ("truck", "1"))
"""A class's picture below, and the digit that usually lies above it."""
DOMINO_VALIDATION = 0.2
_DOMINO_VIEWS = ViewSpec(crop_scale=0.5)  # every crop shows some of both halves

COLOURS = ("red", "lime", "green", "blue", "purple")
"""Of hue 0, 1/5, ... 4/5; the background that usually goes with digits 0 and 1, 2 and 3, ..."""
COLOURED_TRAIN, COLOURED_VALIDATION = 10_000, 2_500
COLOURED_SHARE = 0.975
"""Of a class's training images with its own colour: the others are as many in a group as in SpuCoMNIST's 48,000."""
_COLOURED_VIEWS = ViewSpec(crop_scale=0.2, flip=0, brightness=0.4, contrast=0.4, saturation=0, hue=0, grey=0)

PATCHED_SHARE = 0.5
_PATCH = 8
RARE_SHARE = 0.05


def dominoes(config: DataConfig, *, agreement: float) -> ImageSet:
    """A digit above a vehicle, 64x32: cars and trucks are told apart, the digit mostly goes with them.

    A group is a vehicle and a digit. Source: Shah et al., NeurIPS 2020; shares of Kirichenko et al., ICLR 2023.

    Args:
        config: Names the data folder and the seed.
        agreement: Share of each class's training images with its own digit; half in test.
    """
    if config.size is not None:
        raise ConfigError("dominoes are 64x32 pixels; drop `size`.")
    digits, scenes = _source("mnist", config), _source("cifar10", config)
    rng = np.random.default_rng((config.split_seed, 101))
    above, below, superclass, digit, split = [], [], [], [], []
    for number, share in ((0, agreement), (2, 0.5)):
        pictures = [_rows_of(scenes, name, number, rng) for name, _ in DOMINO_CLASSES]
        numerals = [_rows_of(digits, name, number, rng) for _, name in DOMINO_CLASSES]
        count = min(map(len, (*pictures, *numerals)))
        against = round((1 - share) * count)
        for own in (0, 1):
            below.append(pictures[own][:count])
            above += [numerals[own][: count - against], numerals[1 - own][count - against : count]]
            superclass.append(np.full(count, own))
            digit.append(np.repeat([own, 1 - own], [count - against, against]))
            split.append(np.full(count, number, dtype=np.int8))
    labels = np.concatenate(superclass)
    splits = _hold_out(np.concatenate(split), labels, DOMINO_VALIDATION, rng)
    upper, lower = np.concatenate(above), np.concatenate(below)

    def fill(out: NDArray[np.uint8]) -> None:
        out[:] = 0
        out[:, 2:30, 2:30] = digits.images[upper]
        out[:, 32:] = scenes.images[lower]

    key = _key(config, (upper, lower), digits.fingerprint, scenes.fingerprint)
    group = 2 * labels + np.concatenate(digit)
    names = tuple(f"{vehicle}, digit {numeral}" for vehicle, _ in DOMINO_CLASSES for _, numeral in DOMINO_CLASSES)
    return ImageSet(
        name=config.data,
        images=cached_images(key, (len(labels), 64, 32, 3), fill),
        superclass=labels,
        superclass_names=tuple(name for name, _ in DOMINO_CLASSES),
        split=splits,
        subclass=group,
        subclass_names=names,
        group=group,
        group_names=names,
        refs=tuple(f"{config.data}/{i}" for i in range(len(labels))),
        views=_DOMINO_VIEWS,
    )


def coloured_digits(config: DataConfig, *, patch: int) -> ImageSet:
    """Digits in five pairs on a coloured ground; in training nearly every pair has a colour of its own.

    Source: SpuCoMNIST (Joshi et al. 2023), with 10,000 training images. A group is a pair and a colour.

    Args:
        config: Names the data folder and the seed.
        patch: Side of the coloured square in the upper left corner, in pixels of 28; the smaller, the less it tempts.
    """
    digits = _source("mnist", config)
    assert digits.subclass is not None
    pair = digits.subclass // 2
    rng = np.random.default_rng((config.split_seed, 102))
    wanted = COLOURED_TRAIN + COLOURED_VALIDATION
    drawn = draw_stratified(digits.rows("train"), pair, wanted, rng)
    held_out = draw_stratified(drawn, pair, COLOURED_VALIDATION, rng)
    rows = np.concatenate([np.setdiff1d(drawn, held_out), np.sort(held_out), digits.rows("test")])
    sizes = (COLOURED_TRAIN, COLOURED_VALIDATION, len(digits.rows("test")))
    split = np.repeat([0, 1, 2], sizes).astype(np.int8)
    labels, kinds = pair[rows], len(COLOURS)
    colour = np.empty(len(rows), dtype=np.int64)
    for number in range(3):
        for own in range(kinds):
            mine = np.flatnonzero((split == number) & (labels == own))
            shades = np.arange(len(mine)) % kinds
            if number == 0:
                usual = round(COLOURED_SHARE * len(mine))
                others = (own + 1 + np.arange(len(mine) - usual) % (kinds - 1)) % kinds
                shades = np.concatenate([np.full(usual, own), others])
            colour[rng.permutation(mine)] = shades
    palette = np.array([colorsys.hsv_to_rgb(i / kinds, 1, 1) for i in range(kinds)])

    def fill(out: NDArray[np.uint8]) -> None:
        out[:] = digits.images[rows]
        paper = np.zeros((1, 28, 28, 1), dtype=bool)
        paper[:, :patch, :patch] = True
        shade = (255 * palette[colour]).round().astype(np.uint8)[:, None, None]
        np.copyto(out, shade, where=paper & (out == 0))

    key = _key(config, (rows, colour, palette), digits.fingerprint)
    names = tuple(f"{2 * k} or {2 * k + 1}" for k in range(kinds))
    images = ImageSet(
        name=config.data,
        images=cached_images(key, (len(rows), 28, 28, 3), fill),
        superclass=labels,
        superclass_names=names,
        split=split,
        subclass=digits.subclass[rows],
        subclass_names=digits.subclass_names,
        group=kinds * labels + colour,
        group_names=tuple(f"{name}, {shade}" for name in names for shade in COLOURS),
        refs=tuple(f"{config.data}/{i}" for i in range(len(rows))),
        views=_COLOURED_VIEWS,
    )
    return resized(images, config)


def patched(config: DataConfig) -> ImageSet:
    """CIFAR-10's animals and vehicles; half of the animals carry a coloured square, as ISIC's benign lesions a plaster.

    Subclasses and groups are vehicles, animals with and animals without a patch, in the same shares in every split.
    """
    scenes = _source("cifar10", config)
    rng = np.random.default_rng((config.split_seed, 103))
    wearer = scenes.superclass_names.index("animals")
    wears = np.zeros(len(scenes), dtype=bool)
    for number in range(len(SPLITS)):
        mine = np.flatnonzero((scenes.split == number) & (scenes.superclass == wearer))
        wears[rng.permutation(mine)[: round(PATCHED_SHARE * len(mine))]] = True
    corner = rng.integers(0, 32 - _PATCH + 1, (len(scenes), 2))
    shade = np.array([colorsys.hsv_to_rgb(h, 1, 1) for h in rng.random(len(scenes))])

    def fill(out: NDArray[np.uint8]) -> None:
        for start in range(0, len(scenes), 4096):
            rows = np.arange(start, min(start + 4096, len(scenes)))
            out[rows] = scenes.images[rows]
        for i in np.flatnonzero(wears):
            top, left = corner[i]
            out[i, top : top + _PATCH, left : left + _PATCH] = (255 * shade[i]).round()

    key = _key(config, (wears, corner, shade), scenes.fingerprint)
    group = np.where(scenes.superclass == wearer, wears.astype(np.int64), 2)
    names = ("animals, no patch", "animals, patch", "vehicles")
    images = replace(
        scenes,
        name=config.data,
        images=cached_images(key, scenes.images.shape, fill),
        subclass=group,
        subclass_names=names,
        group=group,
        group_names=names,
        refs=tuple(f"{config.data}/{i}" for i in range(len(scenes))),
    )
    return resized(images, config)


def rare(config: DataConfig, *, source: str, subclass: str) -> ImageSet:
    """A data set with 5% of one class's training images: the rare subclass of its superclass. The test set stays whole.

    Source: Sohoni et al., NeurIPS 2020, who keep 5% of the digit 8.
    """
    whole = _source(source, config)
    assert whole.subclass is not None
    rng = np.random.default_rng((config.split_seed, 104))
    mine = _rows_of(whole, subclass, 0, rng)
    kept = np.setdiff1d(np.arange(len(whole)), mine[round(RARE_SHARE * len(mine)) :])
    images = replace(whole.take(kept), name=config.data)
    return resized(images, config)


BUILT: dict[str, Callable[[DataConfig], ImageSet]] = {
    "dominoes-95": partial(dominoes, agreement=0.95),
    "dominoes-99": partial(dominoes, agreement=0.99),
    "coloured-digits-large": partial(coloured_digits, patch=28),
    "coloured-digits-medium": partial(coloured_digits, patch=4),
    "coloured-digits-small": partial(coloured_digits, patch=2),
    "patched-cifar10": patched,
    "rare-cifar10": partial(rare, source="cifar10", subclass="ship"),
    "rare-mnist": partial(rare, source="mnist", subclass="8"),
}
"""By the name that ``data`` takes."""


def load_built(config: DataConfig) -> ImageSet:
    """One of BUILT."""
    return BUILT[config.data](config)


def _source(name: str, config: DataConfig) -> ImageSet:
    return load_published(config.model_copy(update={"data": name, "size": None}))


def _rows_of(images: ImageSet, subclass: str, split: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Positions of one class's images in one split, shuffled."""
    kind = images.subclass_names.index(subclass)
    return rng.permutation(np.flatnonzero((images.subclass == kind) & (images.split == split)))


def _hold_out(
    split: NDArray[np.int8], label: NDArray[np.int64], share: float, rng: np.random.Generator
) -> NDArray[np.int8]:
    train = np.flatnonzero(split == SPLITS.index("train"))
    split[draw_stratified(train, label, round(share * len(train)), rng)] = SPLITS.index("validation")
    return split


def _key(config: DataConfig, drawn: tuple[NDArray[Any], ...], *sources: str) -> str:
    """Of what is built, from what, and of everything that was drawn."""
    digest = blake2b(repr((config.data, sources)).encode(), digest_size=16)
    for values in drawn:
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()
