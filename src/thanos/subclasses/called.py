"""What a person calls the discovered subclass of a new image; of one taken apart, by the images nearest to it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from thanos.data.group_table import in_table, read_table
from thanos.embeddings import ordinary_size

if TYPE_CHECKING:
    from thanos.embeddings import Embeddings

NEAREST = 5
"""Images that vote for the group of a new one."""


@dataclass(frozen=True)
class Apart:
    """The images of a subclass that bears several names: halves of a split, a lasso's images, moved ones."""

    directions: NDArray[np.float32]
    """Of their vectors, (n, dim), of unit length."""
    group: NDArray[np.str_]
    """(n,)"""

    def vote(self, vectors: NDArray[np.float32]) -> list[str]:
        """The most frequent group among the nearest by cosine, of equals that of the nearest; for each of (m, dim)."""
        nearest = np.argsort(-(_directions(vectors) @ self.directions.T), axis=1, kind="stable")[:, :NEAREST]
        votes = [self.group[row].tolist() for row in nearest]
        return [max(names, key=names.count) for names in votes]


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
    table: Path, names: Path, known: Callable[[], "Embeddings | None"], say: Callable[[str], None]
) -> Called:
    """A person's names and edits for new images.

    Args:
        table, names: The table of discovered subclasses, and the names or edits.
        known: Gives what the table was discovered in; None: it is gone, and subclasses taken apart keep their names.
        say: Receives what a person must know of subclasses that were taken apart.
    Raises:
        DataError, ConfigError: as :func:`thanos.data.group_table.read_table`.
    """
    listed, edited = read_table(table), read_table(table, names)
    groups: dict[str, set[str]] = {}
    for image, member in listed.items():
        groups.setdefault(member.subclass, set()).add(edited[image].subclass)
    whole = {subclass: next(iter(mine)) for subclass, mine in groups.items() if len(mine) == 1}
    parted = [subclass for subclass in groups if subclass not in whole]
    if not parted:
        return Called(whole)
    embeddings = known()
    if embeddings is None:
        say(f"{', '.join(parted)}: taken apart by hand, which is not told of new images without the embeddings")
        return Called(whole)
    images = in_table(listed, embeddings.names, table, embeddings.fingerprint)
    home = np.array([listed[image].subclass for image in images], dtype=object)
    group = np.array([edited[image].subclass for image in images])
    directions = _directions(embeddings.vectors)
    taken = ", ".join(parted)
    say(f"{taken}: taken apart by hand; a new image is of the group that most of the nearest images there are")
    return Called(whole, {each: Apart(directions[home == each], group[home == each]) for each in parted})


def _directions(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    short = ordinary_size(vectors)
    return np.asarray(short / np.maximum(np.linalg.norm(short, axis=1, keepdims=True), 1e-12))
