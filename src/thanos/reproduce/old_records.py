"""Finished rows as they were kept until now, a file each: FOLDER/DATASET/SEED-ROW-FINGERPRINT.json."""

import json
import re
from pathlib import Path
from typing import Any

from thanos.errors import DataError
from thanos.reproduce.fingerprint import digest

_NAME = re.compile(r"[0-9]+-.+-[0-9a-f]{12}\.json")


def read_old_records(folder: Path) -> dict[Path, dict[str, Any]]:
    """The records in a data set's folder, by file; empty where there is no such folder.

    Raises:
        DataError: if one was changed after it was written, or is another row's.
    """
    files = sorted(file for file in folder.glob("*.json") if _NAME.fullmatch(file.name))
    return {file: record for file in files if (record := _read(file)) is not None}


def _read(file: Path) -> dict[str, Any] | None:
    """A record, or None if another command has converted it meanwhile."""
    remedy = f"Restore it (git checkout {file}), or delete it to run it again."
    try:
        record = json.loads(file.read_text("utf-8"))
        checksum = record.pop("checksum")
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        raise DataError(f"a finished row's record is wanted; {file} is none. {remedy}") from None
    if digest(record) != checksum:
        raise DataError(f"{file} was edited after it was measured: its checksum does not agree. {remedy}")
    if (file.parent.name, file.name) != (record.get("dataset"), old_name(record)):
        raise DataError(
            f"{file} holds another row's record ({record.get('row')}, {record.get('dataset')}, seed "
            f"{record.get('seed')}). {remedy}"
        )
    return dict(record)


def old_name(record: dict[str, Any]) -> str:
    """The name of a record's file."""
    row = str(record.get("row")).replace(" + ", "+").replace(" ", "-").replace("(", "").replace(")", "")
    return f"{record.get('seed')}-{row}-{record.get('fingerprint')}.json"
