"""How long discovery takes on 100,000 embeddings of 128 dimensions, at the defaults.

python benchmarks/discovery.py --out results/discovery.json
"""

import argparse
import resource
import time
from pathlib import Path

import numpy as np

from thanos.config import DiscoverConfig
from thanos.embeddings import Embeddings
from thanos.evaluate.recovery import recovery_scores
from thanos.runs.provenance import commit, hardware, versions
from thanos.storage import write_json
from thanos.subclasses.discovery import discover


def embeddings(images: int, dim: int, superclasses: int, kinds: int) -> Embeddings:
    """Normal clouds around random centres, overlapping; subclasses of unequal size."""
    rng = np.random.default_rng(0)
    superclass = rng.integers(0, superclasses, images)
    share = np.arange(1, kinds + 1) / np.arange(1, kinds + 1).sum()
    subclass = superclass * kinds + rng.choice(kinds, images, p=share)
    centres = rng.normal(size=(superclasses * kinds, dim)).astype(np.float32)
    vectors = centres[subclass] + rng.normal(size=(images, dim)).astype(np.float32)
    names = tuple(f"superclass {value}" for value in range(superclasses))
    fine = tuple(str(kind) for kind in range(superclasses * kinds))
    split = rng.choice([0, 1, 2], images, p=[0.8, 0.1, 0.1]).astype(np.int8)
    return Embeddings(
        vectors=vectors,
        superclass=superclass,
        superclass_names=names,
        split=split,
        subclass=subclass,
        subclass_names=fine,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--mixture", action="store_true", help="Gaussian mixtures too: minutes")
    arguments = parser.parse_args()
    measured = []
    for method in ("kmeans", "mixture") if arguments.mixture else ("kmeans",):
        for superclasses in (2, 10):
            data = embeddings(100_000, 128, superclasses, 6)
            started = time.perf_counter()
            found = discover(data, DiscoverConfig(method=method))
            seconds = time.perf_counter() - started
            assert data.subclass is not None
            scores = recovery_scores(found.cluster, data.subclass, data.superclass)
            measured.append(
                {
                    "method": method,
                    "superclasses": superclasses,
                    "seconds": round(seconds, 1),
                    "peak_gib_of_the_process": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
                    "clusters": [fact["clusters"] for fact in found.superclasses.values()],
                    "macro_f1": scores.macro_f1,
                }
            )
            print(measured[-1], flush=True)
    content = {
        "command": "python benchmarks/discovery.py --out results/discovery.json",
        "images": 100_000,
        "dimensions": 128,
        "measured": measured,
        "versions": versions(),
        "hardware": hardware(),
        "commit": commit(),
    }
    write_json(arguments.out, content)


if __name__ == "__main__":
    main()
