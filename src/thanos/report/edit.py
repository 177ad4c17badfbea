"""What a person edits on a page, as data: where each image is in the trees of cuts, its name now, its content."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thanos.data.content import content_of
from thanos.data.group_table import mark as mark_of
from thanos.data.samples import Values
from thanos.embeddings import Embeddings
from thanos.report.map import on_map, packed
from thanos.report.plane import directions, nearest_rows
from thanos.report.thumbnails import stride_of
from thanos.subclasses.fitted import Discovered, Ids

BLOCK = 256
"""Images read at a time."""
NEIGHBOURS = 8
"""Images shown beside one that is looked at."""


@dataclass(frozen=True)
class Base:
    """What edits start from."""

    mark: str | None = None
    """Of the table; None: of one that would be written of these subclasses."""
    origin: Sequence[str] | None = None
    """The discovered subclass of each image, before any names; None: no names were given."""
    marks: Mapping[str, str] = field(default_factory=dict)
    """What a person marked so far, by name."""


def edit_data(embeddings: Embeddings, found: Discovered, values: Values, base: Base) -> dict[str, Any]:
    """What the page's script edits.

    Args:
        embeddings: What was clustered.
        found: The subclasses under the names that a person gave so far.
        values: The images (or vectors), whose contents the edits bear.
        base: What else edits start from.
    Returns:
        ``mark``; of each leaf of the trees its ``part`` (the name of a subclass or a part of a cut), the ``subclass``
        it is of, its ``home`` (superclass), ``size`` and ``name``; ``trees`` (by superclass the ``first`` leaf, the
        ``count`` of leaves, ``merges``, and the names of all ``nodes``); of each image on the map its ``leaf``, its
        ``content`` (8 bytes) and the ``nearest`` ones of every ``stride``-th; ``moved`` (images that do not bear their
        leaf's name) and ``marks``.
    """
    rows = on_map(len(embeddings))
    named = np.array(found.names, dtype=object)[found.cluster]
    origin = list(named) if base.origin is None else list(base.origin)
    leaf, parts, subclass, trees = _leaves(embeddings, found, origin)
    name = [_most_frequent(named[leaf == k], subclass[k]) for k in range(len(parts))]
    moved = [[int(k), str(named[i])] for k, i in enumerate(rows) if named[i] != name[leaf[i]]]
    home = [value for value, tree in enumerate(trees) for _ in range(tree["count"])]
    stride = stride_of(len(rows))
    unit = directions(embeddings.vectors[rows[::stride]])
    near = nearest_rows(unit, unit, NEIGHBOURS + 1)[0] * stride
    return {
        "mark": base.mark or mark_of(dict(zip(embeddings.names, origin, strict=True))),
        "parts": parts,
        "subclass": subclass,
        "home": home,
        "size": np.bincount(leaf, minlength=len(parts)).tolist(),
        "name": name,
        "trees": trees,
        "leaf": packed(leaf[rows], "<i4"),
        "content": packed(_contents(values, rows), "<u1"),
        "nearest": {"each": near.shape[1], "stride": stride, "rows": packed(near, "<i4")},
        "moved": moved,
        "marks": dict(base.marks),
    }


def _leaves(
    embeddings: Embeddings, found: Discovered, origin: Sequence[str]
) -> tuple[Ids, list[str], list[str], list[dict[str, Any]]]:
    """The leaf of each image, counted on through all superclasses; the leaves' names; their subclasses; the trees."""
    if found.cuts is None:
        return _subclasses(embeddings, origin)
    leaf, parts, trees = np.empty(len(embeddings), dtype=np.int64), list[str](), list[dict[str, Any]]()
    for value, name in enumerate(embeddings.superclass_names):
        tree, mine = found.cuts.trees.get(name), embeddings.superclass == value
        if tree is not None:
            leaf[mine] = found.cuts.leaf[mine] + len(parts)
        leaves = () if tree is None else tree.leaves
        merges = () if tree is None else tree.merges
        nodes = () if tree is None else tree.names
        trees.append({"first": len(parts), "count": len(leaves), "merges": merges, "nodes": nodes})
        parts += leaves
    return leaf, parts, [part.rstrip("ab") for part in parts], trees


def _subclasses(
    embeddings: Embeddings, origin: Sequence[str]
) -> tuple[Ids, list[str], list[str], list[dict[str, Any]]]:
    """As above, where there are no cuts: each subclass is a leaf, at home where most of its images are."""
    homes: dict[str, NDArray[np.int64]] = {}
    for name, value in zip(origin, embeddings.superclass, strict=True):
        homes.setdefault(name, np.zeros(len(embeddings.superclass_names), dtype=np.int64))[value] += 1
    parts, trees = list[str](), list[dict[str, Any]]()
    for value in range(len(embeddings.superclass_names)):
        mine = [name for name, count in homes.items() if count.argmax() == value]
        trees.append({"first": len(parts), "count": len(mine), "merges": [], "nodes": mine})
        parts += mine
    place = {part: k for k, part in enumerate(parts)}
    return np.array([place[name] for name in origin], dtype=np.int64), parts, list(parts), trees


def _contents(values: Values, rows: Ids) -> NDArray[np.uint8]:
    """The digests' bytes, one after the other."""
    blocks = (values[rows[start : start + BLOCK]] for start in range(0, len(rows), BLOCK))
    digests = "".join(content_of(value) for block in blocks for value in block)
    return np.frombuffer(bytes.fromhex(digests), dtype=np.uint8)


def _most_frequent(names: NDArray[np.object_], default: str) -> str:
    if not len(names):
        return default
    known, count = np.unique(names.astype(str), return_counts=True)
    return str(known[count.argmax()])
