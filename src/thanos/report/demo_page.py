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
NEIGHBOURS = 7


def write_demo_page(
    page: Path,
    *,
    metrics: dict[str, Any],
    images: ImageSet,
    embedded: dict[str, Embeddings],
    logged: dict[str, list[dict[str, float]]],
) -> None:
    """A self-contained page, from the first seed's embeddings and all seeds' numbers.

    Args:
        page: The file to write.
        metrics: Of all rows.
        images: Of the first seed.
        embedded: Their embeddings, by row.
        logged: What trainings logged, by row.
    """
    content = render(
        "demo.html",
        title=TITLE,
        metrics=metrics,
        maps=as_png(embedding_maps(embedded)),
        curves=training_curves(logged),
        neighbours={name: nearest_images(embedded[name], images) for name in ("supcon", "thanos")},
    )
    write_text(page, content)


def nearest_images(embeddings: Embeddings, images: ImageSet) -> list[dict[str, Any]]:
    """One test image of each subclass with the test images nearest to it."""
    rows = images.rows("test")
    part = embeddings.of("test")
    assert part.subclass is not None
    unit = part.vectors / np.linalg.norm(part.vectors, axis=1, keepdims=True)
    grid = []
    for kind, name in enumerate(part.subclass_names):
        query = int(np.flatnonzero(part.subclass == kind)[0])
        similarity = unit @ unit[query]
        similarity[query] = -np.inf
        cells = [
            {
                "picture": thumbnail(images.images[rows[i : i + 1]][0]),
                "name": part.subclass_names[part.subclass[i]],
                "same": bool(part.subclass[i] == kind),
            }
            for i in np.argsort(-similarity)[:NEIGHBOURS]
        ]
        grid.append({"name": name, "picture": thumbnail(images.images[rows[query : query + 1]][0]), "nearest": cells})
    return grid
