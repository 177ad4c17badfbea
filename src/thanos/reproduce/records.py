"""Finished rows: what was trained, what it scored, and how; a line of JSON each, a file for a scale and data set.

A record is found by its row's name, its seed and the fingerprint of its settings, and is believed only if its content
still agrees with the checksum it was written with. Lines go by seed and row. What the scores mean is said once in a
file: records name their definitions, a line before them, by its checksum.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from thanos.config import TrainConfig
from thanos.errors import DataError
from thanos.reproduce.fingerprint import digest, fingerprint, row_fingerprint
from thanos.reproduce.old_records import read_old_records
from thanos.reproduce.rows import Block, Row
from thanos.storage import checked, write_text
from thanos.storage.locks import alone
from thanos.storage.schemas import RecordKey

Record = dict[str, Any]


class Key(NamedTuple):
    """What a record is found by."""

    seed: int
    row: str
    fingerprint: str


@dataclass(frozen=True)
class Places:
    """Where trainings work and where records are kept."""

    work: Path
    """Run directories; may be deleted once the table is done."""
    records: Path
    """Folder of a scale, with a DATASET.jsonl for each data set."""

    def run_folder(self, config: TrainConfig) -> Path:
        return self.work / f"{config.data}-{config.method}-{config.seed}-{fingerprint(config)}"


def record_file(folder: Path, dataset: str) -> Path:
    """Where the finished rows of a data set lie."""
    return folder / f"{dataset}.jsonl"


class Records:
    """The finished rows in a folder, as they are when a data set is first asked for: its file is read once.

    Args:
        folder: Of one scale. Records of an earlier version, a file each, are read where they still lie there.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._known: dict[str, dict[Key, Record]] = {}

    def of(self, dataset: str) -> dict[Key, Record]:
        """All records of a data set, with their definitions.

        Raises:
            DataError: if one was changed after it was written, or is another data set's; names file and line.
        """
        if dataset not in self._known:
            old = read_old_records(self.folder / dataset)  # first: what is converted meanwhile is then among the lines
            file = record_file(self.folder, dataset)
            self._known[dataset] = _with_old(file, read_records(file), old)
        return self._known[dataset]

    def find(self, row: Row, block: Block) -> Record | None:
        """A finished row, or None if there is none."""
        known = self.of(block.base.data)
        return known.get(Key(block.base.seed, row.name, row_fingerprint(row, block.base, block.probe)))

    def seeds(self, dataset: str) -> list[int]:
        """Those with a record, in order."""
        return sorted({key.seed for key in self.of(dataset)})


def add_record(folder: Path, record: Record) -> None:
    """Write a record among those of its data set, in place of an earlier one of the same row, seed and settings.

    Any number of processes may do so at once. The file is complete at every moment.

    Raises:
        DataError: if a line of the file is damaged.
        OutputError: if it cannot be written.
    """
    plain = json.loads(json.dumps(record))
    file = record_file(folder, plain["dataset"])
    with alone(file):
        _write(file, read_records(file) | {_key(plain): plain})


def _key(record: Record) -> Key:
    return Key(record["seed"], record["row"], record["fingerprint"])


def _write(file: Path, records: dict[Key, Record]) -> None:
    """Definitions, each once, then records by seed and row; complete or not at all."""
    said = [record["definitions"] for record in records.values() if "definitions" in record]
    lines = [{"definitions": each, "checksum": mark} for mark, each in sorted({digest(s): s for s in said}.items())]
    for _, record in sorted(records.items()):
        named = {"definitions": digest(record["definitions"])} if "definitions" in record else {}
        lines.append(record | named | {"checksum": digest(record)})
    write_text(file, "".join(f"{json.dumps(line)}\n" for line in lines))


@dataclass(frozen=True)
class _Line:
    """What a line of a file says."""

    file: Path
    number: int
    content: Record
    checksum: str

    def refused(self, why: str) -> DataError:
        return _refused(self.file, self.number, why)

    @property
    def defines(self) -> bool:
        """Whether it is a line of definitions, and not a record."""
        return set(self.content) == {"definitions"}


def _refused(file: Path, number: int, why: str) -> DataError:
    return DataError(
        f"{file}, line {number}: {why}. Restore it (git checkout {file}), or delete the line to run it again."
    )


def read_records(file: Path) -> dict[Key, Record]:
    """The records that a file's lines hold, with their definitions; none if there is no such file.

    Raises:
        DataError: with file and line, if a line was changed after it was written, is another data set's, or if two of
            them differ about one row; equal lines count once.
    """
    lines = list(_lines(file))
    definitions = {line.checksum: _defined(line) for line in lines if line.defines}
    found: dict[Key, Record] = {}
    numbers: dict[Key, int] = {}
    for line in lines:
        if line.defines:
            continue
        record = _recorded(line, definitions)
        key = _key(record)
        if digest(found.setdefault(key, record)) != digest(record):
            raise line.refused(f"it says of {key.row}, seed {key.seed}, something else than line {numbers[key]}")
        numbers.setdefault(key, line.number)
    return found


def _lines(file: Path) -> Iterator[_Line]:
    """What the lines say; empty ones are passed over."""
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        return
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror or error}).") from None
    for number, text in enumerate(content.split(b"\n"), start=1):
        if not text.strip():
            continue
        try:
            said = json.loads(text.decode("utf-8"))
            yield _Line(file, number, said, said.pop("checksum"))
        except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
            raise _refused(file, number, "a finished row's record is wanted; this is none") from None


def _defined(line: _Line) -> Any:
    """A line's definitions."""
    said = line.content["definitions"]
    if digest(said) != line.checksum:
        raise DataError(
            f"{line.file}, line {line.number}: the definitions were edited. Restore them (git checkout {line.file}), "
            f"or delete the line and those that name {line.checksum} to run their rows again."
        )
    return said


def _recorded(line: _Line, definitions: dict[str, Any]) -> Record:
    """A line's record."""
    record = line.content
    if "definitions" in record:
        if str(record["definitions"]) not in definitions:
            raise line.refused("the definitions that it names are gone")
        record = record | {"definitions": definitions[str(record["definitions"])]}
    if digest(record) != line.checksum:
        raise line.refused("it was edited after it was measured: its checksum does not agree")
    checked(record, RecordKey, f"{line.file}, line {line.number},")
    if record["dataset"] != line.file.stem:
        raise line.refused(
            f"it holds another row's record ({record.get('row')}, {record.get('dataset')}, seed {record.get('seed')})"
        )
    return record


def _with_old(file: Path, known: dict[Key, Record], old: dict[Path, Record]) -> dict[Key, Record]:
    """Those of a file, and those that lie beside it in files of their own."""
    found = dict(known)
    for source, record in old.items():
        if digest(found.setdefault(_key(record), record)) != digest(record):
            raise DataError(f"{source} and {file} differ about one row. Delete the one that is not to be believed.")
    return found


def convert_old_records(folder: Path, say: Callable[[str], None]) -> None:
    """Make lines of the records of an earlier version that still lie in a scale's folder, a file each.

    Their files go once the new one is written and holds every one of them as it was; edited ones stop it before.

    Raises:
        DataError: if one was edited or is another row's.
    """
    count = sum(_convert(each) for each in _folders(folder))
    if count:
        say(f"{count} records, till now a file each, are lines of {folder}/*.jsonl")


def _folders(folder: Path) -> Iterable[Path]:
    return sorted(each for each in folder.iterdir() if each.is_dir()) if folder.is_dir() else ()


def _convert(folder: Path) -> int:
    """One data set's; returns how many."""
    if not read_old_records(folder):
        return 0
    file = record_file(folder.parent, folder.name)
    with alone(file):
        old = read_old_records(folder)
        _write(file, _with_old(file, read_records(file), old))
        kept = read_records(file)
        for source, record in old.items():
            if digest(kept.get(_key(record))) != digest(record):
                raise DataError(f"{file} does not hold {source} as it was; it is left where it is.")
        for source in old:
            source.unlink()
    with suppress(OSError):  # what else lies there stays
        folder.rmdir()
    return len(old)
