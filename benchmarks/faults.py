"""Faults of the machine: each is answered in a line or gone on with, nothing is lost, and the command then ends alike.

    python benchmarks/faults.py --out results/faults.json

``full``: every write of ``thanos discover`` on images fails once; ``machine``: folders that are read-only, vanish or
lie on a small disk, no home, no place for temporary files, no shared memory, no locks, a clock moved back, little
memory, two commands at once; ``hostile``: files made to hang, run or fill memory; ``soak``: 2,000 checkpoints;
``manifest``: what it costs. Parts that are named alone leave the others in the file as they were. Needs root, for
mounts.
"""

import argparse
import errno
import fcntl
import json
import os
import pickle
import random
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import disk
import forked
import numpy as np
import torch
from mutations import write_photos

from thanos.config import RunConfig, TrainConfig
from thanos.runs.provenance import commit, hardware, versions
from thanos.storage import locks, manifest, write_json
from thanos.training import monitor
from thanos.training.fit import train

SMALL = ("--train-method", "spread", "--epochs", 1, "--batch", 32, "--clusters", 2)
FRESH = ("discover", "photos.npz", *SMALL, "--quiet", "-o", "a")


def told(ended: forked.Ended, name: str = "") -> bool:
    """Whether it ended with one line, which has a name in it, and with no fault of ours."""
    lines = [line for line in ended.err.splitlines() if line.startswith("thanos:")]
    said = len(lines) == 1 and ended.err.splitlines()[-1] == lines[0] and "a fault of thanos" not in ended.err
    return ended.code == 2 and said and name in lines[0]


def named(write: str) -> str:
    """What a person knows a file by that is written under a temporary name."""
    path = Path(write.split(" ", 1)[1])
    if path.name == locks.LOCK:
        return path.parent.name
    found = re.fullmatch(r"\.(.+?)(\.[a-z0-9_]{8}\.thanos-part|\.lock)", path.name)
    return found[1] if found else path.name.split(".")[0] if path.suffix == ".part" else path.name


def outcome(folder: Path) -> dict[str, bytes]:
    """What a command left, without what tells times."""
    return forked.timeless(forked.files_below(folder))


def strays(folder: Path) -> list[str]:
    """Half-written files and locks."""
    return [name for name in forked.files_below(folder) if Path(name).name.startswith(".") or name.endswith(".part")]


def place_with(folder: Path, name: str) -> Path:
    """A folder with some photos, and a cache of its own."""
    place = folder / name
    (place / "cache").mkdir(parents=True)
    shutil.copy(folder / "photos.npz", place)
    os.environ["THANOS_CACHE"] = str(place / "cache")
    return place


# Every write fails once


def full(folder: Path, every: int, keep: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """In an order that is drawn, so that what is kept on the way is of all phases alike."""
    write_photos(folder / "photos.npz", 0, each=10)
    notes = folder / "notes.txt"
    place = place_with(folder, "place")
    ended = forked.command(FRESH, place, before=disk.writes([place], notes))
    assert ended.code == 0, ended.err
    expected, listed = outcome(place / "a"), notes.read_text().splitlines()
    order = [*range(1, len(listed) + 1)]
    random.Random(0).shuffle(order)
    count, wrong = Counter({"answered in a line": 0, "gone on with": 0, "then to the same end": 0, "stray files": 0}), 0
    for tried, k in enumerate(order[::every], start=1):
        shutil.rmtree(place)
        place = place_with(folder, "place")
        ended = forked.command(FRESH, place, before=disk.writes([place], notes, at=k))
        answered, name = ended.code == 0, named(listed[k - 1])
        kind = "gone on with" if answered else "answered in a line" if told(ended, name) else "wrong"
        again = ended if answered else forked.command(FRESH, place)
        same = again.code == 0 and outcome(place / "a") == expected
        count.update({kind: 1, "then to the same end": int(same), "stray files": len(strays(place))})
        if kind == "wrong" or not same or strays(place):
            wrong += 1
            print(listed[k - 1], k, kind, same, ended.err[-300:], again.err[-300:], strays(place), flush=True)
        kinds = Counter(line.split()[0] for line in listed)
        found = {"writes": len(listed), "by_kind": dict(kinds), "failed_once_each": tried, **count, "wrong": wrong}
        if tried % 20 == 0:
            keep(found)
    return found


# Other faults of a machine


def without(*names: str) -> disk.Before:
    def start() -> None:
        for name in names:
            os.environ.pop(name, None)

    return start


def no_home() -> None:
    without("THANOS_CACHE")()
    os.environ["HOME"] = "/proc/nowhere"


def no_home_at_all() -> None:
    without("THANOS_CACHE", "HOME")()
    os.getuid = lambda: 54321  # whom no list of users knows


def no_place_for_temporary_files() -> None:
    os.environ["TMPDIR"] = "/proc/nowhere"
    tempfile.tempdir = None
    tempfile._candidate_tempdir_list = lambda: ["/proc/nowhere"]  # type: ignore[attr-defined]


def clock_moved_back() -> None:
    real = time.time
    time.time = lambda: real() - 400 * 24 * 3600
    strftime = time.strftime
    time.strftime = lambda form, at=None: strftime(form, time.localtime(time.time()) if at is None else at)


def no_locks(number: int) -> disk.Before:
    def refused(*arguments: Any) -> None:
        raise OSError(number, os.strerror(number))

    def start() -> None:
        fcntl.flock = fcntl.lockf = refused  # type: ignore[assignment]

    return start


def little_memory(more: int) -> disk.Before:
    def start() -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * os.sysconf("SC_PAGE_SIZE") + more
        resource.setrlimit(resource.RLIMIT_AS, (most, most))

    return start


def both(*faults: disk.Before) -> disk.Before:
    def start() -> None:
        for fault in faults:
            fault()

    return start


def machine(folder: Path) -> dict[str, Any]:
    if not (folder / "photos.npz").is_file():
        write_photos(folder / "photos.npz", 0, each=10)
    found: dict[str, dict[str, str]] = {}
    here, place = place_with(folder, "tried"), folder / "sound"
    assert forked.command(FRESH, here).code == 0
    expected = outcome(here / "a")
    here.rename(place)

    def tried(name: str, words: tuple[Any, ...], fault: disk.Before, lost: bool = False) -> None:
        """Carry out a command under a fault, then without it.

        Args:
            name: For the record.
            words: The command.
            fault: What is done before it.
            lost: Whether the run itself goes.
        """
        shutil.rmtree(here, ignore_errors=True)
        shutil.copytree(place, here)
        os.environ["THANOS_CACHE"] = str(here / "cache")
        if words is FRESH:
            shutil.rmtree(here / "a")
        before = outcome(here / "a") if (here / "a").exists() else {}
        ended = forked.command(words, here, before=fault)
        kind = "answered in a line" if told(ended) else "done" if ended.code == 0 else "WRONG"
        if "OpenBLAS error" in ended.err:
            kind = "ended by OpenBLAS"  # which asks nobody
        left = outcome(here / "a")
        kept = all(left.get(each) == content for each, content in before.items() if "metrics" not in each)
        if not kept and not lost:
            kind = "LOST"
        again = forked.command(words, here) if not lost or words is FRESH else ended
        if words is FRESH and (again.code != 0 or outcome(here / "a") != expected):
            kind = "NOT THE SAME END"
        if again.code != 0 and not lost:
            kind = "NOT THEN EITHER"
        said = (ended.err or ended.out).strip().splitlines()
        line = said[-1].replace(str(folder), "") if said and kind != "done" else ""
        found[name] = {"outcome": kind, "line": line}
        print(f"{kind}: {name}: {line}" + (f" | {again.err[-300:]}" if kind.isupper() else ""), flush=True)

    named = ("discover", "robust", "transfer", "geometry", "embed", "classify", "report")
    subcommands = {subcommand: (subcommand, "a") for subcommand in named}
    for subcommand, words in subcommands.items():
        tried(f"read-only run: {subcommand}", words, disk.read_only(here / "a"))
    tried("read-only folder: discover on images", FRESH, disk.read_only(here))
    tried("read-only cache: discover on images", FRESH, disk.read_only(here / "cache"))
    for k in (3, 9, 20, 40, 60, 90):
        fault = disk.writes([here / "a"], folder / "notes.txt", at=k, then=disk.gone(here / "a"))
        tried(f"the run's folder vanishes at write {k}: discover on images", FRESH, fault, lost=True)
    for subcommand in ("discover", "robust", "geometry"):
        fault = disk.writes([here / "a"], folder / "notes.txt", at=2, then=disk.gone(here / "a"))
        tried(f"the run's folder vanishes: {subcommand}", subcommands[subcommand], fault, lost=True)
    for size in (4096, 65536, 2**20, 2 * 2**20, 3 * 2**20, 4 * 2**20, 6 * 2**20):
        (folder / "sound" / "a2").mkdir(exist_ok=True)
        words = (*FRESH[:-1], "a2")
        tried(f"a disk of {size:,} bytes: discover on images", words, disk.small(here / "a2", size))
    for name, fault in {
        "no home": no_home,
        "no home, nor a user of that number": no_home_at_all,
        "no place for temporary files": no_place_for_temporary_files,
        "no shared memory": both(disk.small(Path("/dev/shm"), 4096), disk.read_only(Path("/dev/shm"))),
        "the clock moved back": clock_moved_back,
        "a file system without locks (ENOLCK)": no_locks(errno.ENOLCK),
        "a file system without locks (ENOSYS)": no_locks(errno.ENOSYS),
        "32 MB of memory": little_memory(32 * 2**20),
        "128 MB of memory": little_memory(128 * 2**20),
    }.items():
        tried(f"{name}: discover on images", FRESH, fault)
        tried(f"{name}: robust", subcommands["robust"], fault)
        tried(f"{name}: report", subcommands["report"], fault)
    for name, words in {
        "discover on images": FRESH,
        "discover": subcommands["discover"],
        "robust": subcommands["robust"],
    }.items():
        found[f"two commands at once: {name}"] = at_once(words, place, here, expected)
    return {"faults": found, "outcomes": dict(Counter(each["outcome"] for each in found.values()))}


def at_once(words: tuple[Any, ...], place: Path, here: Path, expected: dict[str, bytes]) -> dict[str, str]:
    """The same command twice at the same time: one at least is done, another is told to wait, or they take turns."""
    shutil.rmtree(here, ignore_errors=True)
    shutil.copytree(place, here)
    os.environ["THANOS_CACHE"] = str(here / "cache")
    if words is FRESH:
        shutil.rmtree(here / "a")
    with ThreadPoolExecutor(2) as both:
        ended = [*both.map(lambda _: forked.command(words, here), range(2))]
    refused = [each for each in ended if told(each)]
    again = forked.command(words, here)
    fine = len(refused) < 2 and all(each in refused or each.code == 0 for each in ended) and again.code == 0
    if words is FRESH and outcome(here / "a") != expected:
        fine = False
    kind = "WRONG" if not fine or strays(here) else "answered in a line" if refused else "done"
    line = refused[0].err.strip().splitlines()[-1] if refused else ""
    print(f"{kind}: two commands at once: {words[0]}: {line}", flush=True)
    return {"outcome": kind, "line": line.replace(str(here.parent), "")}


# Files made to do harm


class Runs:
    """Runs a command where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch ran",)


class Fills:
    """Fills memory where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return bytearray, (2**32,)


def laughs(levels: int = 9) -> str:
    names = "abcdefghij"[: levels + 1]
    lines = [f"{names[0]}: &{names[0]} [{', '.join('x' * 9)}]"]
    for now, before in zip(names[1:], names, strict=False):
        lines.append(f"{now}: &{now} [{', '.join([f'*{before}'] * 9)}]")
    return "\n".join(lines) + "\n"


def bomb(file: Path, claimed: tuple[int, ...], megabytes: int) -> None:
    """An archive of zeros that unpacks to a thousand times its size, under a header that claims a shape."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("vectors", "superclass"):
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                header = {"descr": "<f4", "fortran_order": False, "shape": claimed}
                np.lib.format.write_array_header_1_0(member, header)  # type: ignore[arg-type]
                for _ in range(megabytes):
                    member.write(bytes(2**20))


def hostile(folder: Path) -> dict[str, Any]:
    if not (folder / "photos.npz").is_file():
        write_photos(folder / "photos.npz", 0, each=10)
    place = place_with(folder, "hostile")
    assert forked.command(FRESH, place).code == 0
    (place / "a" / "manifest.json").unlink()  # which would refuse everything by itself
    run, found = place / "a", {}
    card = json.loads((run / "model.json").read_text())

    def tried(name: str, file: Path, write: Callable[[Path], Any], *words: object) -> None:
        kept = file.read_bytes() if file.exists() else None
        write(file)
        ended = forked.command(words, place, timeout=60)
        ran = (place / "ran").exists()
        kind = "RAN" if ran else "answered in a line" if told(ended) else f"ENDED {ended.code}"
        found[name] = {"outcome": kind, "seconds": round(ended.seconds, 2), "megabytes": round(ended.grown / 2**20)}
        print(name, found[name], ended.err.strip()[-200:], flush=True)
        if kept is not None:
            file.write_bytes(kept)

    def text(content: str) -> Callable[[Path], Any]:
        return lambda file: file.write_text(content)

    def facts(**changes: Any) -> Callable[[Path], Any]:
        return text(json.dumps(card | changes))

    h = place / "h.npz"
    train_ = ("train", "--config", "c.yaml", "--out", "x")
    tried("nothing, for comparison", place / "c.yaml", text("epochs: many\n"), *train_)
    tried("YAML: references to references", place / "c.yaml", text(laughs()), *train_)
    tried("YAML: 10,000 levels", place / "c.yaml", text("a: " + "[" * 10_000), *train_)
    tried("YAML: an object", place / "c.yaml", text("a: !!python/object/apply:os.system ['touch ran']\n"), *train_)
    tried("YAML: 100 MB", place / "c.yaml", text("a" * 100 * 2**20), *train_)
    tried("YAML: names of references", run / "subclasses.yaml", text(laughs()), "report", "a", "-o", "p.html")
    tried("JSON: 10,000 levels", run / "model.json", text("[" * 10_000), "embed", "a")
    tried("JSON: 100 MB", run / "metrics.json", text("[" * 100 * 2**20), "compare", "a", "-o", "c.html")
    tried("JSON: facts of 10^9 channels", run / "model.json", facts(channels=10**9), "embed", "a")
    tried("JSON: facts of 10^4 pixels a side", run / "model.json", facts(size=[10**4, 10**4]), "embed", "a")
    tried("JSON: facts of 10^6 encoders", run / "model.json", facts(encoders=["tiny"] * 10**6), "embed", "a")
    tried("JSON: facts of another network", run / "model.json", facts(encoders=["resnet50"]), "embed", "a")
    tried("npz: a bomb of 2 GB", h, lambda file: bomb(file, (2**20, 256), 1024), "geometry", "h.npz")
    tried("npz: a header that claims 4 TB", h, lambda file: bomb(file, (2**20, 2**20), 1), "geometry", "h.npz")
    tried("npz: a negative shape", h, lambda file: bomb(file, (-1, 2**18), 1), "geometry", "h.npz")
    tried("npz: a bomb among a run's places", run / "subclasses-places.npz", lambda f: bomb(f, (2**20, 256), 1024),
          "classify", "a")  # fmt: skip
    objects = {"vectors": np.array([Runs()] * 4, dtype=object), "superclass": np.arange(4)}
    tried("npz: pickled objects", h, lambda file: np.savez(file, allow_pickle=True, **objects), "geometry", "h.npz")
    for kind in ("h.npz", "h.npy", "h.ckpt", "h.safetensors"):
        options = () if kind in ("h.npz", "h.npy") else ("--data", "photos.npz")
        tried(f"a pickle called {kind}", place / kind, lambda f: f.write_bytes(pickle.dumps(Runs())), "geometry", kind,
              *options)  # fmt: skip
    tried("ckpt: an object that runs", run / "last.ckpt", lambda f: torch.save({"state_dict": Runs()}, f), "geometry",
          "a/last.ckpt")  # fmt: skip
    tried("ckpt: an object that fills memory", run / "last.ckpt", lambda f: torch.save({"state_dict": Fills()}, f),
          "geometry", "a/last.ckpt")  # fmt: skip
    tried("ckpt: a bomb", run / "last.ckpt", lambda f: bomb(f, (2**20, 256), 1024), "geometry", "a/last.ckpt")
    weights = ("discover", "photos.npz", "--encoder", "resnet18", "--size", 32, "-o", "y", "--pretrained")
    tried("pth: an object that runs", place / "h.pth", lambda f: torch.save({"conv1.weight": Runs()}, f), *weights,
          "h.pth")  # fmt: skip
    tried("pth: an old pickle that runs", place / "h.pth", lambda f: f.write_bytes(pickle.dumps(Runs())), *weights,
          "h.pth")  # fmt: skip
    worst = {key: max(each[key] for each in found.values()) for key in ("seconds", "megabytes")}
    return {"files": found, "outcomes": dict(Counter(each["outcome"] for each in found.values())), "most": worst}


# Long runs, and what a manifest costs


def soak(folder: Path, checkpoints: int = 2000) -> dict[str, Any]:
    """A tiny run that keeps its state after every step."""
    samples: list[tuple[int, int, int]] = []
    save = monitor.AtomicCheckpointIO.save_checkpoint

    def counted(self: Any, *arguments: Any, **named: Any) -> None:
        save(self, *arguments, **named)
        samples.append((len(samples) + 1, forked.resident(), len(os.listdir("/proc/self/fd"))))

    monitor.AtomicCheckpointIO.save_checkpoint = counted  # type: ignore[method-assign]
    config = TrainConfig(method="supcon", train_limit=160, batch=32, epochs=checkpoints // 5)
    out = folder / "soak"
    train(config, out, run=RunConfig(quiet=True, threads=1, checkpoint_minutes=1e-9), say=lambda line: None)
    monitor.AtomicCheckpointIO.save_checkpoint = save  # type: ignore[method-assign]
    late = samples[len(samples) // 4 :]
    slope, _ = np.polyfit([each[0] for each in late], [each[1] / 2**20 for each in late], 1)
    around = statistics.pstdev(each[1] / 2**20 for each in late)
    return {
        "checkpoints": len(samples),
        "megabytes_per_1000_checkpoints": round(1000 * float(slope), 2),
        "megabytes_first_and_last_quarter": [round(samples[k][1] / 2**20, 1) for k in (len(samples) // 4, -1)],
        "standard_deviation_megabytes": round(around, 2),
        "open_handles_lowest_and_highest": [f(each[2] for each in late) for f in (min, max)],
        "bytes": {name: (out / name).stat().st_size for name in ("run.log", "metrics.jsonl", "last.ckpt")},
        "steps": checkpoints,
        "stray_files": strays(out),
    }


def manifest_cost(folder: Path) -> dict[str, Any]:
    """Share of a command's seconds in what writes and checks entries: of those after imports, and as it is typed."""
    share: dict[str, Any] = {}
    os.environ["THANOS_CACHE"] = str(folder / "cache")
    whole = ("discover", "digits", "--epochs", "10", "--quiet", "-o")
    for name, words in {"discover": whole, "embed": ("embed",), "robust": ("robust",)}.items():
        notes = folder / f"{name}.txt"
        ended = forked.command((*words, "m"), folder, timeout=900, before=_timing(notes))
        assert ended.code == 0, ended.err
        started = time.perf_counter()
        typed = [sys.executable, "-m", "thanos", *words, "typed"]
        subprocess.run(typed, cwd=folder, check=True, capture_output=True)
        as_typed = time.perf_counter() - started
        spent = sum(float(line) for line in notes.read_text().split())
        share[name] = {"seconds": round(ended.seconds, 2), "of_which_manifest": round(spent, 3)}
        share[name] |= {"percent": round(100 * spent / ended.seconds, 2)}
        share[name] |= {"seconds_as_typed": round(as_typed, 2), "percent_as_typed": round(100 * spent / as_typed, 2)}
    return share


def _timing(notes: Path) -> disk.Before:
    """Note the seconds inside the manifest's functions; of nested ones the outer's."""
    depth = [0]

    def timed(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            depth[0] += 1
            started = time.perf_counter()
            try:
                return function(*arguments, **named)
            finally:
                depth[0] -= 1
                if not depth[0]:
                    with notes.open("a") as file:
                        file.write(f"{time.perf_counter() - started}\n")

        return call

    def start() -> None:
        for name in ("_digest", "read_manifest", "_content"):
            setattr(manifest, name, timed(getattr(manifest, name)))
        writing = manifest.entered

        def entered(path: Path, written: Path, put: Any) -> Any:
            return writing(path, written, timed(put))

        import thanos.storage as storage

        storage.entered = entered  # type: ignore[attr-defined]

    return start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--every", type=int, default=1, help="fail every so manieth write alone")
    parser.add_argument("parts", nargs="*", default=["full", "machine", "hostile", "soak", "manifest"])
    arguments = parser.parse_args()
    done = {"hardware": hardware(), "versions": versions(), "commit": commit()}
    result = json.loads(arguments.out.read_text()) if arguments.out and arguments.out.is_file() else {}
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home).resolve()
        ways: dict[str, Callable[[Callable[[dict[str, Any]], None]], dict[str, Any]]] = {
            "full": lambda keep: full(folder, arguments.every, keep), "machine": lambda keep: machine(folder),
            "hostile": lambda keep: hostile(folder), "soak": lambda keep: soak(folder),
            "manifest": lambda keep: manifest_cost(folder),
        }  # fmt: skip
        for part in arguments.parts:

            def keep(found: dict[str, Any], part: str = part) -> None:
                result[part] = found | {"command": f"python benchmarks/faults.py {part}"} | done
                print(part, json.dumps(result[part])[:400], flush=True)
                if arguments.out:
                    write_json(arguments.out, result)

            keep(ways[part](keep))


if __name__ == "__main__":
    main()
