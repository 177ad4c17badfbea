"""Discovered subclasses kept for new images: everything that places a vector, as arrays in one .npz."""

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from thanos.data.group_table import mark_of, read_table
from thanos.data.labels import ids_of
from thanos.errors import ConfigError, DataError
from thanos.storage import names_in, read_npz, write_marked_npz
from thanos.subclasses.called import Called, read_called
from thanos.subclasses.fitted import (
    Centres,
    Clusters,
    Components,
    Erased,
    Fitted,
    FittedSuperclass,
    Harder,
    Mixture,
    Turned,
    Whole,
)
from thanos.subclasses.reach import Reach
from thanos.subclasses.sound import check_places

if TYPE_CHECKING:
    from thanos.embeddings import Embeddings

Arrays = dict[str, NDArray[Any]]
NOBODY = "none of them"
"""What stands in the place of a subclass where an image belongs to none."""
_KINDS = {each.__name__: each for each in (Centres, Turned, Mixture, Whole, Components, Harder)}
"""What a model or a reduction may be. Others (UMAP) are another package's objects, and are not kept."""


@dataclass(frozen=True)
class Places:
    """Tells the discovered subclass of new vectors of the same encoder."""

    fitted: Fitted
    names: tuple[str, ...]
    """Of the subclasses, by id."""
    superclass_names: tuple[str, ...]
    """Of the superclasses, by id."""
    space: str
    """The mark of the embeddings that were clustered (:attr:`thanos.Embeddings.space`): others are not placed."""
    table: str
    """The mark of the table of discovered subclasses that this stands beside."""
    reach: Reach | None = None
    """Tells images that belong to none of them; None: not known."""

    def place(
        self, vectors: NDArray[np.float32], superclass: NDArray[np.int64], called: Called | None = None
    ) -> tuple[tuple[str, ...], NDArray[np.float64]]:
        """The discovered subclass of new images, and how surely.

        Args:
            vectors: Of the same space, (n, dim).
            superclass: Ids as they are here, (n,); -1: none of them, and so without a subclass.
            called: What a person calls them: those of one name are one.
        Returns:
            A name (empty without one) and a confidence (0 to 1) for each image.
        """
        called = called or Called()
        alike, _ = ids_of([called.names.get(name, name) for name in self.names])
        name, confidence = np.full(len(vectors), "", dtype=object), np.zeros(len(vectors))
        some = np.isin(superclass, list(self.fitted.superclasses))
        if some.any():
            cluster, _, confidence[some] = self.fitted.predict(vectors[some], superclass[some], alike)
            name[some] = [self.names[each] for each in cluster]
        return called.of(vectors, tuple(name)), confidence

    def ids_in(self, names: tuple[str, ...]) -> NDArray[np.int64]:
        """The ids here of superclasses by their names elsewhere, -1 where there is none of that name."""
        place = {name: i for i, name in enumerate(self.superclass_names)}
        return np.array([place.get(name, -1) for name in names], dtype=np.int64)


def places_beside(table: Path) -> Path:
    """Where the places stand of a table of discovered subclasses."""
    return table.with_name(f"{table.stem}-places.npz")


def can_be_kept(fitted: Fitted) -> bool:
    """Whether arrays say all of it."""
    return all(type(each.reduction) in _KINDS.values() for each in fitted.superclasses.values())


def write_places(places: Places, file: Path) -> None:
    """One .npz of plain arrays."""
    fitted = places.fitted
    arrays: Arrays = {
        "names": np.array(places.names),
        "superclass_names": np.array(places.superclass_names),
        "space": np.array(places.space),
        "table": np.array(places.table),
        "length": np.array(fitted.length),
        "mean": fitted.mean,
        "size": np.array(fitted.size),
        "superclasses": np.array(sorted(fitted.superclasses)),
    }
    if fitted.columns is not None:
        arrays["columns"] = np.array(fitted.columns)
    if fitted.erased is not None:
        arrays |= {"erased/left": fitted.erased.left, "erased/right": fitted.erased.right}
    if places.reach is not None:
        arrays |= _flat(places.reach, "reach")
    for value, each in fitted.superclasses.items():
        arrays |= _flat(each, f"superclass/{value}")
    write_marked_npz(file, arrays)


def is_places(file: Path) -> bool:
    """Whether it is a file of :func:`write_places`, be it damaged inside."""
    return {"names", "superclasses", "table"} <= names_in(file)


def _flat(value: Any, at: str) -> Arrays:
    """A tree of dataclasses, dicts and arrays as arrays by their paths."""
    if value is None:
        return {}
    found: Arrays = {}
    if isinstance(value, dict):
        for key, each in value.items():
            found |= _flat(each, f"{at}/{key}")
        return found | {f"{at}/keys": np.array([int(key) for key in value], dtype=np.int64)}
    if is_dataclass(value):
        for each in fields(value):
            found |= _flat(getattr(value, each.name), f"{at}/{each.name}")
        return found | {at: np.array(type(value).__name__)}
    return {at: np.asarray(value)}


def read_places(file: Path) -> Places:
    """What :func:`write_places` wrote.

    Raises:
        DataError: if the file holds something else, or was damaged.
    """
    arrays = read_npz(file)
    try:
        superclasses = {int(v): _superclass(arrays, f"superclass/{v}") for v in arrays["superclasses"]}
        first, last = arrays.get("columns", (0, 0))
        columns = (int(first), int(last)) if "columns" in arrays else None
        erased = Erased(arrays["erased/left"], arrays["erased/right"]) if "erased/left" in arrays else None
        fitted = Fitted(str(arrays["length"]), arrays["mean"], float(arrays["size"]), superclasses, columns, erased)
        space, table = (str(arrays[name]) for name in ("space", "table"))
        names, homes = (tuple(str(name) for name in arrays[key]) for key in ("names", "superclass_names"))
        places = Places(fitted, names, homes, space, table, _reach(arrays) if "reach" in arrays else None)
        check_places(places, arrays.values())
        return places
    except (AttributeError, KeyError, ValueError, TypeError, IndexError) as error:
        raise DataError(
            f"{file} does not say where new images belong, or was damaged ({error}). Make it anew: thanos discover."
        ) from None


def _reach(arrays: Arrays) -> Reach:
    first, last = arrays.get("reach/columns", (0, 0))
    columns = (int(first), int(last)) if "reach/columns" in arrays else None
    return Reach(arrays["reach/known"], float(arrays["reach/limit"]), columns)


def _superclass(arrays: Arrays, at: str) -> FittedSuperclass:
    below = f"{at}/clusters"
    parts = {int(c): _kind(arrays, f"{below}/parts/{c}") for c in arrays[f"{below}/parts/keys"]}
    kept = {int(part): int(arrays[f"{below}/kept/{part}"]) for part in arrays[f"{below}/kept/keys"]}
    model = _kind(arrays, f"{below}/model") if f"{below}/model" in arrays else None
    clusters = Clusters(model, parts, kept, int(arrays[f"{below}/each"]), arrays.get(f"{below}/order"))
    return FittedSuperclass(
        _kind(arrays, f"{at}/reduction"), clusters, arrays[f"{at}/centres"], int(arrays[f"{at}/first"])
    )


def _kind(arrays: Arrays, at: str) -> Any:
    kind = _KINDS[str(arrays[at])]
    there = {each.name: f"{at}/{each.name}" for each in fields(kind)}
    nested = {name: _kind(arrays, path) for name, path in there.items() if _is_name(arrays.get(path))}
    return kind(**{name: arrays.get(path) for name, path in there.items()} | nested)


def _is_name(value: NDArray[Any] | None) -> bool:
    return value is not None and value.dtype.kind == "U"


def places_of(
    table: Path | None,
    names: Path | None,
    space: Callable[[], str],
    known: Callable[[], "Embeddings | None"],
    of: str,
    say: Callable[[str], None],
) -> tuple[Places, Called] | None:
    """What places new vectors in the subclasses of a table, and their names; None: nothing is kept, or of others.

    Args:
        table: The CSV; None: there is none.
        names: What a person called its subclasses; None: what the file beside it says.
        space: Gives the mark of the embeddings that are to be placed.
        known: Gives the embeddings that the table was discovered in; None: they are gone.
        of: What they are of, for messages.
        say: Receives why what is kept is not used, and what :func:`read_called` says.
    Raises:
        DataError: if it is damaged.
        ConfigError: if names were given that are not for this table.
    """
    if table is None or not (table.is_file() and places_beside(table).exists()):
        if names is not None:
            raise ConfigError(f"`names` names discovered subclasses, and {of} keeps none. First: thanos discover {of}")
        return None
    edited = None if names is None else read_table(table, names)
    places, here = read_places(places_beside(table)), space()
    if places.space != here or places.table != mark_of(table):
        other = "other embeddings" if places.space != here else "another table"
        say(f"without discovered subclasses: those of {table} are of {other}; thanos discover {of}")
        return None
    if edited is None and (beside := table.with_suffix(".yaml")).is_file():
        edited = read_table(table, beside)
    return places, Called() if edited is None else read_called(table, edited, known, say)
