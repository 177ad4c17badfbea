"""Peak memory and time of reading photographs of 12 megapixels, and of a strip of 2 pixels by many.

Few photographs are on the disk at once: each of a handful has many names (hard links), and is opened, checked and
decoded under every one of them.

    python benchmarks/reading.py --out results/reading.json
"""

import argparse
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from peak import peak_above
from PIL import Image

from thanos.config import DataConfig
from thanos.data.decode import decode
from thanos.data.load import load
from thanos.runs.provenance import commit, hardware, versions
from thanos.storage import write_json

WIDTH, HEIGHT = 4000, 3000
KINDS = 8
SIZE = 128


def photographs(folder: Path, count: int) -> None:
    """``count`` names of KINDS pictures that compress as photographs do."""
    rng = np.random.default_rng(0)
    for kind in range(KINDS):
        coarse = Image.fromarray(rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)).resize((WIDTH, HEIGHT), 3)
        grain = rng.integers(-8, 9, (HEIGHT, WIDTH, 3), dtype=np.int16)
        pixels = (np.asarray(coarse).astype(np.int16) + grain).clip(0, 255).astype(np.uint8)
        first = folder / f"kind{kind}.jpg"
        Image.fromarray(pixels).save(first, quality=90)
        for i in range(kind, count, KINDS):
            place = folder / "set" / ("a", "b")[i % 2] / f"{i:05d}.jpg"
            place.parent.mkdir(parents=True, exist_ok=True)
            os.link(first, place)


def read_set(folder: Path) -> int:
    return len(load(DataConfig(data=str(folder / "set"), size=SIZE)))


def read_strip(folder: Path) -> int:
    return int(decode(folder / "strip.png", SIZE, 3).size)


def measured(work: Callable[[Path], int], folder: Path) -> dict[str, Any]:
    """In a process of its own: seconds, and megabytes at the peak above what was there before."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measure, (work, folder))


def _measure(work: Callable[[Path], int], folder: Path) -> dict[str, Any]:
    os.environ["THANOS_CACHE"] = str(folder / "cache")
    peak, started = peak_above(), time.perf_counter()
    count = work(folder)
    return {"count": count, "seconds": round(time.perf_counter() - started, 1), "peak_mb": round(peak(), 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        photographs(folder, given.images)
        Image.new("RGB", (2, 6000)).save(folder / "strip.png")
        found = {
            f"{given.images:,} photographs of {WIDTH}x{HEIGHT}, to {SIZE}": measured(read_set, folder),
            f"a strip of 2x6,000, to {SIZE}": measured(read_strip, folder),
        }
    for what, numbers in found.items():
        print(what, numbers)
    command = f"python benchmarks/reading.py --images {given.images} --out {given.out}"
    write_json(given.out, {"command": command, "measured": found, "commit": commit(), "hardware": hardware(),
                           "versions": versions()})  # fmt: skip


if __name__ == "__main__":
    main()
