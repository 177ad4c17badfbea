"""Faults of a disk as a forked command meets them: a write fails, a folder goes, all is full or read-only."""

import builtins
import ctypes
import errno
import io
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

_MOUNT, _BIND, _REMOUNT, _READ_ONLY, _PRIVATE = 0x00020000, 4096, 32, 1, 0x44000
_LIBC = ctypes.CDLL(None, use_errno=True)
Before = Callable[[], None]


class _Writing:
    """A file whose first write, and no other, may fail."""

    def __init__(self, file: Any, due: Callable[[str, object], None], path: object):
        self._file, self._due, self._path = file, due, path

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, content: Any) -> Any:
        if self._path is not None:
            self._path, path = None, self._path
            self._due("write", path)
        return self._file.write(content)

    def __enter__(self) -> "_Writing":
        return self

    def __exit__(self, *error: Any) -> None:
        self._file.__exit__(*error)


def writes(roots: Sequence[Path], notes: Path, at: int | None = None, then: Before | None = None) -> Before:
    """Let a command's ``at``-th write fail as on a full disk.

    A write is anything that needs room: a file or folder that is made, the first write to each, its flush to the disk,
    its blocks, its new name.

    Args:
        roots: Folders; what is written elsewhere does not count.
        notes: Receives a line for each write, outside the roots.
        at: Which one, from 1 on; None: none.
        then: What happens in place of a failure.
    """
    inside = tuple(f"{root}/" for root in roots)
    count = [0]

    def due(what: str, path: object) -> None:
        where = os.path.abspath(os.fsdecode(path)) if isinstance(path, str | bytes | os.PathLike) else ""
        if not where.startswith(inside):
            return
        count[0] += 1
        handle = os.open(notes, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(handle, f"{what} {where}\n".encode())
        os.close(handle)
        if count[0] == at:
            if then is not None:
                then()
                return
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            due("open", arguments[0])
        elif event == "os.rename":
            due("rename", arguments[1])
        elif event == "os.mkdir" and not os.path.isdir(arguments[0]):
            due("mkdir", arguments[0])

    def start() -> None:
        opened, fsync, allocate = io.open, os.fsync, os.posix_fallocate

        def open_(file: Any, mode: str = "r", *more: Any, **named: Any) -> Any:
            found = opened(file, mode, *more, **named)
            return _Writing(found, due, file) if set(mode) & set("wax+") and not isinstance(file, int) else found

        def path_of(handle: int) -> str:
            return os.readlink(f"/proc/self/fd/{handle}")

        def fsync_(handle: int) -> None:
            due("fsync", path_of(handle))
            fsync(handle)

        def allocate_(handle: int, start: int, length: int) -> None:
            due("allocate", path_of(handle))
            allocate(handle, start, length)

        io.open = builtins.open = open_  # type: ignore[assignment]
        os.fsync, os.posix_fallocate = fsync_, allocate_  # type: ignore[assignment]
        sys.addaudithook(hook)

    return start


def gone(folder: Path) -> Before:
    """The folder is removed, as when a disk is pulled out."""
    return lambda: shutil.rmtree(folder, ignore_errors=True)


def read_only(folder: Path) -> Before:
    """Mounted so, for this process alone."""

    def start() -> None:
        _own_mounts()
        place = os.fsencode(folder)
        _call("mount", _LIBC.mount(place, place, None, _BIND, None))
        _call("mount", _LIBC.mount(None, place, None, _BIND | _REMOUNT | _READ_ONLY, None))

    return start


def small(folder: Path, size: int) -> Before:
    """A disk of so many bytes is mounted there, for this process alone."""

    def start() -> None:
        _own_mounts()
        _call("mount", _LIBC.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", 0, f"size={size}".encode()))

    return start


def _own_mounts() -> None:
    _call("unshare", _LIBC.unshare(_MOUNT))
    _call("mount", _LIBC.mount(b"none", b"/", None, _PRIVATE, None))


def _call(name: str, failed: int) -> None:
    if failed:
        raise SystemExit(f"{name}: {os.strerror(ctypes.get_errno())}")
