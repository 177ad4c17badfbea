"""New images by what discovery kept: against clustering them along, and against images of other sets.

Of each set 3,000 training images are given to `thanos discover`, its own test images set aside. These are placed by
what was kept, and, for comparison, clustered along with the training images (no image left out): the share
that gets the same subclass, once those of both are paired so that most agree, and adjusted mutual information with the
true classes of either. Then, how many are called nobody's: of its own test images, and of the other sets' images.

THANOS_DATA=DIR python benchmarks/new_images.py --out results/new_images.json
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from discover_sets import SETS, draw
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import adjusted_mutual_info_score

from thanos import DiscoverConfig, discover
from thanos.embeddings import Embeddings, read_embeddings
from thanos.runs.provenance import commit, hardware, versions
from thanos.storage import write_json
from thanos.subclasses.reach import fit_reach

NUMBERS = ("silhouette", "merging")


def inside(true: np.ndarray, found: np.ndarray, superclass: np.ndarray) -> float:
    """Adjusted mutual information, mean over superclasses of several classes."""
    rows = [superclass == value for value in np.unique(superclass)]
    return float(np.mean([adjusted_mutual_info_score(true[r], found[r]) for r in rows if len(np.unique(true[r])) > 1]))


def agreement(a: np.ndarray, b: np.ndarray) -> float:
    """The share of rows in paired clusters, paired so that it is largest."""
    counts = np.zeros((int(a.max()) + 1, int(b.max()) + 1))
    np.add.at(counts, (a, b), 1)
    return float(counts[linear_sum_assignment(counts, maximize=True)].sum() / len(a))


def placed(embeddings: Embeddings, true: np.ndarray, number: str) -> dict[str, float]:
    test = embeddings.rows("test")
    config = DiscoverConfig(number=number)  # type: ignore[arg-type]
    found = discover(embeddings, config)
    part = next(iter(found.standing_out))
    along = discover(
        replace(embeddings, split=np.zeros_like(embeddings.split)), config.model_copy(update={"part": part})
    )
    by_place, superclass = found.cluster[test], embeddings.superclass[test]
    return {
        "same_subclass": agreement(by_place, along.cluster[test]),
        "ami_placed": inside(true[test], by_place, superclass),
        "ami_clustered_along": inside(true[test], along.cluster[test], superclass),
        "subclasses": len(found.names),
        "subclasses_clustered_along": len(along.names),
        "test_images": len(test),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("results/new_images.json"))
    given = parser.parse_args()
    runs: dict[str, Embeddings] = {}
    content: dict[str, Any] = {"command": "python benchmarks/new_images.py", "placed": {}}
    with tempfile.TemporaryDirectory() as folder:
        for name in SETS:
            file, run = Path(folder) / f"{name}.npz", Path(folder) / name
            true, _ = draw(name, 3000, 7, file)
            words = [f"{Path(sys.executable).parent}/thanos", "discover", str(file), "-o", str(run)]
            subprocess.run(words, env=os.environ | {"THANOS_CACHE": f"{folder}/cache"}, capture_output=True, check=True)
            runs[name] = read_embeddings(run / "embeddings.npz")
            content["placed"][name] = {number: placed(runs[name], true, number) for number in NUMBERS}
            print(name, json.dumps(content["placed"][name]), flush=True)
    content["nobodys"] = {}
    for name, embeddings in runs.items():
        reach = fit_reach(embeddings)
        assert reach is not None
        rows = {"its own test images": embeddings.of("test")} | {k: v for k, v in runs.items() if k != name}
        content["nobodys"][name] = {of: float(reach.is_beyond(each.vectors).mean()) for of, each in rows.items()}
        print(name, content["nobodys"][name], flush=True)
    write_json(given.out, content | {"commit": commit(), "hardware": hardware(), "versions": versions()})


if __name__ == "__main__":
    main()
