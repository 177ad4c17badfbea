"""What a training's checkpoint holds, read so that nothing in it runs or unpacks to more than it is."""

from pathlib import Path
from typing import Any
from zipfile import ZipFile

import torch

from thanos.errors import DataError
from thanos.storage.manifest import check_whole


def read_checkpoint(file: Path) -> dict[str, Any]:
    """What a training's checkpoint holds; every byte of it is checked first.

    Raises:
        DataError: if it is no checkpoint, or was damaged.
    """
    check_whole(file)
    try:
        with ZipFile(file) as parts:  # torch packs nothing: what unpacks to more is a trap
            packed = sum(entry.file_size for entry in parts.infolist()) > file.stat().st_size
            damaged = "all of it" if packed else parts.testzip()
        kept = torch.load(file, map_location="cpu", weights_only=True) if damaged is None else None
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror or error}).") from None
    except Exception:  # whatever a damaged file makes zipfile, pickle and torch raise
        kept = None
    if not isinstance(kept, dict):
        raise DataError(
            f"a checkpoint is a run's last.ckpt; {file} is none, or was damaged. Bring back a copy, or remove it: the "
            f"command of that run then starts anew."
        )
    return kept
