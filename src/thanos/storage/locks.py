"""Keeping commands out of each other's way: in a folder, or at a file."""

import errno
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from thanos.errors import OutputError

LOCK = ".thanos.lock"
"""The file in a folder that a command holds while it is at work there."""


@contextmanager
def held_part(folder: Path, prefix: str, suffix: str) -> Iterator[Path]:
    """A new temporary file, which no other process clears; it goes when this ends, unless it was renamed."""
    handle, path = tempfile.mkstemp(dir=folder, prefix=prefix, suffix=suffix)
    held = _hold(handle, wait=True)
    while held and not os.fstat(handle).st_nlink:  # it was cleared before it was held
        os.close(handle)
        handle, path = tempfile.mkstemp(dir=folder, prefix=prefix, suffix=suffix)
        held = _hold(handle, wait=True)
    if not held:  # where nothing can be held, an open file may not be renamed either
        os.close(handle)
    try:
        yield Path(path)
    finally:
        Path(path).unlink(missing_ok=True)
        if held:
            os.close(handle)


def clear_part(part: Path) -> None:
    """Remove a temporary file that no process holds, as far as that goes."""
    with suppress(OSError), part.open("rb") as file:
        if _hold(file.fileno(), wait=False):
            part.unlink()


def _hold(handle: int, *, wait: bool) -> bool | None:
    """Hold an open file, which ends with the process at the latest; None: that cannot be done here."""
    try:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except (ImportError, OSError):  # not on Windows, nor on some network file systems
        return None
    return True


@contextmanager
def alone(file: Path) -> Iterator[None]:
    """Wait until no other process, on whatever machine, changes a file. The lock's own file goes when this ends.

    Raises:
        OutputError: if nothing can be written there.
    """
    with _locked(file.with_name(f".{file.name}.lock"), file, wait=True):
        yield


@contextmanager
def only_one(folder: Path, setting: str) -> Iterator[None]:
    """Keep other commands out of a folder; a process that dies lets go of it.

    Args:
        folder: Made if it is not there.
        setting: That names it.
    Raises:
        OutputError: if another command is at work there, or nothing can be written there.
    """
    if os.path.lexists(folder / LOCK) and not ((folder / LOCK).is_file() and not (folder / LOCK).stat().st_size):
        raise OutputError(f"{folder / LOCK} is there and was not written by thanos. Name another `{setting}`.")
    with ExitStack() as held:
        try:
            held.enter_context(_locked(folder / LOCK, folder, wait=False))
        except Timeout:
            raise OutputError(
                f"another command is at work in {folder}. Wait for it, or name another `{setting}`."
            ) from None
        yield


_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""What some network file systems say that have no locks: commands go on there, and a person keeps them apart."""


@contextmanager
def _locked(place: Path, what: Path, *, wait: bool) -> Iterator[None]:
    lock = FileLock(place)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with warnings.catch_warnings(action="ignore"):  # that it goes on without the system's locks
            lock.acquire(timeout=-1 if wait else 0)
    except NotImplementedError:
        pass
    except OSError as error:
        if isinstance(error, Timeout):
            raise
        if error.errno not in _NO_LOCKS:
            raise OutputError(f"{what} cannot be written ({error.strerror or error}).") from None
    try:
        yield
    finally:
        with suppress(OSError):  # a folder that went meanwhile
            place.unlink(missing_ok=True)  # while it is held: who waits for it sees that it is gone
        lock.release()
