"""Which head on frozen features `thanos discover` trains: chosen without a fine label, by how alike its clusters are.

So many training images of a set are split in halves; on each half a head is trained, its embedding clustered (five in
each superclass, k-means fitted on that half), and both clusterings are applied to all images. Printed for every head:
the adjusted mutual information between the two (mean over superclasses), how far clusters stand out from clouds
without any (as `thanos discover` measures it), and the superclass accuracy of neighbours on the other half. The
features themselves, standardised, are the first row. Fine labels are scored last, into the same file.

THANOS_DATA=DIR python benchmarks/head_study.py --out results/head_study.json
"""

import argparse
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from discover_images import FROZEN
from sklearn.metrics import adjusted_mutual_info_score
from torch.nn.functional import normalize

from thanos import DataConfig, DiscoverConfig, RunConfig, TrainConfig, discover, embed, load, recovery_scores, train
from thanos.data.features import FeatureSet
from thanos.embeddings import concat_embeddings, labelled
from thanos.evaluate.knn import neighbour_vote
from thanos.runs.provenance import commit, hardware, versions
from thanos.storage import write_json
from thanos.subclasses.discovery import standing_out
from thanos.training.frozen import backbone_of, features_of, of_head

BASE = TrainConfig(encoder=FROZEN, pretrained=True, frozen=True, size=128, frozen_views=0, head="mlp-256-128",
                   feature_dropout=0.5, alpha="follow")  # fmt: skip
HEADS: dict[str, dict[str, Any]] = {
    "thanos": {"method": "thanos"},
    "spread": {"method": "spread"},
    "spread, neighbours": {"method": "spread", "feature_neighbours": 10},
    "spread, light": {"method": "spread", "classify_weight": 0.2},
    "spread, neighbours, light": {"method": "spread", "feature_neighbours": 10, "classify_weight": 0.2},
    "thanos, neighbours, light": {"method": "thanos", "feature_neighbours": 10, "classify_weight": 0.2},
}
STEPS, FIVE = 750, DiscoverConfig(clusters=5)


def quiet(line: str) -> None: ...


def one_split(data: FeatureSet, half: np.ndarray) -> FeatureSet:
    """Trained on this half, watched on the other."""
    return replace(data, split=np.where(half, 0, 1).astype(np.int8))


def embedded(data: FeatureSet, change: dict[str, Any] | None, seed: int) -> Any:
    """By a head that was trained on the training rows; None: the standardised features."""
    if change is None:
        mean, std = (np.array(each, dtype=np.float32) for each in data.mean_std)
        return labelled((data.vectors - mean) / std, data)
    rows = len(data.rows("train"))
    config = BASE.model_copy(update={**change, "seed": seed, "batch": min(128, rows // 8)})
    config = config.model_copy(update={"epochs": max(1, round(STEPS / (rows // config.batch)))})
    features = replace(data, views=data.views.model_copy(update={"neighbours": config.feature_neighbours}))
    with tempfile.TemporaryDirectory() as folder:
        run = train(of_head(config), Path(folder) / "run", images=features, run=RunConfig(quiet=True), say=quiet)
    return embed(run.encoder, data)


def row_of(data: FeatureSet, change: dict[str, Any] | None, half: np.ndarray) -> dict[str, float]:
    assert data.subclass is not None
    found, far, told = [], [], []
    for seed, mine in enumerate((half, ~half)):
        here = one_split(data, mine)
        vectors = concat_embeddings(embedded(here, change, seed))
        found.append(discover(vectors, FIVE).cluster)
        far.append(standing_out(discover(vectors)))
        rows, kinds = (torch.from_numpy(each) for each in (vectors.vectors, vectors.superclass))
        rows, known = normalize(rows, dim=1), torch.from_numpy(mine)
        told.append(
            float((neighbour_vote(rows[~known], rows[known], kinds[known], 10) == kinds[~known]).float().mean())
        )
    alike = [
        adjusted_mutual_info_score(*(each[data.superclass == value] for each in found))
        for value in np.unique(data.superclass)
    ]
    fine = [recovery_scores(each, data.subclass, data.superclass) for each in found]
    return {
        "alike": float(np.mean(alike)),
        "standing_out": float(np.mean(far)),
        "superclass_accuracy": float(np.mean(told)),
        "fine": float(np.mean([each.adjusted_mutual_information for each in fine if each is not None])),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", action="append", help="default: cifar10, cifar100, ham10000")
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
    table: dict[str, Any] = {}
    for name in given.set or ("cifar10", "cifar100", "ham10000"):
        images = load(DataConfig(data=name, size=128))
        whole = features_of(BASE, images, backbone_of(BASE, images, quiet), quiet)
        rng = np.random.default_rng(10)
        data = whole.take(np.sort(rng.permutation(whole.rows("train"))[: given.images]))
        half, table[name] = rng.random(len(data)) < 0.5, {}
        for head, change in {"features": None, **HEADS}.items():
            table[name][head] = row = row_of(data, change, half)
            shown = ", ".join(f"{key} {value:.3f}" for key, value in row.items() if key != "fine")
            print(f"{name:<10} {head:<28} {shown}", flush=True)
    facts = {"command": "python benchmarks/head_study.py " + " ".join(sys.argv[1:]), "table": table}
    write_json(given.out, facts | {"commit": commit(), "hardware": hardware(), "versions": versions()})


if __name__ == "__main__":
    main()
