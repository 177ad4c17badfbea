"""The demo's page: the table, the embeddings, the curves and the neighbours, in plain words."""

from pathlib import Path
from typing import Any

import numpy as np

from thanos.data.imageset import ImageSet
from thanos.embeddings import Embeddings
from thanos.report.figures import as_png, embedding_maps, thumbnail, training_curves
from thanos.report.page import render
from thanos.storage import write_text

TITLE = "thanos: what survives coarse labels"
Neighbours = list[tuple[int, list[int]]]
"""An image of each subclass, and the images nearest to it."""


def write_demo_page(
    page: Path,
    *,
    metrics: dict[str, Any],
    images: ImageSet,
    embedded: dict[str, Embeddings],
    logged: dict[str, list[dict[str, float]]],
    neighbours: dict[str, Neighbours],
) -> None:
    """A self-contained page, from the first seed's embeddings and all seeds' numbers.

    Args:
        page: The file to write.
        metrics: Of all rows.
        images: Of the first seed.
        embedded: Their embeddings, by row.
        logged: What trainings logged, by row.
        neighbours: Test images nearest to one of each subclass, by row; rows of the test images.
    """
    content = render(
        "demo.html",
        title=TITLE,
        metrics=metrics,
        maps=as_png(embedding_maps(embedded)),
        curves=training_curves(logged),
        neighbours={name: _pictures(found, images.of("test")) for name, found in neighbours.items()},
    )
    write_text(page, content)


def _pictures(found: Neighbours, part: ImageSet) -> list[dict[str, Any]]:
    """One image of each subclass with the images nearest to it, as the template shows them."""
    assert part.subclass is not None

    def cell(row: int, query: int) -> dict[str, Any]:
        kind = part.subclass[row]  # type: ignore[index]
        return {
            "picture": thumbnail(part.images[np.array([row])][0]),
            "name": part.subclass_names[kind],
            "same": bool(kind == part.subclass[query]),  # type: ignore[index]
        }

    return [cell(query, query) | {"nearest": [cell(row, query) for row in nearest]} for query, nearest in found]
