"""Writing files so that a failure midway leaves what was there."""

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout

from thanos.errors import OutputError


def write_atomically(path: Path, write: Callable[[IO[bytes]], Any]) -> None:
    """Write a temporary file beside ``path`` and rename it over ``path`` once it is complete and on disk.

    Raises:
        OutputError: if it cannot be written; what was at ``path`` is still there then.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written ({error.strerror or error}); what was there is unchanged."
        ) from None
    finally:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)


def is_writable(path: Path) -> bool:
    """Whether a file could be written there, perhaps in folders that are yet to be made."""
    there = next(each for each in (path, *path.absolute().parents) if each.exists())
    return os.access(there, os.W_OK) and (there == path or there.is_dir())


def free_name(path: Path) -> Path:
    """The path, or the first of name-2, name-3, ... that does not exist."""
    number, free = 1, path
    while free.exists():
        number += 1
        free = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return free


def write_text(path: Path, text: str) -> None:
    write_atomically(path, lambda file: file.write(text.encode("utf-8")))


def write_json(path: Path, content: Any) -> None:
    write_text(path, json.dumps(content, indent=2) + "\n")


@contextmanager
def only_one(folder: Path, option: str) -> Iterator[None]:
    """Keep other commands out of a folder; a process that dies lets go of it.

    Args:
        folder: Made if it is not there.
        option: The flag that names it.
    Raises:
        OutputError: if another command is at work there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise OutputError(f"another command is at work in {folder}. Wait for it, or name another {option}.") from None
    except NotImplementedError:
        pass  # some network file systems have no locks
    try:
        yield
    finally:
        (folder / ".lock").unlink(missing_ok=True)
        lock.release()
