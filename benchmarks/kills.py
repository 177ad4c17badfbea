"""Kill -9 at random moments of every command, give the command again, and compare with one that was never killed.

    python benchmarks/kills.py --out results/kills.json

Every command runs in a forked child of this process, so that no kill falls into imports. The moment is drawn from the
seconds that the undisturbed command took; one that had ended by then is drawn anew, earlier. Afterwards all that the
command leaves is compared, byte by byte but for what names times, and no half-written file may lie anywhere.
"""

import argparse
import os
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import forked
import numpy as np
import timm
import torch
from faults import outcome, strays
from mutations import OF_RECORDS, TINY, write_bars, write_photos
from safetensors.torch import save_file

from thanos.data import spurious
from thanos.data.imageset import ImageSet
from thanos.data.labels import ids_of
from thanos.runs.provenance import commit, hardware, versions
from thanos.storage import write_json

TRAIN = ("train", "--data", "photos.npz", "--epochs", 3, "--batch", 20, "--quiet", "--threads", 1)
OFTEN = ("--checkpoint-minutes", "1e-9")
PLAN = ("--scale", "tiny.yaml", "--seeds", 1, "--jobs", 1, "--results", "results", "--work", "work")


@dataclass(frozen=True)
class Command:
    """What is killed."""

    words: tuple[object, ...]
    trials: int
    needs_run: bool = False
    """Whether it works on a finished run."""
    keeps: bool = False
    """Whether it writes over nothing: killed once its file is complete, it says so when it is given again."""


COMMANDS = {
    "discover on images": Command(
        ("discover", "photos.npz", "--train-method", "spread", "--epochs", 2, "--batch", 20, "--quiet", "-o", "a"), 16
    ),
    "train": Command((*TRAIN, "--method", "thanos", *OFTEN, "--out", "a"), 16),
    "train on frozen features": Command(
        (*TRAIN, "--method", "spread", "--encoder", "test_resnet", "--size", 32, "--convert", "--frozen", *OFTEN,
         "--pretrained", "weights.safetensors", "--out", "a"), 10,
    ),
    "discover in a run": Command(("discover", "a"), 6, needs_run=True),
    "robust": Command(("robust", "a"), 6, needs_run=True),
    "embed": Command(("embed", "a"), 6, needs_run=True),
    "report": Command(("report", "a"), 6, needs_run=True),
    "transfer": Command(("transfer", "a"), 4, needs_run=True),
    "geometry": Command(("geometry", "a"), 4, needs_run=True),
    "classify": Command(("classify", "a"), 4, needs_run=True),
    "export": Command(("export", "a", "--to", "safetensors", "-o", "w.safetensors"), 4, needs_run=True, keeps=True),
    "reproduce table3": Command((*OF_RECORDS["table3"], "--method", "spread"), 6),
    "reproduce table4": Command(
        ("reproduce", "table4", "--dataset", "dominoes-95", "--method", "erm", "--method", "supcon", *PLAN), 6
    ),
    "data build": Command(("data", "build", "rare-cifar10"), 6),
}  # fmt: skip


def noise(name: str, size: int, channels: int, classes: dict[str, str], each: int = 60) -> ImageSet:
    """Stands in for a published set: random pixels under its classes."""
    rng = np.random.default_rng(3)
    labels = np.concatenate([np.repeat(np.arange(10), count) for count in (each, each // 5)])
    superclass, superclass_names = ids_of([classes[sorted(classes)[k]] for k in labels])
    images = rng.integers(0, 256, (len(labels), size, size, channels), dtype=np.uint8)
    return ImageSet(
        name=name,
        images=images,
        superclass=superclass,
        superclass_names=superclass_names,
        split=np.repeat([0, 2], [10 * each, 10 * (each // 5)]),
        subclass=labels,
        subclass_names=tuple(sorted(classes)),
        refs=tuple(map(str, range(len(labels)))),
    )


def prepare(folder: Path) -> None:
    """What the commands work on: photographs, weights, a finished run, small stand-ins for published sets."""
    write_photos(folder / "photos.npz", 0, each=12)
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=0)
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, folder / "weights.safetensors")
    write_bars(folder / "data")
    (folder / "tiny.yaml").write_text(TINY)
    from thanos.data.hierarchy import CIFAR10, DIGITS

    sets = {"mnist": noise("mnist", 28, 1, DIGITS), "cifar10": noise("cifar10", 32, 3, CIFAR10)}
    spurious.load_published = lambda config: sets[config.data]  # type: ignore[assignment]
    place = _fresh(folder, COMMANDS["train"])
    _ended(COMMANDS["discover on images"].words, place)
    shutil.move(place / "a", folder / "run")


def _fresh(folder: Path, command: Command) -> Path:
    """A folder with what a command needs, and a cache of its own."""
    place = folder / "work"
    shutil.rmtree(place, ignore_errors=True)
    (place / "cache").mkdir(parents=True)
    for name in ("photos.npz", "weights.safetensors", "tiny.yaml"):
        shutil.copy(folder / name, place)
    os.symlink(folder / "data", place / "data")
    if command.needs_run:
        shutil.copytree(folder / "run", place / "a")
    os.environ["THANOS_CACHE"] = str(place / "cache")
    return place


def _ended(words: Sequence[object], place: Path) -> forked.Ended:
    ended = forked.command(words, place, timeout=900)
    if ended.code != 0:
        raise SystemExit(f"thanos {' '.join(map(str, words))}: {ended.err}")
    return ended


def left(place: Path, out: str) -> dict[str, Any]:
    """All that a command leaves, without what tells times, and what it says of a set that it only builds."""
    named_after_times = ("data/", "cache/images/")
    found = {name: each for name, each in outcome(place).items() if not name.startswith(named_after_times)}
    return found | ({"said": out} if "rare-cifar10:" in out else {})


def trial(
    folder: Path, command: Command, seconds: float, rng: random.Random
) -> tuple[bool, float, dict[str, Any], Path]:
    """Kill once, carry out again: whether it was killed, when, and what is left."""
    while True:
        place = _fresh(folder, command)
        moment = rng.uniform(0.02, seconds)
        killed = forked.command(command.words, place, kill_after=moment)
        if killed.code is None:
            break
        seconds *= 0.9  # it had ended by then
    again = forked.command(command.words, place, timeout=900)
    done = again.code == 0 or (command.keeps and "is there already" in again.err)
    return done, moment, left(place, again.out), place


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=[*COMMANDS])
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    found: dict[str, Any] = {}
    total: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home).resolve()
        prepare(folder)
        for name in arguments.only:
            command = COMMANDS[name]
            place = _fresh(folder, command)
            whole = _ended(command.words, place)
            expected, count, moments = left(place, whole.out), Counter[str](), []
            for _ in range(command.trials):
                done, moment, came, place = trial(folder, command, whole.seconds, rng)
                moments.append(round(moment / whole.seconds, 2))
                stray = strays(place)
                same = done and came == expected
                count.update(trials=1, equal=int(same), stray_files=len(stray))
                if not same or stray:
                    odd = sorted({key for key in {*came, *expected} if came.get(key) != expected.get(key)})
                    print(f"{name}: at {moments[-1]}: ended {done}, differs in {odd[:6]}, left {stray}", flush=True)
            found[name] = dict(count) | {"seconds": round(whole.seconds, 2), "moments": sorted(moments)}
            total.update(count)
            print(name, found[name], flush=True)
    result = {
        "what": "commands killed with -9, given again, held against undisturbed ones; moments as parts of its seconds",
        "command": f"python benchmarks/kills.py --seed {arguments.seed}",
        "trials": total["trials"],
        "equal": total["equal"],
        "stray_files": total["stray_files"],
        "commands": found,
        "seed": arguments.seed,
        "versions": versions(),
        "hardware": hardware(),
        "commit": commit(),
    }
    print(f"{total['equal']} of {total['trials']} equal, {total['stray_files']} stray files")
    if arguments.out:
        write_json(arguments.out, result)


if __name__ == "__main__":
    main()
