"""Whether a run is whole: each file as it was written, and what a person may edit as it can be meant."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from thanos.config import TrainConfig, explain
from thanos.data.group_table import read_table
from thanos.embeddings import kept_fingerprint
from thanos.errors import DataError, ThanosError
from thanos.runs.checkpoint import read_checkpoint
from thanos.runs.run_dir import RunDir
from thanos.storage import read_json, read_npz
from thanos.storage.manifest import EDITED, MANIFEST, faults_in, read_manifest
from thanos.storage.schemas import Classifier, Found


@dataclass(frozen=True)
class Whole:
    """What was found."""

    files: tuple[str, ...]
    """That are as they were written; empty where no manifest says how that was."""
    edited: tuple[str, ...]
    """That a person may edit, and that were read."""
    faults: tuple[str, ...]
    """A line each, with what to do."""


def check_run(run: RunDir) -> Whole:
    """Hold every file against the manifest, and read all that is read back, whether there is one or not."""
    entries, faults = read_manifest(run.path), faults_in(run.path)
    if not entries and (run.path / MANIFEST).exists():
        faults.append(f"{run.path / MANIFEST} is damaged, or another's. Bring back a copy, or remove it.")
    edited = []
    for file, read in _readers(run):
        try:
            read()
        except ValidationError as error:
            faults.append(f"{file}: {explain(error)}")
        except ThanosError as error:
            faults.append(str(error))
        edited += [file.name] * (file.suffix in EDITED)
    named = [name for name, entry in entries.items() if not entry.get("edited") and (run.path / name).is_file()]
    return Whole(tuple(named), tuple(edited), tuple(dict.fromkeys(faults)))


def _readers(run: RunDir) -> Iterator[tuple[Path, Callable[[], Any]]]:
    """Every file that commands read back, with what reads it."""
    yield run.settings_file, lambda: TrainConfig(**run.settings())
    yield run.data_file, run.data
    yield run.metrics_file, run.metrics
    if run.checkpoint.is_file():
        yield run.checkpoint, partial(read_checkpoint, run.checkpoint)
    kinds: dict[str, Callable[[Path], Any]]
    kinds = {"*.safetensors": _check_weights, "*.npz": read_npz, "robust-*.json": partial(read_json, schema=Classifier)}
    for kind, read in kinds.items():
        yield from ((file, partial(read, file)) for file in sorted(run.path.glob(kind)))
    for table in sorted(run.path.glob("subclasses*.csv")):
        names, facts = (table.with_suffix(suffix) for suffix in (".yaml", ".json"))
        yield table, partial(read_table, table)
        yield facts, partial(read_json, facts, Found)
        if names.is_file():
            yield names, partial(read_table, table, names)


def _check_weights(file: Path) -> None:
    if not kept_fingerprint(file):
        raise DataError(
            f"{file}, or {file.with_suffix('.json').name} beside it, is damaged. Bring back a copy of both."
        )
