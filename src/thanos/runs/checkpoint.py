"""What a training's checkpoint holds, read so that nothing in it runs or unpacks to more than it is."""

from pathlib import Path
from pickletools import genops
from typing import Any
from zipfile import ZipFile

import torch

from thanos.errors import DataError
from thanos.storage import check_packing
from thanos.storage.manifest import check_whole


def read_checkpoint(file: Path) -> dict[str, Any]:
    """What a training's checkpoint holds; every byte of it is checked first.

    Raises:
        DataError: if it is no checkpoint, or was damaged.
    """
    check_whole(file)
    try:
        check_packing(file)
        with ZipFile(file) as parts:
            damaged = "all of it" if _calls_others(parts) else parts.testzip()
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


_OURS = ("torch ", "torch._utils ", "collections OrderedDict")
"""What a checkpoint's pickle calls; torch would also call others that fill memory."""


def _calls_others(parts: ZipFile) -> bool:
    """Whether building what a checkpoint holds calls anything that saving it did not ask for."""
    pickles = [name for name in parts.namelist() if name.endswith("data.pkl")]
    named = (
        str(argument) if code.name == "GLOBAL" else "unknown"
        for name in pickles
        for code, argument, _ in genops(parts.read(name))
        if code.name in ("GLOBAL", "STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4")
    )
    return not all(each.startswith(_OURS) for each in named)
