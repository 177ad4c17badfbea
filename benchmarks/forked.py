"""A command of thanos in a forked child of this process: what it costs is the command, and not the imports."""

import importlib
import json
import os
import pkgutil
import re
import select
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

import thanos
from thanos import console
from thanos.cli import main
from thanos.storage import _CLEARED

torch.set_num_threads(1)
for found in pkgutil.walk_packages(thanos.__path__, "thanos."):
    if not found.name.endswith("__main__"):
        importlib.import_module(found.name)
for name in (
    "jinja2", "pytorch_lightning", "safetensors.numpy", "safetensors.torch", "scipy.optimize", "scipy.stats",
    "sklearn.cluster", "sklearn.datasets", "sklearn.decomposition", "sklearn.linear_model", "sklearn.metrics",
    "sklearn.mixture", "sklearn.neighbors", "timm",
):  # fmt: skip
    importlib.import_module(name)
MOST = 16 * 2**20
"""Bytes of what a command prints that are kept."""


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int | None
    """None: it was killed as it took too long; negative: a signal's number."""
    out: str = field(repr=False)
    err: str = field(repr=False)
    seconds: float = 0.0
    grown: int = 0
    """Bytes of memory, at the most, beyond those of the process that it was forked from."""


def command(
    words: Sequence[object],
    folder: Path,
    *,
    timeout: float = 120.0,
    before: Callable[[], None] = lambda: None,
    kill_after: float | None = None,
) -> Ended:
    """Carry out a command line.

    Args:
        words: Behind ``thanos``.
        folder: Where it is typed.
        timeout: Seconds until it is taken to hang.
        before: Called in the child, for faults of a machine.
        kill_after: Seconds until it is killed with -9; None: it is not.
    """
    with tempfile.TemporaryDirectory() as place:
        said = [Path(place) / name for name in ("out", "err", "resident")]
        started = time.monotonic()
        child = os.fork()
        if child == 0:
            _child(words, folder, said, before)
        code, most = _wait(child, timeout if kill_after is None else kill_after)
        seconds = time.monotonic() - started
        out, err, before_it = (file.read_bytes()[:MOST].decode("utf-8", "replace") for file in said)
    return Ended(code, out, err, seconds, max(0, most - int(before_it)))


def _child(words: Sequence[object], folder: Path, said: Sequence[Path], before: Callable[[], None]) -> None:
    code = 70
    try:
        os.setsid()
        os.chdir(folder)
        said[2].write_text(str(resident()))
        for handle, file in zip((1, 2), said[:2], strict=True):
            os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), handle)
        sys.stdout, sys.stderr = (os.fdopen(handle, "w", encoding="utf-8", closefd=False) for handle in (1, 2))
        console.TYPED[:] = []
        _CLEARED.clear()
        before()
        main([str(word) for word in words])
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException as error:  # what main lets through
        with suppress(OSError):
            os.write(2, f"{type(error).__name__}: {error} (a fault of thanos)\n".encode())
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)


def _wait(child: int, seconds: float) -> tuple[int | None, int]:
    """The exit code, None if it had to be killed, and the most memory it had."""
    handle = os.pidfd_open(child)
    try:
        ended = bool(select.select([handle], [], [], seconds)[0])
    finally:
        os.close(handle)
    if not ended:
        with suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
    _, status, usage = os.wait4(child, 0)
    return (os.waitstatus_to_exitcode(status) if ended else None), 1024 * usage.ru_maxrss


def resident() -> int:
    """Bytes of memory that this process has now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def files_below(folder: Path) -> dict[str, bytes]:
    """Content of every file, by its name below the folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def linked_copy(source: Path, target: Path) -> None:
    """A copy whose files are links; those that commands append to are copied."""

    def copy(from_: str, to: str) -> None:
        if from_.endswith((".log", ".jsonl")):
            shutil.copy2(from_, to)
        else:
            os.link(from_, to)

    shutil.copytree(source, target, copy_function=copy, dirs_exist_ok=True)


TIMES = (
    "seconds", "scoring_seconds", "features_seconds", "date", "checksum", "images_per_second", "provenance", "command",
    "threads", "commit", "hardware",
)  # fmt: skip
"""Keys of what tells when, where and how fast something was made."""


def timeless(files: dict[str, bytes]) -> dict[str, bytes]:
    """Content of files by name, without logs, and without what in others tells times."""
    found = {}
    for name, content in files.items():
        if Path(name).name in ("run.log", "last.ckpt", "manifest.json"):
            continue
        try:
            if Path(name).name == "metrics.json" or ("results/" in name and name.endswith(".jsonl")):
                content = json.dumps([_without_times(json.loads(line)) for line in _objects(content)]).encode()
            elif "results/" in name and name.endswith(".md"):
                content = re.sub(rb"[^|\n]*\|$", b"", content, flags=re.MULTILINE)  # the last column: seconds
        except ValueError:
            pass  # a damaged one is held against others as it is
        found[name] = content
    return found


def _objects(content: bytes) -> list[bytes]:
    return content.splitlines() if content.startswith(b'{"') else [content]


def _without_times(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_times(each) for each in value]
    if isinstance(value, dict):
        return {key: _without_times(each) for key, each in value.items() if key not in TIMES}
    return value
