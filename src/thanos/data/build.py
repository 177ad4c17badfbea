"""``thanos data build``: make a set and say what is in it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from thanos.config import DataConfig
from thanos.data.cache import data_folder
from thanos.data.imageset import ImageSet
from thanos.data.labels import SPLITS
from thanos.data.load import load
from thanos.data.spurious import BUILT
from thanos.data.waterbirds import build_waterbirds
from thanos.errors import ConfigError
from thanos.names import nearest


def build_set(
    name: str,
    seed: int,
    root: Path | None,
    download: bool,
    sources: tuple[Path | None, Path | None, Path | None],
    out: Path | None,
    say: Callable[[str], None],
) -> None:
    """Build a set by name.

    Args:
        name: One of BUILT, or waterbirds.
        seed: Of every draw.
        root: Where the published sets lie.
        download: Whether to fetch what is missing.
        sources: For waterbirds: CUB, its masks, Places.
        out: For waterbirds: where the folder goes.
        say: Receives each line meant for the user.
    Raises:
        ConfigError: for another name, or sources that do not fit it.
        DataError: if a source is not there.
    """
    if name not in (*BUILT, "waterbirds"):
        known = (*BUILT, "waterbirds")
        raise ConfigError(f"what can be built is {', '.join(known)}; got {name!r}{nearest(name, known)}.")
    if name != "waterbirds":
        if any(sources) or out is not None:
            raise ConfigError(f"`cub`, `masks`, `places` and `out` are for waterbirds; {name} is kept in the cache.")
        images = load(DataConfig(data=name, root=root, download=download, split_seed=seed))
        _describe(images, say)
        say(f"use it: thanos train --data {name}{f' --split-seed {seed}' if seed else ''} --out runs/a")
        return
    cub, masks, places = sources
    if cub is None or masks is None or places is None:
        raise ConfigError("waterbirds is built from `cub`, `masks` and `places`; give all three.")
    folder = build_waterbirds(cub, masks, places, out or data_folder(root), seed=seed, say=say)
    say(f"built {folder}; use it: thanos train --data waterbirds --root {folder.parent} --out runs/a")


def _describe(images: ImageSet, say: Callable[[str], None]) -> None:
    """Images of each group (else subclass) in each split."""
    kinds, names = (images.group, images.group_names) if images.group is not None else (None, ())
    if kinds is None:
        kinds, names = images.subclass, images.subclass_names
    assert kinds is not None
    say(f"{images.name}: {len(images):,} images of {images.size[0]}x{images.size[1]}")
    say(f"{'':<28}" + "".join(f"{split:>12}" for split in SPLITS))
    counts = [np.bincount(kinds[images.rows(split)], minlength=len(names)) for split in SPLITS]
    for i, name in enumerate(names):
        say(f"{name:<28}" + "".join(f"{count[i]:>12,}" for count in counts))
