"""Vectors in Parquet files and in Hugging Face data sets on disk; pyarrow and datasets are extras."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from thanos.data.cache import cache_folder, identity
from thanos.data.labels import SPLITS, split_name
from thanos.data.sheet import names_image
from thanos.data.vector_files import Columns, gathered
from thanos.data.vector_labels import VECTORS, plain, vector_columns
from thanos.errors import ConfigError, DataError
from thanos.storage import parsed

ROWS = 8192
"""Rows that are read at a time."""
_INFO, _DICT = "dataset_info.json", "dataset_dict.json"


def folder_holds(path: Path) -> Literal["vectors", "images", ""]:
    """What a data set of ``datasets.save_to_disk`` holds; empty where the folder is none."""
    first = next(iter(_parts(path).values()), path)
    if not (first / _INFO).is_file():
        return ""
    features = _facts(first / _INFO, "features", dict)
    kinds = {name: each.get("_type", "") if isinstance(each, dict) else "" for name, each in features.items()}
    return "images" if "Image" in kinds.values() and not {*kinds.values()} & {"Sequence", "List"} else "vectors"


def parquet_holds(path: Path) -> Literal["vectors", "images", "paths"]:
    """What a Parquet file holds: pictures as Hugging Face writes them, the names of image files, or else vectors.

    Raises:
        DataError: for what is no Parquet file.
        ConfigError: without pyarrow.
    """
    arrow, parquet = _pyarrow(path)
    try:
        with parquet.ParquetFile(path) as file:
            schema = file.schema_arrow
            if any(_is_picture(schema.field(name).type) for name in schema.names):
                return "images"
            if any(arrow.types.is_list(field.type) or arrow.types.is_fixed_size_list(field.type) for field in schema):
                return "vectors"
            words = [field.name for field in schema if field.type in (arrow.string(), arrow.large_string())]
            first = next(file.iter_batches(1, columns=words), None) if words else None
    except (arrow.ArrowException, OSError) as error:
        said = str(error).splitlines()[0]
        raise DataError(f"{path} cannot be read as Parquet ({said}). Write it again.") from None
    cells = [] if first is None or not first.num_rows else [str(column[0].as_py()) for column in first.columns]
    return "paths" if any(map(names_image, cells)) else "vectors"


def _is_picture(kind: Any) -> bool:
    """Whether a column is of {bytes, path}, as ``datasets`` keeps images."""
    return hasattr(kind, "num_fields") and {kind.field(i).name for i in range(kind.num_fields)} == {"bytes", "path"}


def _pyarrow(path: Path) -> tuple[Any, Any]:
    try:
        import pyarrow as arrow
        from pyarrow import parquet
    except ModuleNotFoundError:
        raise ConfigError(
            f"{path.name} is read by pyarrow; install it with pip install thanos-repr[parquet], or save the vectors as "
            f".npy."
        ) from None
    return arrow, parquet


def _parts(path: Path) -> dict[str, Path]:
    """Its splits, by name; empty where it has none."""
    if not (path / _DICT).is_file():
        return {}
    return {str(name): path / str(name) for name in _facts(path / _DICT, "splits", list)}


def _facts(file: Path, key: str, kind: type) -> Any:
    """What ``datasets`` wrote of a data set.

    Raises:
        DataError: if it is damaged.
    """
    content = parsed(file)
    if not isinstance(content.get(key), kind):
        raise DataError(f"{file} is damaged, in what it says of {key!r}. Save the data set again.")
    return content[key]


def read_parquet(path: Path, *, vectors: bool, apart: Collection[str] = ()) -> Columns:
    """Raises DataError for what is no Parquet file, ConfigError without pyarrow."""
    arrow, parquet = _pyarrow(path)
    try:
        with parquet.ParquetFile(path) as file:
            schema, count = file.schema_arrow, file.metadata.num_rows
            names = [name for name in schema.names if not name.startswith("__index_level_")]
            batches = file.iter_batches(ROWS, columns=names)
            return _columns(path.name, arrow.schema([schema.field(name) for name in names]), count, batches,
                            identity(path) if vectors else None, apart)  # fmt: skip
    except (arrow.ArrowException, OSError) as error:
        said = str(error).splitlines()[0]
        raise DataError(f"{path} cannot be read as Parquet ({said}). Write it again.") from None


def opened(path: Path) -> dict[str, Any]:
    """The splits of a Hugging Face data set, by name; one without splits is called the empty name.

    Args:
        path: A folder of ``save_to_disk``, or a Parquet file with pictures.
    Raises:
        DataError: for what ``datasets`` cannot read.
        ConfigError: without it.
    """
    try:
        import datasets
    except ModuleNotFoundError:
        raise ConfigError(
            f"{path} is a Hugging Face data set, which the package datasets reads; install it with pip install "
            f"thanos-repr[hf]."
        ) from None
    parts = {"": path} if path.is_file() else _parts(path) or {"": path}
    try:
        if path.is_file():
            kept = str(cache_folder() / "parquet")
            whole = datasets.Dataset.from_parquet(str(path), cache_dir=kept)
            pictures = [name for name, each in whole.features.items() if isinstance(each, dict)]
            return {"": whole.cast_column(pictures[0], datasets.Image()) if pictures else whole}
        return {name: datasets.load_from_disk(str(place), keep_in_memory=False) for name, place in parts.items()}
    except Exception as error:  # whatever a damaged one makes datasets and pyarrow raise
        raise DataError(f"{path} cannot be read as a data set: {str(error).splitlines()[0]}") from None


def read_folder(path: Path, *, vectors: bool, apart: Collection[str] = ()) -> Columns:
    """The columns of a Hugging Face data set, with its vectors if they are wanted; raises as :func:`opened`."""
    loaded = opened(path)
    first = next(iter(loaded.values()))
    schema = first.with_format("arrow")[:0].schema if not len(first) else first.with_format("arrow")[:1].schema
    batches = (table for part in loaded.values() for table in part.with_format("arrow").iter(ROWS))
    key = "-".join(part._fingerprint for part in loaded.values()) if vectors else None
    found = _columns(path.name, schema, sum(len(part) for part in loaded.values()), batches, key, apart)
    for name, feature in first.features.items():
        if hasattr(feature, "int2str") and name in found.labels:
            found.labels[name] = _named(found.labels[name], feature.names)
    if "" not in loaded:
        splits = [[name if split_name(name) in SPLITS else "train"] * len(part) for name, part in loaded.items()]
        found.labels["split"] = np.concatenate([np.array(each, dtype=object) for each in splits])
    return found


def _named(ids: NDArray[Any], names: list[str]) -> NDArray[Any]:
    return np.array([names[int(i)] if i is not None and 0 <= int(i) < len(names) else "" for i in ids], dtype=object)


@dataclass(frozen=True)
class _Layout:
    """Which columns are what."""

    names: list[str]
    kinds: list[Any]
    """pyarrow's types."""
    vectors: list[int]
    """One column of lists, or one for each number; empty: not wanted."""
    labels: list[int]

    @property
    def of_lists(self) -> bool:
        return len(self.vectors) == 1


def _layout(file: str, schema: Any, count: int, apart: Collection[str], *, vectors: bool) -> _Layout:
    """Raises DataError where vectors are wanted, and there are none, or two columns of them."""
    from pyarrow import types

    names = list(schema.names)
    kinds = [field.type.storage_type if hasattr(field.type, "storage_type") else field.type for field in schema]
    lists = [i for i, kind in enumerate(kinds) if types.is_list(kind) or types.is_large_list(kind)
             or types.is_fixed_size_list(kind)]  # fmt: skip
    kept = [i for i, kind in enumerate(kinds) if i not in lists and not types.is_struct(kind)]
    if not vectors:
        return _Layout(names, kinds, [], kept)
    named = [i for i in lists if plain(names[i]) in VECTORS] or lists
    if len(named) > 1:
        raise DataError(
            f"{file} has two columns of lists, {names[named[0]]!r} and {names[named[1]]!r}. Call the right one "
            f"'vectors'."
        )
    numbers = [types.is_floating(kind) or types.is_integer(kind) for kind in kinds]
    places = named or vector_columns(names, lambda i: numbers[i], apart)
    if not places or not count:
        has = ", ".join(f"{name} ({kind})" for name, kind in zip(names, kinds, strict=True)) or "nothing"
        raise DataError(
            f"{file} needs a column of lists, or numbered columns, that are the vectors, and rows; it has {has} in "
            f"{count:,} rows."
        )
    return _Layout(names, kinds, places, [i for i in kept if i not in places])


def _columns(
    file: str, schema: Any, count: int, batches: Iterable[Any], key: str | None, apart: Collection[str]
) -> Columns:
    """Vectors and labels of tables that come one after the other; ``key``: of the vectors, None if not wanted."""
    layout = _layout(file, schema, count, apart, vectors=key is not None)
    names, places = layout.names, layout.vectors
    parts: dict[int, list[Any]] = {i: [np.array([], dtype=object)] for i in layout.labels}
    found = Columns(file)

    def blocks() -> Iterator[NDArray[Any]]:
        start = 0
        for table in batches:
            for i in layout.labels:
                parts[i].append(_labels(table.column(i)))
            if places:
                yield _rows(table, layout, file, start)
            start += len(table)

    whole = blocks()
    first = next(whole, None)
    if first is not None:
        found.vectors = gathered((count, first.shape[1]), _checked(first, whole, file), f"{key}-{len(places)}")
        found.called = names[places[0]] + (f" to {names[places[-1]]}" if len(places) > 1 else "")
        kind = layout.kinds[places[0]]
        kind = kind.value_type if layout.of_lists else kind
        found.notes = [] if str(kind) == "float" else [f"{kind} converted to float32"]
    found.labels = {names[i]: np.concatenate(each[1:] or each) for i, each in parts.items()}
    return found


def _checked(first: NDArray[Any], rest: Iterator[NDArray[Any]], file: str) -> Iterator[NDArray[Any]]:
    yield first
    for block in rest:
        if block.shape[1] != first.shape[1]:
            raise DataError(f"vectors are of one width; {file} has some of {first.shape[1]} and of {block.shape[1]}.")
        yield block


def _labels(column: Any) -> NDArray[Any]:
    from pyarrow import types

    if types.is_integer(column.type) and not column.null_count:
        return np.asarray(column.to_numpy())
    return np.array(column.to_pylist(), dtype=object)


def _rows(table: Any, layout: _Layout, file: str, start: int) -> NDArray[Any]:
    """The vectors of some rows, (rows, dim)."""
    if not layout.of_lists:
        columns = [np.asarray(table.column(i).to_numpy(), dtype=np.float32) for i in layout.vectors]
        return np.stack(columns, axis=1)
    from pyarrow import compute

    column = table.column(layout.vectors[0])
    column = column.combine_chunks() if hasattr(column, "combine_chunks") else column
    if column.null_count:
        row = start + int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
        raise DataError(f"every row has a vector; row {row} of {file} has none. Remove it.")
    widths = np.asarray(compute.list_value_length(column).to_numpy(zero_copy_only=False))
    if (widths != widths[0]).any():
        odd = int((widths != widths[0]).argmax())
        raise DataError(
            f"vectors are of one width; row {start + odd} of {file} has {widths[odd]}, row {start} has {widths[0]}."
        )
    flat = column.flatten().to_numpy(zero_copy_only=False)
    if flat.dtype.kind not in "fiub":
        raise DataError(f"a vector is a list of numbers; {file} has lists of {column.type.value_type}.")
    return np.asarray(flat).reshape(len(column), int(widths[0]))
