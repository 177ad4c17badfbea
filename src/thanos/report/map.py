"""The map of a page: all images in the plane by t-SNE, as plain data."""

import base64
from collections.abc import Sequence
from os.path import relpath
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thanos.data.imageset import ImageSet
from thanos.data.labels import SPLITS
from thanos.embeddings import Embeddings
from thanos.report.plane import neighbour_plane, placed_beside
from thanos.report.thumbnails import embedded, linked
from thanos.subclasses.fitted import Discovered

MOST = 100_000
"""Images on the map; of more, an evenly spaced sample."""
BY_TSNE = 2500
"""Images that t-SNE places; others stand among their nearest of these."""
GRID = 4095
"""Coordinates are whole numbers up to this one."""


LOOKED_FOR = 20
"""Images whose files are looked for, to know whether images are files."""


def map_data(
    embeddings: Embeddings,
    found: Discovered,
    images: ImageSet | None,
    wrong: NDArray[np.bool_] | None,
    page: Path,
    *,
    beside: bool = False,
) -> dict[str, Any] | None:
    """What the page's script draws.

    Args:
        embeddings: Rows to place.
        found: Their discovered subclasses.
        images: Their pictures; None: the map has no thumbnails.
        wrong: Which rows a plain classifier gets wrong; None: unknown.
        page: Where it will be.
        beside: Whether thumbnails of all images go beside the page; else those of some stand in it.
    Returns:
        ``x``, ``y`` (0 to GRID, :func:`packed`), ``names``, ``confidence`` (0 to 255, packed), ``kinds`` (what points
        can be coloured by: title, names, a packed id each, -1 unknown), ``sprite`` (:func:`thanos.report.thumbnails.
        embedded`, or None), ``files`` (:func:`files_from`), ``placed`` (how many t-SNE placed); None where all
        embeddings point in one direction, so that there is nothing to draw.
    """
    from sklearn.decomposition import PCA

    rows = on_map(len(embeddings))
    placed = np.arange(len(rows))[:: max(1, -(-len(rows) // BY_TSNE))]
    plane = neighbour_plane(embeddings.vectors[rows[placed]])
    if plane is None:
        return None
    plane = placed_beside(embeddings.vectors[rows], placed, plane)
    plane = PCA(2, random_state=0).fit_transform(plane)  # t-SNE has no direction of its own: the longest lies across
    low, width = plane.min(axis=0), max(float(np.ptp(plane, axis=0).max()), 1e-12)
    place = np.round((plane - low) / width * GRID)
    kinds = [("superclass", embeddings.superclass_names, embeddings.superclass)]
    kinds.append(("discovered subclass", found.names, found.cluster))
    if embeddings.subclass is not None:
        kinds.append(("true subclass", embeddings.subclass_names, embeddings.subclass))
    if embeddings.group is not None:
        kinds.append(("group", embeddings.group_names, embeddings.group))
    if wrong is not None:
        kinds.append(("plain classifier", ("right", "wrong"), wrong.astype(np.int64)))
    kinds.append(("split", SPLITS, embeddings.split.astype(np.int64)))
    refs, sprite = embeddings.names, None
    if images is not None:
        sprite = linked(images, rows, page) if beside else embedded(images, rows)
    return {
        "x": packed(place[:, 0], "<u2"),
        "y": packed(place[:, 1], "<u2"),
        "names": [refs[i] for i in rows],
        "confidence": packed(np.round(found.confidence[rows] * 255), "<u1"),
        "kinds": [{"title": t, "names": list(names), "ids": packed(ids[rows], "<i4")} for t, names, ids in kinds],
        "sprite": sprite,
        "files": None if images is None else files_from(refs, page),
        "placed": len(placed),
    }


def on_map(count: int) -> NDArray[np.int64]:
    """Which of so many images the map shows."""
    return np.arange(count)[:: max(1, -(-count // MOST))]


def files_from(names: Sequence[str], page: Path) -> str | None:
    """What stands before the images' names in the addresses of their files, as seen from the page.

    None: they are no files, or some are named by whole paths and some are not.
    """
    some = [Path(name) for name in names[:: max(1, len(names) // LOOKED_FOR)]]
    whole = {path.is_absolute() for path in some}
    if len(whole) != 1 or not all(path.is_file() for path in some):
        return None
    return "file://" if whole == {True} else f"{Path(relpath(Path.cwd(), page.resolve().parent)).as_posix()}/"


def packed(values: NDArray[Any], kind: str) -> str:
    """Numbers as base64 of their little-endian bytes: a tenth of what a list takes to read."""
    return base64.b64encode(np.ascontiguousarray(values, dtype=np.dtype(kind)).tobytes()).decode()
