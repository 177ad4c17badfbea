"""A page to edit, and what a file of edits says of each image, read by other means than the page's."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray

from thanos import DiscoverConfig, discover
from thanos.config import ViewSpec
from thanos.data.imageset import ImageSet
from thanos.embeddings import Embeddings
from thanos.evaluate.recovery import recovery_by_split
from thanos.report.discover_page import write_discover_page
from thanos.robust.plain import plain_errors
from thanos.subclasses.cuts import with_cuts
from thanos.subclasses.table import write_discovered

KINDS, EACH = 6, 24


@dataclass(frozen=True)
class World:
    page: Path
    table: Path
    images: ImageSet
    vectors: NDArray[np.float32]
    part: dict[str, str]
    """Of each image the finest part that it is in."""


def world(folder, superclasses=("animals", "plants"), *, linked=False):
    """Two superclasses; of three pairs of kinds the pairs are found, and halved; images are of one colour a kind."""
    kind = np.repeat(np.arange(2 * KINDS), EACH)
    rng = np.random.default_rng(0)
    centres = np.array([[x, y] for x in (0, 20, 60) for y in (0, 3)])
    vectors = centres[kind % KINDS] + 300 * (kind // KINDS)[:, None] + 0.2 * rng.normal(size=(len(kind), 2))
    pixels = np.clip(20 * kind[:, None, None, None] + rng.integers(0, 9, (len(kind), 8, 8, 3)), 0, 255)
    labels = {
        "superclass": kind // KINDS,
        "superclass_names": superclasses,
        "split": np.tile([0, 0, 1, 2], len(kind) // 4).astype(np.int8),
        "refs": tuple(f"photos/{superclasses[k // KINDS]}/{i:03d}.png" for i, k in enumerate(kind)),
    }
    images = ImageSet(images=pixels.astype(np.uint8), views=ViewSpec(), name="world", **labels)
    embeddings = Embeddings(vectors=vectors.astype(np.float32), fingerprint=images.fingerprint, **labels)
    config = DiscoverConfig(length="own", clusters=3)
    found = with_cuts(embeddings, discover(embeddings, config))
    table, page = folder / "subclasses.csv", folder / "subclasses.html"
    recovered = recovery_by_split(embeddings, found.cluster)
    write_discovered(table, embeddings, found, config=config, recovered=recovered)
    shown = {"images": images, "errors": plain_errors(embeddings), "training": None, "scores": {}, "table": table}
    write_discover_page(page, embeddings, found, of="w", again="runs/w", linked=linked, **shown)
    leaves = [found.cuts.trees[superclasses[k // KINDS]].leaves for k in kind]
    parts = [names[leaf] for names, leaf in zip(leaves, found.cuts.leaf, strict=True)]
    return World(page, table, images, embeddings.vectors, dict(zip(embeddings.names, parts, strict=True)))


def groups_of(text, part):
    """The images of each group: the longest part of an image's place that is named names it, unless it was moved.

    Args:
        text: A file of edits.
        part: Of each image the finest part that it is in.
    """
    said = yaml.safe_load(text)
    moved = {one["image"]: one["to"] for one in said["moved"]}
    groups: dict[str, set[str]] = {}
    for image, finest in part.items():
        homes = [finest[:end] for end in range(len(finest), 0, -1)]
        name = next((said["names"][home] for home in homes if home in said["names"]), finest.rstrip("ab"))
        groups.setdefault(moved.get(image, name), set()).add(image)
    return groups
