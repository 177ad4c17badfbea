"""Hidden subclasses of 2,000 CIFAR-10 images of which nobody told more than 'animals' or 'vehicles', in minutes.

For every seed 200 images of each class are drawn and given to `thanos discover` as a user would: an .npz with images
and superclasses, no subclass. What it finds is held against the true classes (adjusted mutual information inside each
superclass, unweighted mean), beside the same clustering of SupCon's embedding (as long a training), of a random
encoder's and of raw pixels; with the clustering's own number of clusters, and with five in each superclass.

THANOS_DATA=DIR python benchmarks/discover_images.py --jobs 2 --out results/discover_images.json
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np

from thanos import DataConfig, DiscoverConfig, TrainConfig, discover, load, read_embeddings, recovery
from thanos.embeddings import Embeddings, labelled
from thanos.evaluate.intervals import mean_interval
from thanos.reproduce.score import random_encoder, raw_pixels
from thanos.runs.provenance import commit, hardware, versions
from thanos.storage import write_json

EACH = 200
TRAINED = ("thanos", "supcon")
CLUSTERINGS = {"chosen": DiscoverConfig(), "five": DiscoverConfig(clusters=5)}


def draw(seed: int, file: Path) -> np.ndarray:
    """Write the images and their superclasses; the true classes, which no file holds, come back."""
    whole = load(DataConfig(data="cifar10"))
    assert whole.subclass is not None
    rng = np.random.default_rng(seed)
    train = whole.rows("train")
    kinds = whole.subclass[train]
    rows = np.sort(np.concatenate([rng.choice(train[kinds == k], EACH, replace=False) for k in np.unique(kinds)]))
    superclass = np.array(whole.superclass_names)[whole.superclass[rows]]
    np.savez(file, images=whole.images[rows], superclass=superclass)
    return whole.subclass[rows]


def train(file: Path, run: Path, method: str, seed: int, threads: int) -> tuple[float, str]:
    """Seconds of the whole command, and what it printed."""
    command = [Path(sys.executable).parent / "thanos", "discover", file, "--train-method", method, "--seed", str(seed)]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    started = time.perf_counter()
    done = subprocess.run([*command, "-o", run], env=environment, capture_output=True, text=True, check=True)
    return time.perf_counter() - started, done.stdout + done.stderr


def score(embeddings: Embeddings, true: np.ndarray, seed: int) -> dict[str, dict[str, float]]:
    scores = {}
    for name, config in CLUSTERINGS.items():
        found = discover(embeddings, config.model_copy(update={"seed": seed}))
        against = recovery(found.cluster, true, embeddings.superclass)
        wanted = ("adjusted_mutual_information", "macro_f1", "purity")
        scores[name] = {key: getattr(against, key) for key in wanted} | {"clusters": float(len(found.names))}
    return scores


def one_seed(seed: int, folder: Path, threads: int) -> dict[str, Any]:
    file = folder / f"cifar10-{seed}.npz"
    true = draw(seed, file)
    images = load(DataConfig(data=str(file)))
    base = TrainConfig(data=str(file), seed=seed)
    encoder = random_encoder(base, images)
    measured: dict[str, Any] = {
        "raw pixels": score(raw_pixels(images), true, seed),
        "random encoder": score(labelled(encoder.embed(images), images), true, seed),
    }
    for method in TRAINED:
        run = folder / f"{method}-{seed}"
        seconds, said = train(file, run, method, seed, threads)
        own = json.loads((run / "subclasses.json").read_text())["superclasses"]
        measured[method] = score(read_embeddings(run / "embeddings.npz"), true, seed) | {
            "seconds": round(seconds, 1),
            "lines": len(said.splitlines()),
            "escape_codes": len(re.findall("\x1b", said)),
            "clusters_told": {name: fact["clusters"] for name, fact in own.items()},
            "page_mb": round((run / "subclasses.html").stat().st_size / 1e6, 2),
        }
        print(seed, method, measured[method], flush=True)
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1, help="seeds side by side, the cores divided between them")
    parser.add_argument("--keep", type=Path, help="keep the runs in this folder")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    threads = max(1, (os.cpu_count() or 1) // given.jobs)
    with tempfile.TemporaryDirectory() as temporary, ThreadPoolExecutor(given.jobs) as pool:
        folder = given.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        seeds = list(pool.map(lambda seed: one_seed(seed, folder, threads), range(given.seeds)))
    table: dict[str, Any] = {}
    for name in seeds[0]:
        table[name] = {}
        for clustering in CLUSTERINGS:
            values = [each[name][clustering]["adjusted_mutual_information"] for each in seeds]
            low, high = mean_interval(values)
            table[name][clustering] = {"mean": mean(values), "sd": stdev(values), "interval": [low, high]}
    facts = {
        "command": f"python benchmarks/discover_images.py --jobs {given.jobs} --out results/discover_images.json",
        "images": EACH * 10,
        "threads_each": threads,
        "adjusted_mutual_information": table,
        "seeds": seeds,
    }
    write_json(given.out, facts | {"commit": commit(), "hardware": hardware(), "versions": versions()})
    for name, row in table.items():
        print(f"{name:<16}" + "   ".join(f"{c}: {r['mean']:.3f} ± {r['sd']:.3f}" for c, r in row.items()))


if __name__ == "__main__":
    main()
