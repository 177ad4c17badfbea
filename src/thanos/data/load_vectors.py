"""From a file of vectors, its labels in it or in a table beside it, to a VectorSet with its splits."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thanos.config import DataConfig, refuse_settings
from thanos.data.labels import UNLABELLED, label_fields
from thanos.data.splits import with_splits
from thanos.data.vector_files import Columns, read_columns
from thanos.data.vector_labels import describe_roles, label_words, roles_of
from thanos.data.vectors import CHUNK, VectorSet, not_finite
from thanos.errors import ConfigError, DataError

OF_IMAGES = (
    "size",
    "convert",
    "root",
    "download",
    "columns",
    "together",
    "layout",
    "level",
    "judged_level",
    "megapixels",
)
"""Settings that say nothing about vectors."""


def load_vectors(config: DataConfig | str | Path) -> VectorSet:
    """Read, check and split the vectors that ``config`` names.

    Args:
        config: ``data`` is a file of vectors (.npy, .npz, .csv, .tsv, .parquet) or the folder of a Hugging Face data
            set; ``labels`` may be a table of labels. Or the path alone.
    Raises:
        ConfigError: for settings of images, or if a file of labels is not there.
        DataError: if vectors or labels cannot be read, or do not fit together; nothing has been written then.
    """
    if not isinstance(config, DataConfig):
        config = DataConfig(data=str(config))
    return with_splits(read_vectors(config), config.validation, config.split_seed)


def read_vectors(config: DataConfig) -> VectorSet:
    """The same, with no more rows held out than the file says.

    Raises:
        ConfigError, DataError: as :func:`load_vectors`.
    """
    source = Path(config.data)
    refuse_settings(config, OF_IMAGES, "images, and this holds vectors")
    found = read_columns(source)
    assert found.vectors is not None
    count, dim = found.vectors.shape
    words, said = _words(found, count, f"{found.called} ({count:,} x {dim:,})")
    if isinstance(config.labels, Path):
        words, more = _joined(words, config.labels, count, source.name)
        said += f"; {more}"
    refs = words.pop("refs", [])
    words.setdefault("superclass", [UNLABELLED] * count)
    kept, skipped = _usable(found.vectors, words, refs, source.name, skip_bad=config.skip_bad)
    vectors = found.vectors
    if skipped:
        vectors = vectors[kept]
        words = {role: [column[i] for i in kept] for role, column in words.items()}
        refs = [refs[i] for i in kept] if refs else []
    constant = _constant(vectors)
    notes = [said, *found.notes]
    notes += [f"{constant} of {dim} numbers are the same in all vectors: they tell nothing"] if constant else []
    notes += [f"{len(skipped)} skipped (listed in the run's skipped.csv, or in OUT-skipped.csv)"] if skipped else []
    return VectorSet(
        name=source.stem if source.is_file() else source.resolve().name,
        vectors=vectors,
        file=str(source.resolve()),
        finite=True,
        refs=tuple(refs),
        notes=tuple(notes),
        skipped=tuple(skipped),
        **label_fields(words, len(vectors), source.name, "vector", config.unknown),
    )


def _words(found: Columns, count: int, vectors: str = "") -> tuple[dict[str, list[str]], str]:
    """Labels by role, and one line on what was taken for what."""
    roles = roles_of(list(found.labels), found.file)
    words = label_words(found.labels, roles, count, found.file, found.names)
    if len(set(words.get("refs", ()))) == 1 < count:
        del words["refs"]  # a name for the whole file tells no rows apart
    unused = [name for name in found.labels if name not in roles.values()]
    return words, describe_roles(roles, unused, vectors)


def _joined(own: dict[str, list[str]], file: Path, count: int, source: str) -> tuple[dict[str, list[str]], str]:
    """Labels of the rows with those of a table: matched by what both call a row, else one row each, in order.

    Raises:
        ConfigError: if there is no such file.
        DataError: if it has no labels, or other rows.
    """
    if not file.exists():
        raise ConfigError(
            f"`labels` takes a table of labels (.csv, .tsv, .npy, .npz, .parquet), superclass or subclass; there is no "
            f"file {file.absolute()}."
        )
    table = read_columns(file, vectors=False)
    rows = len(next(iter(table.labels.values()), ()))
    if len(table.labels) == 1 and not roles_of(list(table.labels), file.name):  # one column alone can only be that
        (name, values), title = next(iter(table.labels.items())), table.called
        table.labels = {"superclass": values}
        if rows == count - 1 and not title:  # its first label was taken for its name
            table.labels, rows = {"superclass": np.concatenate([np.array([name], dtype=object), values])}, count
    roles = roles_of(list(table.labels), file.name)
    if "superclass" not in roles and "superclass" not in own:
        has = ", ".join(repr(name) for name in table.labels) or "no column"
        raise DataError(f"{file.name} needs a column of labels (superclass, label, y, ...); it has {has}. Rename one.")
    words, said = _words(table, rows)
    said = f"{said}, of {file.name}"
    if "refs" in own and "refs" in words:
        place = _matched(own["refs"], words.pop("refs"), file.name, source)
        left = rows - count
        said += f" by the names of the rows{f', {left:,} of its rows not needed' if left else ''}"
        return own | {role: [column[i] for i in place] for role, column in words.items()}, said
    if rows != count:
        raise DataError(
            f"labels stand in the order of the vectors, one each; {source} has {count:,} vectors and {file.name} "
            f"{rows:,} rows. Leave out what is too much, or give both a column id."
        )
    return own | words, f"{said} in its order"


def _matched(mine: list[str], theirs: list[str], table: str, source: str) -> list[int]:
    """The row of the table for each vector."""
    place = {name: i for i, name in enumerate(theirs)}
    if len(place) < len(theirs):
        twice = Counter(theirs).most_common(1)[0][0]
        raise DataError(f"{table} names {twice!r} twice, so its rows cannot be told apart. Keep one of them.")
    if absent := [name for name in mine if name not in place]:
        raise DataError(
            f"{table} has a row for every vector of {source}; {len(absent):,} of {len(mine):,} are not in it, "
            f"{absent[0]!r} first. Add them, or drop the column that names the rows where both are in one order."
        )
    return [place[name] for name in mine]


def _usable(
    vectors: NDArray[np.float32], words: dict[str, list[str]], refs: list[str], source: str, *, skip_bad: bool
) -> tuple[NDArray[np.int64], list[tuple[str, str]]]:
    """The rows that can be used, and the others with the reason.

    Raises:
        DataError: naming the first, unless they may be skipped, or if none is left.
    """
    faults = {int(row): "has numbers that are not finite" for row in not_finite(vectors)}
    faults |= {row: "has no superclass" for row, word in enumerate(words["superclass"]) if not word}
    if not faults:
        return np.arange(len(vectors)), []
    listed = [(refs[row] if refs else f"row {row}", faults[row]) for row in sorted(faults)]
    row, count = min(faults), len(faults)
    if not skip_bad or count == len(vectors):
        named = f" ({refs[row]})" if refs else ""
        more = f"; {count:,} of {len(vectors):,} rows are at fault" if count > 1 else ""
        raise DataError(
            f"vectors are finite numbers, and each has a superclass; row {row}{named} of {source} {faults[row]}{more}. "
            f"Mend or remove it, or pass `skip_bad` to go on without such rows."
        )
    return np.setdiff1d(np.arange(len(vectors)), list(faults)), listed


def _constant(vectors: NDArray[np.float32]) -> int:
    """How many numbers never change."""
    if len(vectors) < 2:
        return 0
    same: Any = np.ones(vectors.shape[1], dtype=bool)
    rows = max(1, CHUNK // vectors.shape[1])
    for start in range(0, len(vectors), rows):
        same &= (vectors[start : start + rows] == vectors[:1]).all(axis=0)
        if not same.any():
            break
    return int(same.sum())
