"""Why a worst group comes out as it does: what the clusters find, and what is owed to clusters and what to embedding.

For every embedding of Table 4 and several clusterings: how well clusters recover the true groups, and the true
subclasses where they are something else, beside one cluster a superclass. With --heads also, for every embedding as
the source of the clusters and every one as what the head stands on, the worst group under GroupDRO. From finished
trainings:

THANOS_DATA=DIR python benchmarks/table4_causes.py --work runs/table4/cpu --dataset coloured-digits-medium --seed 0

For a set with a rare subclass: its F1 with many clusters, beside the same clusters shuffled, for among many small ones
some hold a few rare images by chance.
"""

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np

from thanos.config import DiscoverConfig, RobustConfig
from thanos.data.load import load
from thanos.embeddings import Embeddings
from thanos.evaluate.recovery import recovery_scores
from thanos.reproduce.records import Places
from thanos.reproduce.scale import load_scale
from thanos.reproduce.score import row_embeddings
from thanos.reproduce.table4 import CLUSTERS, HARDNESS, ROWS
from thanos.robust.stage import find_groups, make_robust
from thanos.runs.provenance import commit, hardware, versions
from thanos.storage import write_json
from thanos.subclasses.discovery import discover

SOURCES = ("george", "supcon", "spread", "thanos")
CLUSTERINGS = {
    "components, k-means, 2 or more (table 4)": CLUSTERS,
    "hardness, mixture (George on Waterbirds)": HARDNESS,
}
MANY, SEEDS = (20, 40, 80), 5
"""Clusters in each superclass, where one of its subclasses is rare."""
DRO = RobustConfig(method="groupdro", groups="discovered")


def many_clusters(known: Embeddings) -> dict[str, Any]:
    """F1 of the smallest true subclass, training images; mean over seeds of k-means."""
    assert known.subclass is not None
    train = known.of("train")
    assert train.subclass is not None
    sizes = np.bincount(train.subclass)
    rare = known.subclass_names[int(np.where(sizes > 0, sizes, sizes.max()).argmin())]
    scores: dict[str, Any] = {"subclass": rare, "images": int(sizes.min())}
    for count in MANY:
        f1, by_chance = [], []
        for seed in range(SEEDS):
            blind = train.without_hidden()
            found = discover(blind, DiscoverConfig(clusters=count, seed=seed)).cluster
            scored = recovery_scores(found, train.subclass, train.superclass, train.subclass_names)
            f1.append(scored.best_f1[rare])
            by_chance.append(scored.shuffled.best_f1[rare])
        scores[f"{count} clusters"] = {"f1": float(np.mean(f1)), "shuffled": float(np.mean(by_chance))}
    return scores


def measure(dataset: str, seed: int, scale: str, places: Places, heads: bool) -> dict[str, Any]:
    base = load_scale(scale).base(dataset, seed)
    images = load(base)
    embeddings: dict[str, Embeddings] = {}
    for name in (*SOURCES, "random encoder", "supcon + supcon") if dataset.startswith("rare") else SOURCES:
        folders = tuple(places.run_folder(part.config(base)) for part in ROWS[name].parts)
        if not all((folder / "model.safetensors").is_file() for folder in folders):
            continue
        embeddings[name] = row_embeddings(ROWS[name], base, folders, images)
    if dataset.startswith("rare"):
        found = {name: many_clusters(each) for name, each in embeddings.items()}
        for name, scores in found.items():
            print(f"{dataset} {seed} {name}: {scores}", flush=True)
        return {"rare subclass": found}
    blind = {name: each.without_hidden() for name, each in embeddings.items()}
    recovered, crossed = {}, {}
    for source, known in embeddings.items():
        train = known.in_split("train")
        for name, clustering in CLUSTERINGS.items():
            found = find_groups(blind[source], clustering).cluster[train]
            scores = {}
            for kind, true in (("groups", known.group), ("subclasses", known.subclass)):
                if true is not None:
                    all_of_it = recovery_scores(found, true[train], known.superclass[train])
                    one = all_of_it.one_cluster
                    scores[kind] = {
                        "macro_f1": all_of_it.macro_f1,
                        "rarest_f1": all_of_it.rarest_f1.mean,
                        "one_cluster": {"macro_f1": one.macro_f1, "rarest_f1": one.rarest_f1.mean},
                    }
            recovered[f"{source}, {name}"] = scores
            shown = {kind: round(score["macro_f1"], 3) for kind, score in scores.items()}
            print(f"{dataset} {seed} {source}, {name}: {shown}", flush=True)
    for source in SOURCES if heads else ():
        groups = find_groups(blind[source], CLUSTERS)
        for stood_on, each in embeddings.items():
            worst = make_robust(each, DRO, discovered=groups).scores.groups.worst_group.accuracy
            crossed[f"{source} -> {stood_on}"] = worst
            print(f"{dataset} {seed} clusters of {source}, head on {stood_on}: {worst:.3f}", flush=True)
    return {"recovery": recovered} | ({"worst group, clusters of -> head on": crossed} if heads else {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="where table 4's trainings are")
    parser.add_argument("--dataset", action="append", required=True)
    parser.add_argument("--seed", type=int, action="append", required=True)
    parser.add_argument("--scale", default="cpu")
    parser.add_argument("--heads", action="store_true", help="also heads: minutes")
    parser.add_argument("--out", type=Path, default=Path("results/table4_causes.json"))
    given = parser.parse_args()
    kept = json.loads(given.out.read_text("utf-8"))["measured"] if given.out.is_file() else {}
    for dataset in given.dataset:
        for seed in given.seed:
            found = measure(dataset, seed, given.scale, Places(given.work, Path()), given.heads)
            kept[f"{dataset}, seed {seed}"] = found | {"command": f"python {shlex.join(sys.argv)}"}
            facts = {"commit": commit(), "hardware": hardware(), "versions": versions()}
            write_json(given.out, {**facts, "measured": kept})


if __name__ == "__main__":
    main()
