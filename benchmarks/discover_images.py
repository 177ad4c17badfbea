"""Hidden subclasses of 2,000 CIFAR-10 images of which nobody told more than 'animals' or 'vehicles', in a minute.

For every seed 200 images of each class are drawn and given to `thanos discover` as a user would: an .npz with images
and superclasses, no subclass. What it finds is held against the true classes (adjusted mutual information inside each
superclass, unweighted mean), with the clustering's own number of clusters, and with five in each superclass. Beside it
the same clustering of what could explain it: the frozen features themselves, SupCon's head on them, the same head on
the features of the same network with random weights, raw pixels; with --from-nothing also training without weights,
as the command does where none are at hand.

THANOS_DATA=DIR python benchmarks/discover_images.py --out results/discover_images.json
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import timm
import torch
from safetensors.torch import save_file

from thanos import DataConfig, DiscoverConfig, discover, embed, load, read_embeddings, recovery_scores
from thanos.embeddings import Embeddings
from thanos.evaluate.intervals import mean_interval
from thanos.reproduce.score import raw_pixels
from thanos.runs.encoder_io import timm_encoder
from thanos.runs.provenance import commit, hardware, versions
from thanos.storage import write_json

EACH = 200
FROZEN = "tf_efficientnet_lite0"
RANDOM = ("--encoder", FROZEN, "--frozen", "--pretrained")
"""And the file of its random weights."""
HEAD = ("--part", "head")
"""Of the controls: the command would turn to the features where the head's clusters do not stand out further."""
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


def command(file: Path, run: Path, more: Sequence[str | Path], seed: int, threads: int) -> tuple[float, str]:
    """Seconds of the whole command, its features not yet in the cache, and what it printed."""
    words = [Path(sys.executable).parent / "thanos", "discover", file, "--seed", str(seed), *more, "-o", run]
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {"OMP_NUM_THREADS": str(threads), "THANOS_CACHE": cache}
        started = time.perf_counter()
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
        return time.perf_counter() - started, done.stdout + done.stderr


def random_weights(seed: int, file: Path) -> Path:
    """Of the backbone as a training would find it."""
    torch.manual_seed(seed)
    save_file(timm.create_model(FROZEN).state_dict(), file)
    return file


def score(embeddings: Embeddings, true: np.ndarray, seed: int, **more: str) -> dict[str, dict[str, float]]:
    scores = {}
    for name, config in CLUSTERINGS.items():
        found = discover(embeddings, config.model_copy(update={"seed": seed, **more}))
        against = recovery_scores(found.cluster, true, embeddings.superclass)
        wanted = ("adjusted_mutual_information", "macro_f1", "purity")
        scores[name] = {key: getattr(against, key) for key in wanted} | {"clusters": float(len(found.names))}
    return scores


def one_seed(seed: int, folder: Path, threads: int, from_nothing: bool) -> dict[str, Any]:
    file = folder / f"cifar10-{seed}.npz"
    true = draw(seed, file)
    images = load(DataConfig(data=str(file)))
    larger = load(DataConfig(data=str(file), size=128))
    measured: dict[str, Any] = {
        "raw pixels": score(raw_pixels(images), true, seed),
        "frozen features": score(embed(timm_encoder(FROZEN, True, larger), larger), true, seed),
    }
    random = random_weights(seed, folder / f"random-{seed}.safetensors")
    runs: dict[str, Sequence[str | Path]] = {
        "discover": (),
        "supcon": ("--train-method", "supcon", *HEAD),
        "discover on random features": (*RANDOM, random, *HEAD),
    }
    runs |= {"discover from nothing": ("--encoder", "tiny")} if from_nothing else {}
    for name, more in runs.items():
        run = folder / f"{name.replace(' ', '-')}-{seed}"
        seconds, said = command(file, run, more, seed, threads)
        own = json.loads((run / "subclasses.json").read_text())["superclasses"]
        part = {"part": "head"} if "--part" in more else {}
        measured[name] = score(read_embeddings(run / "embeddings.npz"), true, seed, **part) | {
            "seconds": round(seconds, 1),
            "lines": len(said.splitlines()),
            "escape_codes": len(re.findall("\x1b", said)),
            "clusters_told": {name: fact["clusters"] for name, fact in own.items()},
            "page_mb": round((run / "subclasses.html").stat().st_size / 1e6, 2),
        }
        print(seed, name, measured[name], flush=True)
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1, help="seeds side by side, the cores divided between them")
    parser.add_argument("--from-nothing", action="store_true", help="also train without weights: minutes a seed")
    parser.add_argument("--keep", type=Path, help="keep the runs in this folder")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    threads = max(1, (os.cpu_count() or 1) // given.jobs)
    with tempfile.TemporaryDirectory() as temporary, ThreadPoolExecutor(given.jobs) as pool:
        folder = given.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        seeds = list(pool.map(lambda seed: one_seed(seed, folder, threads, given.from_nothing), range(given.seeds)))
    table: dict[str, Any] = {}
    for name in seeds[0]:
        table[name] = {}
        for clustering in CLUSTERINGS:
            values = [each[name][clustering]["adjusted_mutual_information"] for each in seeds]
            low, high = mean_interval(values)
            table[name][clustering] = {"mean": mean(values), "sd": stdev(values), "interval": [low, high]}
    facts = {
        "command": "python benchmarks/discover_images.py " + " ".join(sys.argv[1:]),
        "images": EACH * 10,
        "threads_each": threads,
        "adjusted_mutual_information": table,
        "seconds": {name: [each[name].get("seconds") for each in seeds] for name in seeds[0]},
        "seeds": seeds,
    }
    write_json(given.out, facts | {"commit": commit(), "hardware": hardware(), "versions": versions()})
    for name, row in table.items():
        print(f"{name:<26}" + "   ".join(f"{c}: {r['mean']:.3f} ± {r['sd']:.3f}" for c, r in row.items()))


if __name__ == "__main__":
    main()
