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
from thanos.runs.provenance import commit, hardware, versions
from thanos.storage import write_json
from thanos.training.fit import train

METHODS = ("supcon", "spread", "cauto")
SEEDS = (100, 101, 102)  # none of them is a seed of the demo
START = {
    "epochs": 40,
    "batch": 128,
    "learning_rate": 2e-3,
    "temperature": 0.5,
    "crop_scale": 0.5,
    "classify_weight": 1.0,
}
VALUES = {
    "learning_rate": [1e-3, 2e-3, 4e-3],
    "batch": [64, 128, 256],
    "epochs": [20, 40, 60],  # more do not fit the demo's four minutes
    "temperature": [0.2, 0.5],
    "crop_scale": [0.3, 0.5, 0.7, 0.85],
    "classify_weight": [0.5, 1.0],
}
ENOUGH = 0.002
"""A coordinate that fell back by more than this in an earlier round is not varied again."""


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


def candidates(rows: list[dict]) -> list[dict]:
    """The settings one step from the best so far that were not tried yet."""
    best = max(rows, key=lambda row: row["mean"])
    tried = [row["setting"] for row in rows]
    worse = {
        (name, row["setting"][name])
        for row in rows
        for name in VALUES
        if row["setting"][name] != best["setting"][name] and row["mean"] < best["mean"] - ENOUGH
    }
    steps = [
        best["setting"] | {name: value}
        for name, values in VALUES.items()
        for value in values
        if (name, value) not in worse
    ]
    return [setting for setting in steps if setting not in tried]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    rows = json.loads(out.read_text())["settings"] if out.exists() else []
    while waiting := candidates(rows) if rows else [START]:
        setting = waiting[0]
        values = {m: [validation_accuracy(setting, m, s) for s in SEEDS] for m in METHODS}
        mean = float(np.mean(list(itertools.chain(*values.values()))))
        rows.append({"setting": setting, "superclass_accuracy": values, "mean": mean, "commit": commit()})
        print(f"{mean:.4f} {setting}", flush=True)
        write_json(
            out,
            {
                "what": "mean validation superclass accuracy (20 neighbours) over methods and seeds; one setting is "
                "varied at a time around the best so far; the fine labels were removed from the data before training",
                "command": f"python benchmarks/choose_digits_settings.py --out {out}",
                "seeds": SEEDS,
                "chosen": max(rows, key=lambda row: row["mean"])["setting"],
                "settings": rows,
                "versions": versions(),
                "hardware": hardware(),
            },
        )


if __name__ == "__main__":
    main()
