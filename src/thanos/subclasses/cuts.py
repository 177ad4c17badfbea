"""Coarser and finer cuts of every superclass: a tree through the discovered subclasses, one split at a time.

Below them each is halved by 2-means, and its halves again; above them the two whose merging costs least become one
(Ward 1963), down to a single one. The cut that discovery chose is one level of the tree.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thanos.embeddings import Embeddings
from thanos.subclasses.fitted import Discovered, Ids, Rows
from thanos.subclasses.merging import kmeans, merge_cost

DEPTH, LEAST = 2, 10
"""How often a subclass is halved, and into parts of how many training images at least."""
Merge = tuple[int, int]


@dataclass(frozen=True)
class Tree:
    """Of one superclass: leaves, and the merging of nodes from the finest cut to one."""

    leaves: tuple[str, ...]
    """``animals/0a`` and ``animals/0b`` are the larger and the smaller half of ``animals/0``, ``animals/0ab`` is a
    quarter of it."""
    merges: tuple[Merge, ...]
    """As in scipy's linkage: the first makes node ``len(leaves)`` of two earlier nodes, and so on."""
    found: int
    """Subclasses of the cut that discovery chose."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of all nodes: a union of subclasses is called ``animals/0+2``."""
        names = list(self.leaves)
        for a, b in self.merges:
            names.append(_union(names[a], names[b]))
        return tuple(names)

    @classmethod
    def of(cls, kept: Mapping[str, Any]) -> "Tree":
        """From its fields, as JSON has them.

        Raises:
            ValueError: if they are no tree.
        """
        tree = cls(tuple(kept["leaves"]), tuple((int(a), int(b)) for a, b in kept["merges"]), int(kept["found"]))
        merged = sorted(node for merge in tree.merges for node in merge)
        made = all(max(merge) < len(tree.leaves) + i for i, merge in enumerate(tree.merges))
        if not made or merged != list(range(2 * len(tree.leaves) - 2)) or not 1 <= tree.found <= len(tree.leaves):
            raise ValueError("not a tree")
        return tree

    def cut(self, count: int) -> Ids:
        """The node of each leaf where the superclass is cut in so many, (leaves,)."""
        node = np.arange(len(self.leaves))
        for i, merge in enumerate(self.merges[: len(self.leaves) - count]):
            node[np.isin(node, merge)] = len(self.leaves) + i
        return node


@dataclass(frozen=True)
class Cuts:
    """The trees, and where the images are in them."""

    leaf: Ids = field(repr=False)
    """Of each image, in its superclass's tree, (n,)."""
    trees: dict[str, Tree]
    """By superclass."""


def with_cuts(embeddings: Embeddings, found: Discovered, seed: int = 0) -> Discovered:
    """The same subclasses, with coarser and finer cuts; unchanged where what was fitted is not known.

    Args:
        embeddings: What was clustered.
        found: As :func:`thanos.discover` returned it.
        seed: Of the starts of k-means.
    """
    if found.fitted is None:
        return found
    rng, train = np.random.default_rng((seed, 2)), embeddings.in_split("train")
    train = train if train.any() else np.ones_like(train)
    leaf, trees = np.zeros(len(embeddings), dtype=np.int64), {}
    for value, rows, x in found.fitted.spaces(embeddings.vectors, embeddings.superclass):
        numbers, own = np.unique(found.cluster[rows], return_inverse=True)
        names = [found.names[number] for number in numbers]
        leaf[rows], trees[embeddings.superclass_names[value]] = _grow(x, own, train[rows], names, rng)
    return replace(found, cuts=Cuts(leaf, trees))


def _grow(x: Rows, own: Ids, train: NDArray[np.bool_], names: list[str], rng: np.random.Generator) -> tuple[Ids, Tree]:
    """The leaf of each row, and the tree."""
    at = np.array(names, dtype=object)[own]
    splits: list[tuple[float, str]] = []
    for number, name in enumerate(names):
        _halve(x, at, np.flatnonzero(own == number), train, name, np.inf, splits, rng)
    leaves = sorted(set(at), key=lambda leaf: (names.index(leaf.rstrip("ab")), leaf))
    node = {leaf: i for i, leaf in enumerate(leaves)}
    merges: list[Merge] = []
    for _, name in sorted(splits, key=lambda split: (split[0], -len(split[1]))):
        node[name] = len(leaves) + len(merges)
        merges.append((node[name + "a"], node[name + "b"]))
    nodes = [node[name] for name in names]
    size = np.bincount(own, minlength=len(names))
    centres = np.stack([x[own == number].mean(axis=0) for number in range(len(names))])
    while len(nodes) > 1:
        cost = merge_cost(centres, size)
        a, b = sorted(int(i) for i in np.unravel_index(cost.argmin(), cost.shape))
        merges.append((nodes[a], nodes[b]))
        centres[a] = (size[a] * centres[a] + size[b] * centres[b]) / (size[a] + size[b])
        size[a] += size[b]
        nodes[a] = len(leaves) + len(merges) - 1
        centres, size = np.delete(centres, b, axis=0), np.delete(size, b)
        del nodes[b]
    place = {leaf: i for i, leaf in enumerate(leaves)}
    return np.array([place[leaf] for leaf in at]), Tree(tuple(leaves), tuple(merges), len(names))


def _halve(
    x: Rows,
    at: NDArray[np.object_],
    rows: Ids,
    train: NDArray[np.bool_],
    name: str,
    bound: float,
    splits: list[tuple[float, str]],
    rng: np.random.Generator,
) -> None:
    """Write the names of a node's parts into ``at``, and what each halving gains, which is at most its parent's."""
    fitted = x[rows[train[rows]]]
    deep = len(name) - len(name.rstrip("ab")) >= DEPTH
    if deep or len(np.unique(fitted, axis=0)) < 2 * LEAST:
        return
    two = kmeans(fitted, 2, rng, starts=3)
    size = np.bincount(two.labels_, minlength=2)
    if size.min() < LEAST:
        return
    smaller = two.predict(x[rows]) == size.argmin() if size[0] != size[1] else two.predict(x[rows]) == 1
    gain = min(bound, float(merge_cost(two.cluster_centers_, size)[0, 1]))
    splits.append((gain, name))
    for letter, half in (("a", rows[~smaller]), ("b", rows[smaller])):
        at[half] = name + letter
        _halve(x, at, half, train, name + letter, gain, splits, rng)


def _union(a: str, b: str) -> str:
    """What two nodes are together: their parent, or subclasses side by side."""
    home, _, first = a.rpartition("/")
    second = b.rpartition("/")[2]
    if first.rstrip("ab") == second.rstrip("ab"):
        return a[:-1]
    return f"{home}/{'+'.join(sorted(set(first.split('+')) | set(second.split('+')), key=int))}"
