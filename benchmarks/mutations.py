"""Every file that commands leave, damaged in many ways, and the commands that read it: what do they say?

    python benchmarks/mutations.py --out results/mutations.json

Small runs, files of vectors, exports and records are made once. Each of their files is damaged, and a command that
opens it (found by watching what it opens) is carried out on the damaged copy, in a process of its own. What comes out
is held against what came out of the whole files: exit code, lines, and all files.
"""

import argparse
import io
import json
import os
import pickle
import random
import shutil
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import forked
import numpy as np
import yaml
from PIL import Image
from safetensors.numpy import load_file, save_file
from sklearn.datasets import load_digits

from thanos.runs.provenance import commit, hardware, versions
from thanos.storage import write_json
from thanos.storage.manifest import EDITED, MANIFEST

TINY = """settings: {encoder: tiny, train_limit: 60, epochs: 1, batch: 20, learning_rate: 0.003, temperature: 0.5}
datasets: {}
"""
OUTCOMES = (
    "refused in a line", "unchanged", "said in a line", "meant to be edited", "may be removed",
    "no manifest to tell by",
)  # fmt: skip
FAULTS = ("SILENT CHANGE", "INTERNAL ERROR", "HANG", "MORE THAN A LINE")


@dataclass(frozen=True)
class Set:
    """Files that belong together, and the commands that read them."""

    name: str
    commands: dict[str, tuple[str, ...]]
    """By name."""
    given: tuple[str, ...] = ()
    """A person's own data: what comes out is of what they give."""
    untold: bool = False
    """Whether nothing says how its files were written, as in runs of earlier versions."""


OF_RUN = {
    "check": ("check", "a"),
    "compare": ("compare", "a", "b", "-o", "c.html"),
    "geometry best": ("geometry", "a", "--weights", "best"),
    "geometry": ("geometry", "a"),
    "classify": ("classify", "a"),
    "embed": ("embed", "a"),
    "export csv": ("export", "a", "--to", "csv", "-o", "vectors.csv"),
    "geometry of a checkpoint": ("geometry", "a/last.ckpt"),
    "train again": ("train", "--config", "a/config.yaml", "--out", "a", "--quiet", "--threads", "1"),
    "export safetensors": ("export", "a", "--to", "safetensors", "-o", "w.safetensors"),
    "split": ("split", "a/embeddings.npz"),
    "transfer": ("transfer", "a"),
    "robust": ("robust", "a"),
    "report": ("report", "a", "-o", "page.html"),
    "discover": ("discover", "a"),
}
"""The quickest first: three of each file's readers meet most of what happens to it."""
OF_VECTORS = {
    "check": ("check", "v.npz"),
    "geometry": ("geometry", "v.npz"),
    "classify": ("classify", "v.npz", "-o", "p.csv"),
    "split": ("split", "v.npz"),
    "robust": ("robust", "v.npz"),
    "report": ("report", "v.npz", "-o", "page.html"),
    "discover": ("discover", "v.npz"),
}
OF_EXPORTS = {
    "geometry": ("geometry", "w.safetensors", "--data", "photos.npz"),
    "embed": ("embed", "w.safetensors", "--data", "photos.npz", "-o", "e.npz"),
    "discover": ("discover", "v.csv"),
}
OF_RECORDS = {
    "table3": (
        "reproduce", "table3", "--scale", "tiny.yaml", "--dataset", "mnist", "--method", "supcon", "--seeds", "1",
        "--results", "results", "--work", "work", "--jobs", "1", "--root", "data",
    ),
}  # fmt: skip
SETS = (
    Set("run", OF_RUN, given=("photos.npz",)),
    Set("run without a manifest", OF_RUN, given=("photos.npz",), untold=True),
    Set("vectors", OF_VECTORS, given=("v.npz",)),
    Set("exports", OF_EXPORTS, given=("photos.npz", "v.csv")),
    Set("records", OF_RECORDS, given=("tiny.yaml", "data/")),
)


# The files


def write_photos(file: Path, seed: int, each: int = 30) -> None:
    """Some digits, called low or high."""
    found = load_digits()
    rng = np.random.default_rng(seed)
    rows = np.concatenate([rng.permutation(np.flatnonzero(found.target == k))[:each] for k in (0, 1, 2, 7, 8, 9)])
    images = (found.images[rows] * 255 / 16).astype(np.uint8)
    kind = found.target[rows]
    np.savez(file, images=images, superclass=np.where(kind < 5, "low", "high"), subclass=kind.astype(str))


def write_bars(root: Path) -> None:
    """A folder like MNIST's, small: bars as long as the digit."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 20), ("test", 6)):
        for digit in range(10):
            folder = root / "mnist" / split / str(digit)
            folder.mkdir(parents=True)
            for i in range(count):
                picture = rng.integers(0, 60, (28, 28), dtype=np.uint8)
                picture[4 : 4 + 2 * digit, 10:18] = 220
                Image.fromarray(picture).save(folder / f"{i}.png")


def make(folder: Path, sets: Sequence[Set] = SETS) -> None:
    """The whole files of some sets, a folder each."""
    names = {each.name for each in sets}
    if names != {"records"}:
        _make_runs(folder)
    if "run without a manifest" in names:
        shutil.copytree(folder / "run", folder / "run without a manifest")
        (folder / "run without a manifest" / "a" / MANIFEST).unlink()
    if "vectors" in names:
        _make_vectors(folder)
    if "exports" in names:
        _make_exports(folder)
    if "records" in names:
        write_bars(folder / "records" / "data")
        (folder / "records" / "tiny.yaml").write_text(TINY)
        _made(OF_RECORDS["table3"], folder / "records")


def _make_runs(folder: Path) -> None:
    runs = folder / "run"
    runs.mkdir(parents=True)
    for seed, run in enumerate("ab"):
        write_photos(runs / f"{run}.npz", seed)
        (runs / f"{run}.npz").rename(runs / "photos.npz")
        words = ("discover", "photos.npz", "--train-method", "spread", "--epochs", 2, "--batch", 32, "-o", run)
        _made(words, runs)
        for subcommand in ("robust", "classify"):
            _made((subcommand, run), runs)
        if run == "a":
            (runs / "photos.npz").rename(runs / "of-a.npz")
    (runs / "photos.npz").rename(runs / "of-b.npz")  # b is not trained or embedded again
    (runs / "of-a.npz").rename(runs / "photos.npz")


def _make_vectors(folder: Path) -> None:
    place = folder / "vectors"
    place.mkdir()
    for file, run in (("v.npz", "a"), ("w.npz", "b")):
        shutil.copy(folder / "run" / run / "embeddings.npz", place / file)
        for subcommand in ("discover", "robust"):
            _made((subcommand, file), place)


def _make_exports(folder: Path) -> None:
    place, runs = folder / "exports", folder / "run"
    place.mkdir()
    shutil.copy(runs / "photos.npz", place)
    for name, run in (("w", "a"), ("x", "b")):
        shutil.copy(runs / run / "model.safetensors", place / f"{name}.safetensors")
        shutil.copy(runs / run / "model.json", place / f"{name}.json")
    _made(("export", "a", "--to", "csv", "-o", place / "v.csv"), runs)
    _made(("export", "b", "--to", "csv", "-o", place / "u.csv"), runs)


def _made(words: Sequence[object], folder: Path) -> None:
    ended = forked.command(words, folder, timeout=600)
    if ended.code != 0:
        raise SystemExit(f"thanos {' '.join(map(str, words))}: {ended.err or ended.code}")


# What can happen to them


class Ran:
    """Leaves a file where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch ran",)


Change = Callable[[bytes], bytes]


def _flipped(at: float) -> Change:
    def change(content: bytes) -> bytes:
        changed = bytearray(content)
        changed[int(at * (len(changed) - 1))] ^= 1 << int(at * 997) % 8
        return bytes(changed)

    return change


def anything(rng: random.Random) -> Iterator[tuple[str, Change]]:
    """Of any file."""
    for k in range(4):
        at = rng.random() if k else 0.999
        yield f"bit {k}", _flipped(at)
    yield "cut in half", lambda content: content[: len(content) // 2]
    yield "last byte gone", lambda content: content[:-1]
    yield "emptied", lambda content: b""
    yield "doubled", lambda content: content + content
    yield "a pickle", lambda content: pickle.dumps(Ran())
    yield "zeros", lambda content: bytes(len(content))


Path_ = tuple[Any, ...]


def _leaves(value: Any, at: Path_ = ()) -> Iterator[Path_]:
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inside:
        yield (*at, key)
        yield from _leaves(each, (*at, key))


def _put(content: Any, at: Path_, new: Callable[[Any], Any]) -> Any:
    plain = json.loads(json.dumps(content))
    inside = plain
    for key in at[:-1]:
        inside = inside[key]
    inside[at[-1]] = new(inside[at[-1]])
    return plain


def _dropped(content: Any, at: Path_) -> Any:
    plain = json.loads(json.dumps(content))
    inside = plain
    for key in at[:-1]:
        inside = inside[key]
    del inside[at[-1]]
    return plain


def _other_kind(value: Any) -> Any:
    return 7 if isinstance(value, str | list | dict) else "seven"


def _a_little(value: Any) -> Any:
    if isinstance(value, bool) or value is None:
        return not value
    return f"{value}x" if isinstance(value, str) else value + 1 if isinstance(value, int) else value


def tree(content: Any, rng: random.Random, dump: Callable[[Any], str]) -> Iterator[tuple[str, Change]]:
    """Of JSON and YAML."""
    leaves = list(_leaves(content))
    ways: dict[str, Callable[[Any], Any]] = {
        "another type": _other_kind,
        "NaN": lambda value: float("nan"),
        "infinite": lambda value: float("inf"),
        "far below": lambda value: -1e30,
        "null": lambda value: None,
        "a list": lambda value: [],
        "a mapping": lambda value: {"a": 1},
        "a little": _a_little,
    }
    for way, new in ways.items():
        for at in rng.sample(leaves, min(2, len(leaves))):
            yield f"{way} at {'.'.join(map(str, at))}", _constant(dump(_put(content, at, new)))
    for at in rng.sample(leaves, min(3, len(leaves))):
        yield f"without {'.'.join(map(str, at))}", _constant(dump(_dropped(content, at)))
    yield "a further key", _constant(dump(content | {"further": 1}))
    yield "a list", _constant(dump([content]))


def _constant(text: str | bytes) -> Change:
    return lambda content: text if isinstance(text, bytes) else text.encode()


def jsons(content: bytes, rng: random.Random) -> Iterator[tuple[str, Change]]:
    yield from tree(json.loads(content), rng, lambda value: json.dumps(value, indent=2))
    yield "10,000 deep", _constant("[" * 10_000)
    yield "an exponent too large", _constant('{"final": 1e999, "provenance": {}, "of": 1e999}')


def yamls(content: bytes, rng: random.Random) -> Iterator[tuple[str, Change]]:
    yield from tree(yaml.safe_load(content), rng, lambda value: yaml.safe_dump(value, sort_keys=False))
    names = "abcdefgh"
    laughs = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{now}: &{now} [{', '.join([f'*{before}'] * 9)}]\n" for before, now in pairwise(names)
    )
    yield "references to references", lambda whole: whole + laughs.encode()
    yield "10,000 deep", lambda whole: whole + b"z: " + b"[" * 10_000
    yield "an object", lambda whole: whole + b"z: !!python/object/apply:os.system ['touch ran']\n"


def json_lines(content: bytes, rng: random.Random) -> Iterator[tuple[str, Change]]:
    lines = content.splitlines(keepends=True)
    some = rng.randrange(len(lines))
    yield "a line dropped", _constant(b"".join(lines[:some] + lines[some + 1 :]))
    yield "a line twice", _constant(b"".join(lines[: some + 1] + lines[some:]))
    yield "lines turned round", _constant(b"".join(lines[::-1]))
    changed = json.loads(lines[some])
    for name, change in tree(changed, rng, json.dumps):
        new = change(b"") + b"\n"
        yield f"line {some}: {name}", _constant(b"".join([*lines[:some], new, *lines[some + 1 :]]))


def tables(content: bytes, rng: random.Random) -> Iterator[tuple[str, Change]]:
    lines = content.splitlines(keepends=True)
    some = rng.randrange(1, len(lines))
    cells = lines[0].rstrip().split(b",")
    yield "a row dropped", _constant(b"".join(lines[:some] + lines[some + 1 :]))
    yield "a row twice", _constant(b"".join(lines[: some + 1] + lines[some:]))
    yield "no rows", _constant(lines[0])
    for column in range(min(4, len(cells))):
        renamed = b",".join([*cells[:column], b"other", *cells[column + 1 :]]) + b"\r\n"
        yield f"column {column} renamed", _constant(renamed + b"".join(lines[1:]))
        gone = [b",".join(cut[:column] + cut[column + 1 :]) for cut in (line.split(b",") for line in lines)]
        yield f"column {column} gone", _constant(b"".join(gone))
        row = lines[some].rstrip().split(b",")
        for value in (b"nan", b"-1e30", b"", b"else"):
            new = b",".join([*row[:column], value, *row[column + 1 :]]) + b"\r\n"
            yield (
                f"{value.decode() or 'nothing'} in column {column}",
                _constant(b"".join([*lines[:some], new, *lines[some + 1 :]])),
            )


def _saved(arrays: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


@cache
def _bomb() -> bytes:
    """A small archive that says it holds what it unpacks to: some gigabytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file, file.open("vectors.npy", "w") as member:
        np.lib.format.write_array_header_1_0(
            member,
            {"descr": "<f4", "fortran_order": False, "shape": (2**20, 128)},  # type: ignore[arg-type]
        )
        for _ in range(512):
            member.write(bytes(2**20))
    return buffer.getvalue()


def _with_nan(value: Any) -> Any:
    changed = np.array(value, dtype=np.float64)
    changed.flat[changed.size // 2] = np.nan
    return changed.astype(value.dtype) if value.dtype.kind == "f" else changed


def arrays(content: bytes, rng: random.Random) -> Iterator[tuple[str, Change]]:
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        whole = {name: file[name] for name in file.files}
    ways: dict[str, Callable[[Any], Any]] = {
        "flattened": lambda value: value.reshape(-1)[None] if value.ndim else value.reshape(1, 1),
        "as text": lambda value: value.astype(str),
        "as objects": lambda value: value.astype(object),
        "as half": lambda value: value.astype(np.float16) if value.dtype.kind == "f" else value.astype("U1"),
        "NaN": lambda value: _with_nan(value) if value.dtype.kind in "fi" and value.size else value[..., None],
        "a row less": lambda value: value[:-1] if value.ndim else value[None],
        "a row more": lambda value: np.concatenate([value, value[:1]]) if value.ndim else value[None],
        "far off": lambda value: value + 99 if value.dtype.kind in "fi" else value[..., None],
        "below": lambda value: -value - 1 if value.dtype.kind in "fi" else np.char.add(value.astype(str), "x"),
    }
    for way, new in ways.items():
        for name in rng.sample(sorted(whole), min(3, len(whole))):
            yield f"{name} {way}", _constant(_saved(whole | {name: new(whole[name])}))
    for name in rng.sample(sorted(whole), min(3, len(whole))):
        yield f"without {name}", _constant(_saved({key: each for key, each in whole.items() if key != name}))
    yield "a further array", _constant(_saved(whole | {"further": np.ones(3)}))
    yield "a bomb", lambda content: _bomb()


def weights(content: bytes, rng: random.Random) -> Iterator[tuple[str, Change]]:
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "w.safetensors"
        file.write_bytes(content)
        whole = load_file(file)
        length = int.from_bytes(content[:8], "little")
        kept = json.loads(content[8 : 8 + length]).get("__metadata__")
        name = rng.choice([key for key, value in whole.items() if value.ndim > 1])
        ways = {
            "NaN": whole | {name: _with_nan(whole[name])},
            "flattened": whole | {name: whole[name].reshape(-1)},
            "as half": whole | {name: whole[name].astype(np.float16)},
            "a little": whole | {name: whole[name] * np.float32(1.01)},
            "gone": {key: each for key, each in whole.items() if key != name},
        }
        for way, state in ways.items():
            save_file(state, file, metadata=kept)
            yield f"{name} {way}", _constant(file.read_bytes())
    yield "a header of 10,000 levels", _constant((10_000).to_bytes(8, "little") + b"[" * 10_000)
    yield "a header too long", _constant((2**40).to_bytes(8, "little") + content[8:])


KINDS: dict[str, Callable[[bytes, random.Random], Iterator[tuple[str, Change]]]] = {
    ".json": jsons, ".jsonl": json_lines, ".yaml": yamls, ".csv": tables, ".npz": arrays, ".safetensors": weights,
}  # fmt: skip


def changes(file: Path, seed: str) -> Iterator[tuple[str, Change | None]]:
    """What happens to a file: its new content; None: a folder stands in its place, or nothing."""
    content, rng = file.read_bytes(), random.Random(seed)
    yield from anything(rng)
    if file.suffix in KINDS and content:
        yield from KINDS[file.suffix](content, rng)
    yield "a folder", None
    yield "gone", None


def other_of(file: str, place: Path) -> Path | None:
    """The file of the same kind that another run has."""
    pairs = (("a/", "b/"), ("v.", "w."), ("v-", "w-"), ("w.", "x."), ("v.csv", "u.csv"))
    for mine, other in pairs:
        if file.startswith(mine) and (place / file.replace(mine, other, 1)).is_file():
            return place / file.replace(mine, other, 1)
    return None


# What comes of it


@dataclass(frozen=True)
class Result:
    """What a command leaves."""

    code: int | None
    out: str
    err: str
    files: dict[str, bytes]
    seconds: float
    grown: int


def carry_out(words: Sequence[str], folder: Path, before: Callable[[], None] = lambda: None) -> Result:
    """A command, and every file that is there afterwards."""
    ended = forked.command(words, folder, timeout=90, before=before)
    return Result(ended.code, ended.out, ended.err, forked.files_below(folder), ended.seconds, ended.grown)


def judged(case: Set, file: str, whole: Result, came: Result) -> str:
    """What a damaged file came to."""
    said = came.out + came.err
    if came.code is None:  # more epochs, as what a person gave now asks for, are no hang
        return "meant to be edited" if file in case.given and "to do" in came.out else "HANG"
    if "ran" in came.files or "a fault of thanos" in said or "Traceback" in said or came.code < 0:
        return "INTERNAL ERROR"
    if came.code != 0:
        lines = came.err.splitlines()
        return "refused in a line" if len(lines) == 1 or (lines and lines[-1].startswith("thanos: ")) else FAULTS[3]
    same = _outcome(whole, file) == _outcome(came, file)
    known = whole.out.splitlines()
    further = [line for line in came.out.splitlines() if line not in known]
    if same and not further:
        return "unchanged"
    stem = Path(file).name.split(".")[0].removesuffix("-places")
    named = (stem, "manifest", "left out: ")
    if any(word in line for word in named for line in further) and (same or not case.untold):
        return "said in a line"
    if file not in came.files and Path(file).name.removeprefix("v-").startswith(("robust-", "subclasses")):
        return "may be removed"  # as if that command had not been given yet
    if file.startswith(case.given or ("/",)) or file.endswith(EDITED):
        return "meant to be edited"
    return "no manifest to tell by" if case.untold else "SILENT CHANGE"


def _outcome(result: Result, file: str) -> tuple[Any, ...]:
    """All that a command left, but for the damaged file itself and what keeps account of it."""
    return result.out, forked.timeless({name: each for name, each in result.files.items() if name != file})


def _watching(folder: Path, opened: Path) -> Callable[[], None]:
    """Note the files that are opened for reading."""

    def start() -> None:
        seen = set[str]()

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            if event == "open" and isinstance(arguments[0], str | os.PathLike):
                path = os.path.realpath(arguments[0])
                if path.startswith(f"{folder}/") and path not in seen and os.path.isfile(path):
                    seen.add(path)
                    handle = os.open(opened, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
                    os.write(handle, f"{os.path.relpath(path, folder)}\n".encode())
                    os.close(handle)

        sys.addaudithook(hook)

    return start


@dataclass(frozen=True)
class Case:
    """A file, what happens to it, and a command."""

    set: Set
    file: str
    change: str
    command: str


class Matrix:
    """All cases of the sets in a folder that :func:`make` filled."""

    def __init__(self, folder: Path, sets: Sequence[Set], seed: int = 0):
        self._folder, self._seed = folder.resolve(), seed
        self._work = self._folder / "work"
        self._changed: Path | None = None
        self._changes: dict[str, Change | None] = {}
        self.whole: dict[tuple[str, str], Result] = {}
        self.reads: dict[tuple[str, str], list[str]] = {}
        for each in sets:
            for name, words in each.commands.items():
                self._look(each, name, words)

    def _look(self, case: Set, name: str, words: Sequence[str]) -> None:
        """What a command makes of whole files, and which it reads."""
        opened = self._folder / "opened.txt"
        opened.unlink(missing_ok=True)
        work = self._fresh(case)
        there = set(forked.files_below(work))
        self.whole[case.name, name] = result = carry_out(words, work, _watching(work, opened))
        if result.code != 0:
            raise SystemExit(f"thanos {' '.join(words)}: {result.err}")
        listed = set(opened.read_text().splitlines()) & there if opened.exists() else set()
        self.reads[case.name, name] = sorted(each for each in listed if not each.startswith(("b/", "work/", "data/")))

    def _fresh(self, case: Set) -> Path:
        shutil.rmtree(self._work, ignore_errors=True)
        self._work.mkdir()
        forked.linked_copy(self._folder / case.name, self._work)
        return self._work

    def cases(self, sets: Sequence[Set]) -> Iterator[Case]:
        for each in sets:
            files = sorted({file for name in each.commands for file in self.reads[each.name, name]})
            for file in files:
                whole = self._folder / each.name / file
                named = [change for change, _ in changes(whole, f"{self._seed}/{file}")]
                named += ["another's"] * (other_of(file, self._folder / each.name) is not None)
                readers = [name for name in each.commands if file in self.reads[each.name, name]]
                rng = random.Random(f"{self._seed}/{each.name}/{file}")
                for number, change in enumerate(named):  # the quickest three mostly, any for every fifth
                    of = readers if number % 5 == 4 else readers[:3]
                    some = readers if change == "another's" else [rng.choice(of)]
                    yield from (Case(each, file, change, command) for command in some)

    def outcome(self, case: Case) -> tuple[str, Result]:
        work = self._fresh(case.set)
        self._damage(case, work)
        result = carry_out(case.set.commands[case.command], work)
        return judged(case.set, case.file, self.whole[case.set.name, case.command], result), result

    def _damage(self, case: Case, work: Path) -> None:
        whole, file = self._folder / case.set.name / case.file, work / case.file
        file.unlink()
        if case.change == "another's":
            other = other_of(case.file, self._folder / case.set.name)
            assert other is not None
            shutil.copy(other, file)
        elif case.change == "a folder":
            file.mkdir()
        elif case.change != "gone":
            if whole != self._changed:  # cases of a file follow each other
                self._changed, self._changes = whole, dict(changes(whole, f"{self._seed}/{case.file}"))
            change = self._changes[case.change]
            assert change is not None
            file.write_bytes(change(whole.read_bytes()))


def of_set(folder: Path, case: Set, arguments: argparse.Namespace) -> dict[str, Any]:
    """All cases of a set of files, and what came of them."""
    started = time.monotonic()
    matrix = Matrix(folder, [case], arguments.seed)
    cases = [each for each in matrix.cases([case]) if arguments.files in each.file][:: arguments.every]
    print(f"{case.name}: {len(cases)} cases; {time.monotonic() - started:.0f} s to look at whole files", flush=True)
    count, found, slowest = Counter[str](), [], 0.0
    for number, each in enumerate(cases, start=1):
        outcome, result = matrix.outcome(each)
        count[outcome] += 1
        slowest = max(slowest, result.seconds)
        line = f"{outcome}: {case.name}: {each.file}, {each.change}: {each.command}"
        found += [line] * (outcome in FAULTS)
        if outcome in FAULTS or arguments.show:
            print(f"{line} | {(result.err or result.out).strip()[-300:]}".replace("\n", " / "), flush=True)
        if number % 100 == 0:
            print(f"{number} of {len(cases)}, {time.monotonic() - started:.0f} s", flush=True)
    outcomes = {name: count[name] for name in (*OUTCOMES, *FAULTS)}
    told = {"cases": len(cases), "outcomes": outcomes, "faults": found, "slowest_seconds": round(slowest, 1)}
    return told | {"versions": versions(), "hardware": hardware(), "commit": commit()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="sets that are not named stay in it as they are")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sets", nargs="*", default=[each.name for each in SETS])
    parser.add_argument("--every", type=int, default=1, help="take every so manieth case")
    parser.add_argument("--files", default="", help="of files with this in their name alone")
    parser.add_argument("--show", action="store_true", help="a line for each case")
    arguments = parser.parse_args()
    named = {each.name: each for each in SETS}
    os.environ["OMP_NUM_THREADS"] = "1"
    kept = json.loads(arguments.out.read_text()) if arguments.out and arguments.out.is_file() else {}
    sets = dict(kept.get("sets", {}))
    with tempfile.TemporaryDirectory() as place:
        os.environ["THANOS_CACHE"] = f"{place}/cache"
        make(Path(place) / "sets", [named[name] for name in arguments.sets])
        for name in arguments.sets:
            sets[name] = of_set(Path(place) / "sets", named[name], arguments)
            total = sum((Counter(each["outcomes"]) for each in sets.values()), Counter[str]())
            result = {
                "what": "files that commands leave, damaged, each given to a command that reads it; what came of it",
                "command": f"python benchmarks/mutations.py --seed {arguments.seed} --every {arguments.every}",
                "cases": sum(each["cases"] for each in sets.values()),
                "outcomes": {name: total[name] for name in (*OUTCOMES, *FAULTS)},
                "sets": sets,
            }
            print(json.dumps(result["outcomes"]), flush=True)
            if arguments.out:
                write_json(arguments.out, result)


if __name__ == "__main__":
    main()
