"""What `thanos discover` finds by default, against the frozen features that it starts from, on five sets.

For every seed so many training images of a set are drawn and given to `thanos discover` as a user would, an .npz with
images and superclasses. What it finds is held against the true classes (adjusted mutual information inside each
superclass of several, unweighted mean), and a linear probe reads the classes from the run's embedding; the same of the
backbone's features by themselves, with the same clustering and the same splits. Differences are paired by seed.

THANOS_DATA=DIR python benchmarks/discover_sets.py --out results/discover_sets.json
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
from discover_images import FROZEN

from thanos import (
    DataConfig,
    DiscoverConfig,
    discover,
    embed,
    evaluate_transfer,
    load,
    read_embeddings,
    recovery_scores,
)
from thanos.embeddings import Embeddings
from thanos.errors import DataError
from thanos.evaluate.intervals import mean_interval
from thanos.runs.encoder_io import timm_encoder
from thanos.runs.provenance import commit, hardware, versions
from thanos.storage import write_json

SETS = ("cifar10", "cifar100", "grocery", "ham10000", "gtsrb")
SIDE = {"gtsrb": 32, "cifar10": 32, "cifar100": 32}
"""Pixels a side; other sets are of photographs, brought to 128."""


def draw(name: str, count: int, seed: int, file: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    """Write the images and their superclasses; the true classes, which no file holds, come back."""
    whole = load(DataConfig(data=name, size=SIDE.get(name, 128)))
    assert whole.subclass is not None
    rows = np.sort(np.random.default_rng(seed).permutation(whole.rows("train"))[:count])
    superclass = np.array(whole.superclass_names)[whole.superclass[rows]]
    kinds, size = np.unique(superclass, return_counts=True)
    rows = rows[np.isin(superclass, kinds[size >= 8])]  # a class of fewer images is no class to look into
    np.savez(file, images=whole.images[rows], superclass=np.array(whole.superclass_names)[whole.superclass[rows]])
    return whole.subclass[rows], whole.subclass_names


def score(embeddings: Embeddings, true: np.ndarray, names: tuple[str, ...], seed: int) -> dict[str, float]:
    found = discover(embeddings, DiscoverConfig(seed=seed))
    against = recovery_scores(found.cluster, true, embeddings.superclass)
    assert against is not None
    seen = np.isin(true, np.intersect1d(true[embeddings.in_split("train")], true[embeddings.in_split("validation")]))
    try:
        fine = evaluate_transfer(replace(embeddings, subclass=true, subclass_names=names).take(seen))
        probe = fine.probe.accuracy if fine.probe is not None else float("nan")
    except DataError:
        probe = float("nan")
    part = next(iter(found.standing_out), "")
    return {
        "adjusted_mutual_information": against.adjusted_mutual_information,
        "purity": against.purity,
        "clusters": float(len(found.names)),
        "fine_probe": probe,
    } | ({"part": part, "standing_out": found.standing_out} if part else {})


def one(name: str, count: int, seed: int, folder: Path, threads: int) -> dict[str, Any]:
    file, run = folder / f"{name}-{seed}.npz", folder / f"{name}-{seed}"
    true, names = draw(name, count, seed, file)
    words = [Path(sys.executable).parent / "thanos", "discover", file, "--seed", str(seed), "-o", run]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "THANOS_CACHE": str(folder / f"cache-{name}-{seed}")}
    started = time.perf_counter()
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - started
    ours = read_embeddings(run / "embeddings.npz")
    larger = load(DataConfig(data=str(file), size=128))
    frozen = embed(timm_encoder(FROZEN, True, larger), larger)
    frozen = replace(frozen, split=ours.split)
    settings = json.loads((run / "model.json").read_text())
    return {
        "images": len(true),
        "seconds": round(seconds, 1),
        "encoder": settings.get("backbone") or settings["encoders"][0],
        "discover": score(ours, true, names, seed),
        "frozen features": score(frozen, true, names, seed),
        "said": [line for line in (done.stdout + done.stderr).splitlines() if "stand out" in line],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--images", type=int, default=3000, help="drawn of each set, at most")
    parser.add_argument("--jobs", type=int, default=1, help="draws side by side, the cores divided between them")
    parser.add_argument("--set", action="append", choices=SETS, help="default: all five")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    threads = max(1, (os.cpu_count() or 1) // given.jobs)
    torch.set_num_threads(threads)
    measured: dict[str, list[dict[str, Any]]] = {name: [] for name in given.set or SETS}
    tasks = [(name, seed) for name in measured for seed in range(given.seeds)]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(given.jobs) as pool:
        for name in measured:
            draw(name, 16, 0, Path(folder) / "none.npz")  # whole sets are in the cache before several want them
        for (name, seed), found in zip(
            tasks, pool.map(lambda task: one(task[0], given.images, task[1], Path(folder), threads), tasks), strict=True
        ):
            measured[name].append(found)
            print(name, seed, json.dumps(found), flush=True)
    table: dict[str, Any] = {}
    for name, seeds in measured.items():
        table[name] = {}
        for what in ("adjusted_mutual_information", "fine_probe"):
            ours, theirs = ([each[side][what] for each in seeds] for side in ("discover", "frozen features"))
            apart = [a - b for a, b in zip(ours, theirs, strict=True)]
            table[name][what] = {
                "discover": mean(ours),
                "frozen features": mean(theirs),
                "difference": mean(apart),
                "interval": list(mean_interval(apart)),
            }
    facts = {
        "command": "python benchmarks/discover_sets.py " + " ".join(sys.argv[1:]),
        "table": table,
        "seeds": measured,
        "commit": commit(),
        "hardware": hardware(),
        "versions": versions(),
    }
    write_json(given.out, facts)
    print(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
