"""What a worst group owes to the clusters and what to the embedding, and how much hangs on the clustering.

For every embedding of Table 4 as the source of the clusters, and every one as what the head stands on: worst-group
accuracy of GroupDRO. And for every embedding and several clusterings: recovery. From finished trainings:

THANOS_DATA=DIR python benchmarks/table4_causes.py --work runs/table4/cpu --dataset dominoes-95 --seed 0
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from thanos.config import DiscoverConfig, RobustConfig
from thanos.data.load import load
from thanos.embeddings import Embeddings
from thanos.provenance import commit, hardware, versions
from thanos.reproduce.record import Places
from thanos.reproduce.scale import load_scale
from thanos.reproduce.score import row_embeddings
from thanos.reproduce.table4 import CLUSTERS, HARDNESS, RARE_CLUSTERS, ROWS
from thanos.robust.stage import find_groups, make_robust
from thanos.storage import write_json

SOURCES = ("george", "supcon", "spread", "thanos")
CLUSTERINGS = {
    "components, k-means, 2 or more (table 4)": CLUSTERS,
    "hardness, mixture (George on Waterbirds)": HARDNESS,
    "components, mixture, overcluster (George on ISIC)": RARE_CLUSTERS,
    "components, k-means, 10": DiscoverConfig(clusters=10),
}
DRO = RobustConfig(method="groupdro", groups="discovered")


def measure(dataset: str, seed: int, scale: str, places: Places) -> dict[str, Any]:
    base = load_scale(scale).base(dataset, seed)
    images = load(base)
    embeddings: dict[str, Embeddings] = {}
    for name in SOURCES:
        folders = tuple(places.run_folder(part.config(base)) for part in ROWS[name].parts)
        embeddings[name] = row_embeddings(ROWS[name], base, folders, images)
    blind = {name: replace(each, group=None, subclass=None) for name, each in embeddings.items()}
    crossed, recovered = {}, {}
    for source in SOURCES:
        found = find_groups(blind[source], CLUSTERS)
        for stood_on in SOURCES:
            scores = make_robust(embeddings[stood_on], DRO, discovered=found).scores
            crossed[f"{source} -> {stood_on}"] = scores["groups"]["worst_group"]["accuracy"]
        for name, clustering in CLUSTERINGS.items():
            outcome = make_robust(embeddings[source], DRO, discovered=find_groups(blind[source], clustering))
            train = outcome.scores["recovery"]["train"]
            recovered[f"{source}, {name}"] = {
                "macro_f1": train["macro_f1"],
                "rarest_f1": train["rarest_f1"]["mean"],
                "worst_group": outcome.scores["groups"]["worst_group"]["accuracy"],
            }
            print(f"{dataset} {seed} {source}, {name}: {recovered[f'{source}, {name}']}", flush=True)
    given = RobustConfig(method="groupdro", groups="given")
    true = {n: make_robust(e, given).scores["groups"]["worst_group"]["accuracy"] for n, e in embeddings.items()}
    return {"clusters_of -> head_on": crossed, "clusterings": recovered, "true_groups": true}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="where table 4's trainings are")
    parser.add_argument("--dataset", action="append", required=True)
    parser.add_argument("--seed", type=int, action="append", required=True)
    parser.add_argument("--scale", default="cpu")
    parser.add_argument("--out", type=Path, default=Path("results/table4_causes.json"))
    given = parser.parse_args()
    kept = json.loads(given.out.read_text("utf-8"))["measured"] if given.out.is_file() else {}
    for dataset in given.dataset:
        for seed in given.seed:
            kept[f"{dataset}, seed {seed}"] = measure(dataset, seed, given.scale, Places(given.work, Path()))
            facts = {"commit": commit(), "hardware": hardware(), "versions": versions()}
            write_json(given.out, {"command": __doc__.strip().splitlines()[-1], **facts, "measured": kept})


if __name__ == "__main__":
    main()
