"""One JSON file for each finished row: what was trained, what it scored, and fingerprints that say for which settings.

A record is found by the fingerprint of its settings, which is in its file's name, and is believed only if its content
still agrees with the checksum it was written with.
"""

import json
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from thanos.config import TrainConfig, TransferConfig
from thanos.errors import DataError
from thanos.reproduce.rows import Block, Row
from thanos.storage import write_json

Record = dict[str, Any]

STAGE_VERSION = 1
"""Raised when a last stage comes to do something else under the same settings: its grids, its clusters, its network."""
_WHERE = {"root", "download", "accelerator"}
"""Settings that say where a run happens and not what it is."""


def fingerprint(config: TrainConfig) -> str:
    """Of every setting that decides a training's outcome; those at their defaults do not count.

    So a setting added later, whose default does what was done before, changes no fingerprint. A default that changes
    what it does must change its name or its value; a test pins the fingerprints of the scales.
    """
    settings = config.model_dump(mode="json", exclude_defaults=True, exclude=_WHERE)
    if config.views is not None:  # given beside a data set's own views, a default counts
        settings["views"] = config.views.model_dump(mode="json", exclude_unset=True)
    return digest(settings)


def row_fingerprint(row: Row, base: TrainConfig, probe: TransferConfig) -> str:
    """Of a row's trainings, of its last stage, of how it is judged, and for a floor of what it embeds."""
    parts = [fingerprint(part.config(base)) for part in row.parts] or [str(row.floor), fingerprint(base)]
    judged: list[Any] = [probe.model_dump(mode="json", exclude_defaults=True)]
    if row.stage is not None:
        settings = [each and each.model_dump(mode="json") for each in (row.stage.config, row.stage.clusters)]
        judged = ["stage", STAGE_VERSION, *settings, row.stage.network]
    return digest([parts, row.weights, *judged])


def digest(content: Any) -> str:
    """Twelve hexadecimal digits of a JSON value, whatever the order of its keys."""
    return blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=6).hexdigest()


@dataclass(frozen=True)
class Places:
    """Where trainings work and where records are kept."""

    work: Path
    """Run directories; may be deleted once the table is done."""
    records: Path
    """DATA SET/SEED-ROW-FINGERPRINT.json"""

    def run_folder(self, config: TrainConfig) -> Path:
        return self.work / f"{config.data}-{config.method}-{config.seed}-{fingerprint(config)}"

    def record_file(self, row: Row, block: Block) -> Path:
        slug = row.name.replace(" + ", "+").replace(" ", "-").replace("(", "").replace(")", "")
        name = f"{block.base.seed}-{slug}-{row_fingerprint(row, block.base, block.probe)}.json"
        return self.records / block.base.data / name


def write_record(file: Path, record: Record) -> None:
    """Complete or not at all."""
    plain = json.loads(json.dumps(record))
    write_json(file, plain | {"checksum": digest(plain)})


def read_record(file: Path) -> Record | None:
    """A finished row, or None if there is none.

    Raises:
        DataError: if the file was changed after it was written, or is another row's.
    """
    if not file.is_file():
        return None
    remedy = f"Restore it (git checkout {file}), or delete it to run it again."
    try:
        record = json.loads(file.read_text("utf-8"))
        checksum = record.pop("checksum")
    except (ValueError, KeyError, AttributeError):
        raise DataError(f"a finished row's record is wanted; {file} is none. {remedy}") from None
    if digest(record) != checksum:
        raise DataError(f"{file} was edited after it was measured: its checksum does not agree. {remedy}")
    if str(record.get("fingerprint")) != file.stem.rpartition("-")[2]:
        raise DataError(
            f"{file} holds another row's record ({record.get('row')}, {record.get('dataset')}, seed "
            f"{record.get('seed')}). {remedy}"
        )
    return dict(record)
