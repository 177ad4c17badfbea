"""What a fine probe of given strength reads in heads of table 3: of directions, beside the table's own probe.

The table's probe standardises every number and chooses its penalty on validation images: of a collapsed embedding it
still reads the little that is left. Logistic regression on rows of unit length at scikit-learn's default (C = 1) reads
what is as large as the superclasses are apart. The runs are those of

thanos reproduce table3 --scale frozen --dataset cifar10 --seeds 5 --work DIR
python benchmarks/probe_strength.py --runs DIR/frozen --dataset cifar10 --out results/probe_strength.json
"""

import argparse
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from thanos import read_embeddings
from thanos.embeddings import Embeddings, concat_embeddings
from thanos.evaluate.transfer import convex_probe
from thanos.runs.provenance import commit, hardware, versions
from thanos.storage import write_json

ROWS = {
    "supcon": (("supcon", 0),),
    "infonce": (("infonce", 0),),
    "spread": (("spread", 0),),
    "cauto": (("cauto", 0),),
    "thanos": (("spread", 0), ("cauto", 0)),
    "spread + spread": (("spread", 0), ("spread", 1000)),
}
"""Of each row its parts: the method, and what is added to the seed."""
DIFFERENCES = (("thanos", "supcon"), ("thanos", "spread + spread"))
STRENGTHS = (0.1, 1.0, 10.0)


def row(runs: Path, dataset: str, seed: int, parts: tuple[tuple[str, int], ...]) -> Embeddings:
    """The embeddings side by side."""
    found = []
    for method, more in parts:
        (folder,) = runs.glob(f"{dataset}-{method}-{seed + more}-*")
        found.append(read_embeddings(folder / "embeddings.npz"))
    return concat_embeddings(*found)


def read(embeddings: Embeddings) -> dict[str, float]:
    """Fine accuracy on test images, by probe."""
    train, validation, test = (embeddings.of(split) for split in ("train", "validation", "test"))
    assert train.subclass is not None
    predicted, chosen = convex_probe(train, validation, test)
    found = {"table": float((predicted == test.subclass).mean()), "chosen": chosen}
    x, t = (part.vectors / np.linalg.norm(part.vectors, axis=1, keepdims=True) for part in (train, test))
    for strength in STRENGTHS:
        model = LogisticRegression(C=strength, max_iter=1000).fit(x, train.subclass)
        found[f"directions, C {strength:g}"] = float((model.predict(t) == test.subclass).mean())
    return found


def summary(values: list[float]) -> dict[str, Any]:
    return {"values": values, "mean": mean(values), "deviation": stdev(values) if len(values) > 1 else None}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--dataset", default="cifar10")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, list[dict[str, float]]] = {}
    with threadpool_limits(1):
        for seed in range(given.seeds):
            for name, parts in ROWS.items():
                found.setdefault(name, []).append(read(row(given.runs, given.dataset, seed, parts)))
                print(seed, name, found[name][-1], flush=True)
    probes = ["table", *(f"directions, C {strength:g}" for strength in STRENGTHS)]
    facts: dict[str, Any] = {
        "command": f"python benchmarks/probe_strength.py --runs DIR/frozen --dataset {given.dataset} "
        f"--seeds {given.seeds} --out results/probe_strength.json",
        "accuracy": {name: {p: summary([one[p] for one in each]) for p in probes} for name, each in found.items()},
        "paired": {
            f"{one} less {other}": {
                p: summary([a[p] - b[p] for a, b in zip(found[one], found[other], strict=True)]) for p in probes
            }
            for one, other in DIFFERENCES
        },
    }
    write_json(given.out, facts | {"commit": commit(), "hardware": hardware(), "versions": versions()})


if __name__ == "__main__":
    main()
