"""What `thanos export` takes for 10,000 images: seconds of each command, the bytes it leaves, and seconds to read them.

CIFAR-10's images, as PNG files of 32 pixels; the vectors are a fixed random projection of their pixels to 1,280
numbers, for their width is what costs. Subclasses are 3 a superclass. FiftyOne reads without its database: pip install
fiftyone pycocotools.

THANOS_DATA=DIR python benchmarks/exports.py --out results/exports.json
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from thanos import DataConfig, DiscoverConfig, discover, load
from thanos.embeddings import Embeddings, write_embeddings
from thanos.evaluate.recovery import recovery_by_split
from thanos.runs.provenance import commit, hardware, versions
from thanos.storage import write_json
from thanos.subclasses.table import write_discovered

IMAGES, DIM = 10_000, 1280
WAYS = (("fiftyone",), ("coco",), ("imagefolder",), ("folders",), ("folders", "--link"), ("parquet",))


def source(folder: Path) -> Path:
    """The images as files, and their embeddings with a table of subclasses beside them."""
    whole = load(DataConfig(data="cifar10"))
    rows = np.sort(np.random.default_rng(0).permutation(len(whole))[:IMAGES])
    images, refs = whole.images[rows], []
    for i, pixels in enumerate(images):
        file = folder / "photos" / f"{i}.png"
        file.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(file)
        refs.append(str(file))
    projection = np.random.default_rng(1).normal(size=(32 * 32 * 3, DIM)).astype(np.float32)
    kept = whole.take(rows).labels() | {"refs": tuple(refs)}
    vectors = images.reshape(IMAGES, -1).astype(np.float32) / 255 @ projection
    embeddings, config = Embeddings(vectors=vectors, **kept), DiscoverConfig(clusters=3)
    write_embeddings(embeddings, folder / "e.npz")
    found = discover(embeddings, config)
    recovered = recovery_by_split(embeddings, found.cluster)
    write_discovered(folder / "e-subclasses.csv", embeddings, found, config=config, recovered=recovered)
    return folder / "e.npz"


def command(*words: object) -> tuple[float, float]:
    """Seconds of a command of thanos, and those that a processor worked on it, which other work hardly changes."""
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    typed = [str(Path(sys.executable).parent / "thanos"), *map(str, words)]
    subprocess.run(typed, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    worked = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - started, worked


def weigh(place: Path) -> tuple[int, int]:
    """Files, and their bytes; links count as nothing."""
    files = [place] if place.is_file() else [each for each in place.rglob("*") if each.is_file()]
    return len(files), sum(0 if each.is_symlink() else each.stat().st_size for each in files)


def by_datasets(place: Path) -> int:
    import datasets

    with tempfile.TemporaryDirectory() as cache:
        return sum(map(len, datasets.load_dataset("imagefolder", data_dir=str(place), cache_dir=cache).values()))


def by_torchvision(place: Path) -> int:
    from torchvision.datasets import ImageFolder

    return sum(len(ImageFolder(str(each))) for each in place.iterdir())


def by_pandas(place: Path) -> int:
    import pandas

    return len(np.stack(pandas.read_parquet(place)["vector"]))


def by_fiftyone(place: Path) -> int:
    from fiftyone.utils.data.importers import FiftyOneImageClassificationDatasetImporter

    with FiftyOneImageClassificationDatasetImporter(dataset_dir=str(place)) as samples:
        return sum(label is not None for _, _, label in samples)


def by_pycocotools(place: Path) -> int:
    from pycocotools.coco import COCO

    read = COCO(str(place / "labels.json"))
    return len(read.loadAnns(read.getAnnIds()))


READERS: dict[str, tuple[str, Callable[[Path], int]]] = {
    "fiftyone": ("fiftyone", by_fiftyone),
    "coco": ("pycocotools", by_pycocotools),
    "imagefolder": ("datasets", by_datasets),
    "folders": ("torchvision", by_torchvision),
    "parquet": ("pandas", by_pandas),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("results/exports.json"))
    given = parser.parse_args()
    table: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        npz = source(folder)
        for to, *more in WAYS:
            name = " ".join((to, *more))
            place = folder / ("t.parquet" if to == "parquet" else name.replace(" ", ""))
            seconds, worked = command("export", npz, "--to", to, *more, "--out", place)
            files, size = weigh(place)
            library, read = READERS[to]
            started = time.perf_counter()
            rows = read(place)
            table[name] = {"seconds": round(seconds, 1), "processor_seconds": round(worked, 1)}
            table[name] |= {"files": files, "bytes": size, "read_by": library}
            table[name] |= {"rows_read": rows, "seconds_to_read": round(time.perf_counter() - started, 1)}
            print(name, table[name], flush=True)
    facts = {"command": "python benchmarks/exports.py", "seeds": [0, 1], "images": IMAGES, "dim": DIM}
    facts |= {"load_average": os.getloadavg()[0], "commit": commit(), "hardware": hardware(), "versions": versions()}
    write_json(given.out, {"exports": table} | facts)


if __name__ == "__main__":
    main()
