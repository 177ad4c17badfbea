"""How the files of a folder were when they were written: what does not fit its entry is refused, not believed.

A file that is written into a folder with a manifest is entered before it takes its name, and until it has taken it,
what was there before counts too: no kill makes the two disagree.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b, file_digest
from pathlib import Path
from shlex import quote
from typing import Any

from thanos.console import command
from thanos.errors import DataError
from thanos.storage.locks import alone

MANIFEST = "manifest.json"
"""Its name. What is called so and is not as :func:`_content` writes it (another's, or damaged) counts for nothing."""
EDITED = (".yaml", ".csv")
"""Kinds of file that a person may edit; what reads them says what of it cannot be meant."""
FOLDER = "{folder}"
"""Stands in a command for where the files lie."""

Entry = dict[str, Any]
Put = Callable[[Path, str], None]


def seal(folder: Path, files: Sequence[Path], anew: str, put: Put) -> None:
    """Enter files as they are now; where something else is called as the manifest is, nothing is done.

    Args:
        folder: Where they lie.
        files: Those of them that are there.
        anew: The command that makes all of them anew, with :data:`FOLDER` in it.
        put: Writes a text atomically.
    """
    manifest = folder / MANIFEST
    with alone(manifest):
        if manifest.exists() and not read_manifest(folder):
            return
        entries = {file.name: _entry(file, file.suffix) | {"trained": anew} for file in files if file.is_file()}
        put(manifest, _content(read_manifest(folder) | entries))


@contextmanager
def entered(path: Path, written: Path, put: Put) -> Iterator[None]:
    """Enter what is written and about to be renamed to ``path``, where the folder has a manifest."""
    folder = path.parent
    if path.name == MANIFEST or not read_manifest(folder):
        yield
        return
    with alone(folder / MANIFEST):
        entries = read_manifest(folder)
        known = entries.get(path.name, {})
        how = {"trained": known["trained"]} if "trained" in known else {"anew": command()}
        entry = _entry(written, path.suffix) | how
        before = {"before": _digest(path)} if path.is_file() else {}
        put(folder / MANIFEST, _content(entries | {path.name: entry | before}))
        yield
        put(folder / MANIFEST, _content(entries | {path.name: entry}))


def check_whole(path: Path) -> None:
    """Raise DataError for a file that is not as it was written, by the manifest beside it, if there is one."""
    if fault := fault_of(path):
        raise DataError(fault)


def fault_of(path: Path) -> str:
    """In what a file is not as it was written, and what to do; empty where it is, or where that is not known."""
    for last in (False, False, True):  # another command may be writing it
        entry = read_manifest(path.parent).get(path.name)
        if entry is None or entry.get("edited") or not path.is_file() or _fits(path, entry):
            return ""
        if last:
            then, now = entry["bytes"], path.stat().st_size
            how = f"{then:,} bytes then, {now:,} now" if then != now else "as long, but of other content"
            return f"{path} is not as it was written ({how}). Bring back a copy, or {_remedy(path.parent, entry)}"
    return ""


def _fits(path: Path, entry: Entry) -> bool:
    if "before" in entry:
        return _digest(path) in (entry["blake2b"], entry["before"])
    return bool(path.stat().st_size == entry["bytes"] and _digest(path) == entry["blake2b"])


def faults_in(folder: Path) -> list[str]:
    """Every file of a folder's manifest that is gone or not as it was written, with what to do."""
    entries = read_manifest(folder)
    gone = [
        f"{folder / name} is gone. Bring back a copy, or {_remedy(folder, entry)}"
        for name, entry in entries.items()
        if "trained" in entry and not (folder / name).is_file()
    ]
    return gone + [fault for name in entries if (fault := fault_of(folder / name))]


def read_manifest(folder: Path) -> dict[str, Entry]:
    """The entries, by the names of the files; empty where there are none."""
    try:
        content = json.loads((folder / MANIFEST).read_text("utf-8"))
        entries: dict[str, Entry] = content["files"]
        return entries if content["blake2b"] == _mark(entries) else {}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}


def _content(entries: dict[str, Entry]) -> str:
    return json.dumps({"files": entries, "blake2b": _mark(entries)}, indent=2) + "\n"


def _mark(entries: dict[str, Entry]) -> str:
    """Of the manifest itself."""
    return blake2b(json.dumps(entries, sort_keys=True).encode(), digest_size=16).hexdigest()


def _entry(file: Path, kind: str) -> Entry:
    entry = {"bytes": file.stat().st_size, "blake2b": _digest(file)}
    return entry | ({"edited": True} if kind in EDITED else {})


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return file_digest(opened, lambda: blake2b(digest_size=16)).hexdigest()


def _remedy(folder: Path, entry: Entry) -> str:
    """How a file is made anew."""
    if "trained" in entry:
        return f"train it again: {entry['trained'].replace(FOLDER, quote(str(folder)))}"
    return f"remove it and make it anew: {entry['anew']}"
