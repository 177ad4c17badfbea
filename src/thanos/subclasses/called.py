"""What a person calls the discovered subclass of a new image; of one taken apart, by the images nearest to it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from thanos.data.group_table import Member, in_table, read_table
from thanos.data.labels import ids_of
from thanos.embeddings import ordinary_size

if TYPE_CHECKING:
    from thanos.embeddings import Embeddings

NEAREST = 5
"""Images that vote for the group of a new one."""


@dataclass(frozen=True)
class Apart:
    """The images of a subclass that bears several names: halves of a split, a lasso's images, moved ones."""

    vectors: NDArray[np.float32]
    """(n, dim)"""
    group: NDArray[np.int64]
    """(n,), ids of ``names``"""
    names: tuple[str, ...]

    def vote(self, vectors: NDArray[np.float32]) -> list[str]:
        """The group of each of (m, dim) by the images nearest to it."""
        import torch

        from thanos.evaluate.knn import neighbour_vote

        queries, keys = (torch.from_numpy(ordinary_size(rows)) for rows in (vectors, self.vectors))
        told = neighbour_vote(queries, keys, torch.from_numpy(self.group), min(NEAREST, len(keys)))
        return [self.names[each] for each in told.tolist()]


@dataclass(frozen=True)
class Called:
    """A person's names."""

    names: Mapping[str, str] = field(default_factory=dict)
    """Of subclasses that are whole."""
    apart: Mapping[str, Apart] = field(default_factory=dict)
    """Of those that are not."""

    def of(self, vectors: NDArray[np.float32], subclass: Sequence[str]) -> tuple[str, ...]:
        """The groups of new images.

        Args:
            vectors: (n, dim), of the space that the subclasses were discovered in.
            subclass: As discovered, (n,).
        """
        found = np.array([self.names.get(each, each) for each in subclass], dtype=object)
        for name, apart in self.apart.items():
            rows = np.flatnonzero(np.array(subclass, dtype=object) == name)
            if len(rows):
                found[rows] = apart.vote(vectors[rows])
        return tuple(found)


def read_called(
    table: Path,
    edited: Mapping[str, Member],
    known: Callable[[], "Embeddings | None"],
    say: Callable[[str], None],
) -> Called:
    """A person's names and edits for new images.

    Args:
        table: Of discovered subclasses.
        edited: What it says under the names and edits (:func:`thanos.data.group_table.read_table`).
        known: Gives what the table was discovered in; None: it is gone, and subclasses taken apart keep their names.
        say: Receives what a person must know of subclasses that were taken apart.
    Raises:
        DataError: if the table is of other images than the embeddings.
    """
    listed = read_table(table)
    groups: dict[str, set[str]] = {}
    for image, member in listed.items():
        groups.setdefault(member.subclass, set()).add(edited[image].subclass)
    whole = {subclass: next(iter(mine)) for subclass, mine in groups.items() if len(mine) == 1}
    parted = [subclass for subclass in groups if subclass not in whole]
    if not parted:
        return Called(whole)
    taken, embeddings = ", ".join(parted), known()
    if embeddings is None:
        say(f"{taken}: taken apart by hand, which is not told of new images without the embeddings")
        return Called(whole)
    images = in_table(listed, embeddings.names, table, embeddings.fingerprint)
    home = np.array([listed[image].subclass for image in images], dtype=object)
    group, names = ids_of([edited[image].subclass for image in images])
    say(f"{taken}: taken apart by hand; a new image is of the group that most of the nearest images there are")
    rows = {each: home == each for each in parted}
    return Called(whole, {each: Apart(embeddings.vectors[mine], group[mine], names) for each, mine in rows.items()})
