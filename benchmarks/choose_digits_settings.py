"""Choose the demo's shared settings by validation superclass accuracy, with the fine labels removed from the data.

python benchmarks/choose_digits_settings.py --out results/digits_settings.json
"""

import argparse
import itertools
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from thanos.config import DataConfig, RunConfig, TrainConfig
from thanos.data.load import load
from thanos.storage import write_json
from thanos.training.fit import commit, hardware, train, versions

METHODS = ("supcon", "spread", "cauto")
SEEDS = (100, 101, 102)  # none of them is a seed of the demo
BASE = {
    "epochs": 40,
    "batch": 128,
    "learning_rate": 2e-3,
    "temperature": 0.5,
    "crop_scale": 0.5,
    "classify_weight": 1.0,
}
VARIATIONS = [
    {},
    {"learning_rate": 1e-3},
    {"learning_rate": 4e-3},
    {"batch": 64},
    {"batch": 256},
    {"epochs": 20},
    {"epochs": 60},
    {"temperature": 0.2},
    {"crop_scale": 0.3},
    {"crop_scale": 0.7},
    {"classify_weight": 0.5},
]


def validation_accuracy(setting: dict, method: str, seed: int) -> float:
    """Of the last epoch, on 30% of the training images held out."""
    setting = dict(setting)
    views = {"crop_scale": setting.pop("crop_scale")}
    config = TrainConfig(method=method, seed=seed, split_seed=seed, validation=0.3, views=views, **setting)
    images = load(DataConfig(data="digits", validation=0.3, split_seed=seed))
    images = replace(images, subclass=None, subclass_names=())
    with tempfile.TemporaryDirectory() as folder:
        run = RunConfig(quiet=True, threads=1)
        metrics = train(config, Path(folder) / "run", images=images, run=run, say=lambda line: None).metrics
    return metrics["final"]["validation/superclass_accuracy"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    rows = json.loads(out.read_text())["settings"] if out.exists() else []
    for variation in VARIATIONS[len(rows) :]:
        setting = BASE | variation
        values = {m: [validation_accuracy(setting, m, s) for s in SEEDS] for m in METHODS}
        mean = float(np.mean(list(itertools.chain(*values.values()))))
        rows.append({"setting": setting, "superclass_accuracy": values, "mean": mean})
        print(f"{mean:.4f} {variation or 'base'}", flush=True)
        write_json(
            out,
            {
                "what": "mean validation superclass accuracy (20 neighbours) over methods and seeds, one setting "
                "varied at a time; the fine labels were removed from the data before training",
                "command": f"python benchmarks/choose_digits_settings.py --out {out}",
                "seeds": SEEDS,
                "chosen": max(rows, key=lambda row: row["mean"])["setting"],
                "settings": rows,
                "versions": versions(),
                "hardware": hardware(),
                "commit": commit(),
            },
        )


if __name__ == "__main__":
    main()
