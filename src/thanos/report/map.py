"""The map of a page: all images in the plane by t-SNE, with their thumbnails in one picture, as plain data."""

import base64
import io
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from thanos.data.imageset import ImageSet
from thanos.data.labels import SPLITS
from thanos.embeddings import Embeddings
from thanos.report.plane import neighbour_plane
from thanos.subclasses.fitted import Discovered

MOST = 5000
"""Images on the map; of more, an evenly spaced sample."""
SIDE = 32
"""Pixels of a thumbnail."""
GRID = 4095
"""Coordinates are whole numbers up to this one."""


def map_data(
    embeddings: Embeddings, found: Discovered, images: ImageSet | None, wrong: NDArray[np.bool_] | None
) -> dict[str, Any] | None:
    """What the page's script draws.

    Args:
        embeddings: Rows to place.
        found: Their discovered subclasses.
        images: Their pictures; None: the map has no thumbnails.
        wrong: Which rows a plain classifier gets wrong; None: unknown.
    Returns:
        ``x``, ``y`` (0 to GRID), ``names``, ``kinds`` (what points can be coloured by: title, names, an id each, -1
        unknown), ``sprite`` (a data URI, or empty), ``columns`` (thumbnails in a row of it), ``side``; None where all
        embeddings point in one direction, so that there is nothing to draw.
    """
    from sklearn.decomposition import PCA

    rows = on_map(len(embeddings))
    plane = neighbour_plane(embeddings.vectors[rows])
    if plane is None:
        return None
    plane = PCA(2, random_state=0).fit_transform(plane)  # t-SNE has no direction of its own: the longest lies across
    low, width = plane.min(axis=0), max(float(np.ptp(plane, axis=0).max()), 1e-12)
    place = np.round((plane - low) / width * GRID).astype(np.int64)
    kinds = [("superclass", embeddings.superclass_names, embeddings.superclass)]
    kinds.append(("discovered subclass", found.names, found.cluster))
    if embeddings.subclass is not None:
        kinds.append(("true subclass", embeddings.subclass_names, embeddings.subclass))
    if embeddings.group is not None:
        kinds.append(("group", embeddings.group_names, embeddings.group))
    if wrong is not None:
        kinds.append(("plain classifier", ("right", "wrong"), wrong.astype(np.int64)))
    kinds.append(("split", SPLITS, embeddings.split.astype(np.int64)))
    refs, columns = embeddings.names, math.ceil(math.sqrt(len(rows)))
    return {
        "x": place[:, 0].tolist(),
        "y": place[:, 1].tolist(),
        "names": [refs[i] for i in rows],
        "kinds": [{"title": t, "names": list(names), "ids": ids[rows].tolist()} for t, names, ids in kinds],
        "sprite": "" if images is None else _sprite(images, rows, columns),
        "columns": columns,
        "side": SIDE,
    }


def on_map(count: int) -> NDArray[np.int64]:
    """Which of so many images the map shows."""
    return np.arange(count)[:: max(1, -(-count // MOST))]


def _sprite(images: ImageSet, rows: NDArray[np.int64], columns: int) -> str:
    """All thumbnails in one lossy WebP: 5,000 take about three megabytes."""
    lines = -(-len(rows) // columns)
    sheet = Image.new("RGB", (columns * SIDE, lines * SIDE), "white")
    for k, i in enumerate(rows):
        picture = Image.fromarray(images.images[np.array([i])][0].squeeze()).convert("RGB")
        scale = SIDE / max(picture.size)
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        smooth = Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.LANCZOS
        corner = (k % columns * SIDE + (SIDE - size[0]) // 2, k // columns * SIDE + (SIDE - size[1]) // 2)
        sheet.paste(picture.resize(size, smooth), corner)
    buffer = io.BytesIO()
    sheet.save(buffer, format="webp", quality=70)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
