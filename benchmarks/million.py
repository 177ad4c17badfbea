"""A million embeddings of 128 dimensions: nearest neighbours of 10,000 queries, k-means, discovery, a linear probe.

Each in a process of its own: wall seconds, and the peak of its memory above what data and libraries take.

python benchmarks/million.py --out results/million.json
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from discovery import embeddings
from peak import peak_above

from thanos.config import DiscoverConfig
from thanos.embeddings import Embeddings, read_embeddings, write_embeddings
from thanos.evaluate.knn import neighbour_vote
from thanos.evaluate.recovery import recovery_scores
from thanos.evaluate.transfer import convex_probe
from thanos.runs.provenance import commit, hardware, versions
from thanos.storage import write_json
from thanos.subclasses.discovery import discover

DIM, SUPERCLASSES, KINDS, QUERIES = 128, 10, 6, 10_000
Score = dict[str, float]


def parts(data: Embeddings) -> tuple[Embeddings, Embeddings]:
    """The first 10,000, and the others."""
    return data.take(np.arange(QUERIES)), data.take(np.arange(QUERIES, len(data)))


def neighbours(data: Embeddings) -> Score:
    queries, keys = parts(data)
    assert queries.subclass is not None
    assert keys.subclass is not None
    label = torch.from_numpy(keys.subclass)
    voted = neighbour_vote(torch.from_numpy(queries.vectors), torch.from_numpy(keys.vectors), label, 20)
    return {"accuracy": float((voted.numpy() == queries.subclass).mean())}


def clusters(config: DiscoverConfig) -> Callable[[Embeddings], Score]:
    def run(data: Embeddings) -> Score:
        found = discover(data, config)
        assert data.subclass is not None
        return {
            "clusters": len(found.names),
            "macro_f1": recovery_scores(found.cluster, data.subclass, data.superclass).macro_f1,
        }

    return run


def probe(data: Embeddings) -> Score:
    held_out, train = parts(data)
    assert held_out.subclass is not None
    predicted, strength = convex_probe(train, held_out, held_out)
    return {"accuracy": float((predicted == held_out.subclass).mean()), "strength": strength}


TASKS: dict[str, Callable[[Embeddings], Score]] = {
    "20 nearest neighbours of 10,000 queries": neighbours,
    "k-means, 6 clusters in each of 10 superclasses": clusters(DiscoverConfig(clusters=KINDS)),
    "discovery at the defaults": clusters(DiscoverConfig()),
    "linear probe, 60 classes, strength chosen": probe,
}


def measure(task: str, file: Path) -> dict[str, float]:
    data = read_embeddings(file)
    TASKS[task](embeddings(20_000, DIM, SUPERCLASSES, KINDS))  # what any size loads
    peak = peak_above()
    started = time.perf_counter()
    score = TASKS[task](data)
    seconds = time.perf_counter() - started
    return {"seconds": round(seconds, 1), "peak_gib": round(peak() / 2**10, 2), **score}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--one", nargs=2, metavar=("TASK", "NPZ"), help="measure this here and print JSON")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(given.one[0], Path(given.one[1]))))
        return
    measured = {}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "embeddings.npz"
        write_embeddings(embeddings(given.images, DIM, SUPERCLASSES, KINDS), file)
        for task in TASKS:
            command = [sys.executable, __file__, "--one", task, str(file)]
            run = subprocess.run(command, capture_output=True, text=True, check=True)
            measured[task] = json.loads(run.stdout.splitlines()[-1])
            print(task, measured[task], flush=True)
    if given.out:
        facts = {"command": "python benchmarks/million.py --out results/million.json", "images": given.images}
        facts |= {"dimensions": DIM, "data_gib": round(given.images * DIM * 4 / 2**30, 2)}
        facts |= {"commit": commit(), "hardware": hardware(), "versions": versions()}
        write_json(given.out, facts | {"measured": measured})


if __name__ == "__main__":
    main()
