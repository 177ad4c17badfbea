"""Keeping commands out of each other's way: in a folder, or at a file."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from thanos.errors import OutputError

LOCK = ".thanos.lock"
"""The file in a folder that a command holds while it is at work there."""


@contextmanager
def alone(file: Path) -> Iterator[None]:
    """Wait until no other process, on whatever machine, changes a file. The lock's own file goes when this ends.

    Raises:
        OutputError: if nothing can be written there.
    """
    lock = FileLock(file.with_name(f".{file.name}.lock"))
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        raise OutputError(f"{file} cannot be written ({error.strerror or error}).") from None
    try:
        yield
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)  # while it is held: who waits for it sees that it is gone
        lock.release()


@contextmanager
def only_one(folder: Path, setting: str) -> Iterator[None]:
    """Keep other commands out of a folder; a process that dies lets go of it.

    Args:
        folder: Made if it is not there.
        setting: That names it.
    Raises:
        OutputError: if another command is at work there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if os.path.lexists(folder / LOCK) and not ((folder / LOCK).is_file() and not (folder / LOCK).stat().st_size):
        raise OutputError(f"{folder / LOCK} is there and was not written by thanos. Name another `{setting}`.")
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise OutputError(
            f"another command is at work in {folder}. Wait for it, or name another `{setting}`."
        ) from None
    except NotImplementedError:
        pass  # some network file systems have no locks
    try:
        yield
    finally:
        (folder / LOCK).unlink(missing_ok=True)
        lock.release()
