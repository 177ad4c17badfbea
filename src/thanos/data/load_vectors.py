"""From a file of vectors, its labels in it or in a table beside it, to a VectorSet with its splits."""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thanos.config import OF_IMAGES, DataConfig, refuse_settings
from thanos.data.columns import said_columns, said_places
from thanos.data.labels import UNLABELLED, known_units, label_fields, split_levels
from thanos.data.splits import with_splits
from thanos.data.vector_files import Columns, read_columns
from thanos.data.vector_labels import describe_roles, label_words, roles_of
from thanos.data.vectors import CHUNK, VectorSet, not_finite
from thanos.errors import ConfigError, DataError


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
    named = said_columns(config.columns, config.together)
    found = read_columns(source, apart=named.values())
    assert found.vectors is not None
    count, dim = found.vectors.shape
    table = read_table(config.labels) if isinstance(config.labels, Path) else None
    said_places(source.name, [*found.labels, *(table.labels if table else ())], "column", named)
    words, further, said = words_of_columns(found, count, named, f"{found.called} ({count:,} x {dim:,})")
    if table is not None:
        words, more, line = _joined(words, table, count, source.name, named)
        said, further = f"{said}; {line}", further | more
    if "superclass" in words:
        split_levels(words, config.level, config.judged_level, source.name)
    refs = words.pop("refs", [])
    words.setdefault("superclass", [UNLABELLED] * count)
    kept, skipped = _usable(found.vectors, words, refs, source.name, skip_bad=config.skip_bad)
    vectors = found.vectors
    if skipped:
        vectors = vectors[kept]
        words, further = _of_rows(words, kept), _of_rows(further, kept)
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
        together=tuple(known_units(words["together"])) if "together" in words else (),
        further={name: tuple(column) for name, column in further.items()},
        **label_fields(words, len(vectors), source.name, "vector", config.unknown),
    )


def _of_rows(columns: dict[str, list[str]], rows: Iterable[int]) -> dict[str, list[str]]:
    rows = [int(i) for i in rows]
    return {name: [column[i] for i in rows] for name, column in columns.items()}


def words_of_columns(
    found: Columns, count: int, named: Mapping[str, str], vectors: str = ""
) -> tuple[dict[str, list[str]], dict[str, list[str]], str]:
    """Labels by role, the columns that are none as text, and one line on what was taken for what.

    Args:
        found: All columns.
        count: Rows.
        named: What the user says, from role to column.
        vectors: What the line calls the vectors.
    Raises:
        DataError: for columns that cannot be labels, or two that could be one.
    """
    roles = roles_of(list(found.labels), found.file, named)
    words = label_words(found.labels, roles, count, found.file, found.names, named)
    if len(set(words.get("refs", ()))) == 1 < count:
        del words["refs"]  # a name for the whole file tells no rows apart
    unused = [name for name in found.labels if name not in roles.values()]
    further = {name: _as_text(found.labels[name]) for name in unused if len(found.labels[name]) == count}
    return words, further, describe_roles(roles, unused, vectors)


def _as_text(values: NDArray[Any]) -> list[str]:
    return ["" if value is None or value != value else str(value) for value in values.tolist()]


def read_table(file: Path) -> Columns:
    """A table of labels.

    Raises:
        ConfigError: if there is no such file.
    """
    if not file.exists():
        raise ConfigError(
            f"`labels` takes a table of labels (.csv, .tsv, .npy, .npz, .parquet), superclass or subclass; there is no "
            f"file {file.absolute()}."
        )
    return read_columns(file, vectors=False)


def _joined(
    own: dict[str, list[str]], table: Columns, count: int, source: str, named: Mapping[str, str]
) -> tuple[dict[str, list[str]], dict[str, list[str]], str]:
    """Labels of the rows with those of a table, and its other columns.

    They are matched by what both call a row, else one row each, in order.

    Raises:
        DataError: if it has no labels, or other rows.
    """
    file = table.file
    rows = len(next(iter(table.labels.values()), ()))
    if len(table.labels) == 1 and not roles_of(list(table.labels), file, named):  # one column can only be that
        (name, values), title = next(iter(table.labels.items())), table.called
        table.labels = {"superclass": values}
        if rows == count - 1 and not title:  # its first label was taken for its name
            table.labels, rows = {"superclass": np.concatenate([np.array([name], dtype=object), values])}, count
    words, further, said = words_of_columns(table, rows, named)
    if "superclass" not in words and "superclass" not in own:
        has = ", ".join(repr(name) for name in table.labels) or "no column"
        raise DataError(
            f"{file} needs a column of labels (superclass, label, y, ...); it has {has}. Rename one, or pass "
            f"`columns=superclass=NAME`."
        )
    said = f"{said}, of {file}"
    if "refs" in own and "refs" in words:
        place = _matched(own["refs"], words.pop("refs"), file, source)
        left = rows - count
        said += f" by the names of the rows{f', {left:,} of its rows not needed' if left else ''}"
        return own | _of_rows(words, place), _of_rows(further, place), said
    if rows != count:
        raise DataError(
            f"labels stand in the order of the vectors, one each; {source} has {count:,} vectors and {file} "
            f"{rows:,} rows. Leave out what is too much, or give both a column id."
        )
    return own | words, further, f"{said} in its order"


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
