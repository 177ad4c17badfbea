"""Which features of a frozen network suit a data set, by superclasses alone: size of images, grid of a middle layer.

Of 12,000 training and 3,000 validation images: how often the superclass of a validation image is that of its
neighbours, in the embedding of a head (L_spread, as at scale `frozen`) trained on each kind of features; three seeds.
No fine label is looked at. By this scale `frozen` takes CIFAR-100 at 224 pixels, MNIST with a middle layer on a grid.

THANOS_DATA=DIR python benchmarks/frozen_layers.py --out results/frozen_layers.json
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from thanos import ImageSet, RunConfig, TrainConfig, load, train
from thanos.reproduce.scale import load_scale
from thanos.runs.provenance import commit, hardware, versions
from thanos.storage import write_json

TRAIN, VALIDATION, STEPS, SEEDS = 12_000, 3_000, 1_100, 3
KINDS = {"mnist": ((128, 0), (128, 1), (128, 2), (128, 4)), "cifar100": ((128, 0), (128, 1), (224, 0))}
"""By data set: pixels a side, and cells a side of the grid (0: the last layer alone)."""


def quiet(line: str) -> None: ...


def some(images: ImageSet) -> ImageSet:
    """So many of the training and validation images, drawn once."""
    rng = np.random.default_rng(0)
    counts = {"train": TRAIN, "validation": VALIDATION}
    return images.take(np.sort(np.concatenate([rng.permutation(images.rows(s))[:n] for s, n in counts.items()])))


def told(dataset: str, size: int, grid: int) -> dict[str, Any]:
    """The share of validation images whose neighbours are of their superclass, by seed; and how long features take."""
    base = load_scale("frozen").base(dataset, 0)
    epochs = round(STEPS / (TRAIN // base.batch))
    changes = {"method": "spread", "size": size, "frozen_grid": grid, "epochs": epochs, "reconstruction_weight": 1.0}
    config = TrainConfig(**(base.model_dump() | changes))
    images, found, seconds = some(load(config)), [], []
    for seed in range(SEEDS):
        with tempfile.TemporaryDirectory() as folder:
            mine = config.model_copy(update={"seed": seed})
            run = train(mine, Path(folder) / "run", images=images, run=RunConfig(quiet=True), say=quiet)
        found.append(run.metrics["final"]["validation/superclass_accuracy"])
        seconds.append(run.metrics["features_seconds"])
    return {"neighbours": found, "mean": float(np.mean(found)), "features_seconds": seconds[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    facts: dict[str, Any] = {
        "command": "python benchmarks/frozen_layers.py " + " ".join(sys.argv[1:]),
        "images": {"train": TRAIN, "validation": VALIDATION},
        "kinds": {},
        "commit": commit(),
        "hardware": hardware(),
        "versions": versions(),
    }
    for dataset, kinds in KINDS.items():
        for size, grid in kinds:
            name = f"{size} pixels, {f'grid {grid}' if grid else 'last layer alone'}"
            facts["kinds"].setdefault(dataset, {})[name] = told(dataset, size, grid)
            print(dataset, name, facts["kinds"][dataset][name], flush=True)
            write_json(given.out, facts)


if __name__ == "__main__":
    main()
