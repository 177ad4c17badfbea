"""Coarser and finer cuts on a page: what each node of the trees holds, and its typical images on the map, as data."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from thanos.embeddings import Embeddings, ordinary_size
from thanos.report.map import on_map
from thanos.report.summary import members
from thanos.report.thumbnails import stride_of
from thanos.subclasses.cuts import Cuts, Tree

TYPICAL = 8
"""Images shown of each node."""


def walk_data(embeddings: Embeddings, cuts: Cuts) -> list[dict[str, Any]]:
    """What the page's script walks through.

    Args:
        embeddings: What was clustered.
        cuts: Its trees.
    Returns:
        By superclass its ``name``, ``found``, ``merges``, and of every node its ``name``, ``size``, ``members`` and
        ``typical`` (places on the map).
    """
    rows = on_map(len(embeddings))
    stride = stride_of(len(rows))
    rows = rows[::stride]
    vectors = ordinary_size(embeddings.vectors[rows])
    trees = []
    for name, tree in cuts.trees.items():
        mine = embeddings.superclass == embeddings.superclass_names.index(name)
        nodes = []
        for title, leaves in zip(tree.names, _leaves(tree), strict=True):
            here = mine & np.isin(cuts.leaf, leaves)
            typical = [row * stride for row in _typical(vectors, np.flatnonzero(here[rows]))]
            held = members(np.flatnonzero(here), embeddings)
            nodes.append({"name": title, "size": int(here.sum()), "members": held, "typical": typical})
        trees.append({"name": name, "found": tree.found, "merges": tree.merges, "nodes": nodes})
    return trees


def _leaves(tree: Tree) -> list[list[int]]:
    """Under each node."""
    under = [[leaf] for leaf in range(len(tree.leaves))]
    for a, b in tree.merges:
        under.append(under[a] + under[b])
    return under


def _typical(vectors: NDArray[np.float32], rows: NDArray[np.int64]) -> list[int]:
    """Of these rows those that are nearest to their mean."""
    mine = vectors[rows]
    far = ((mine - mine.mean(axis=0)) ** 2).sum(axis=1) if len(rows) else np.zeros(0)
    return [int(row) for row in rows[np.argsort(far, kind="stable")][:TYPICAL]]
