"""Slice discovery as a rival: a mixture over vector, label and prediction (Domino) beside discovery's clusters.

Both are fitted on 80% of a draw's images and scored on the others: adjusted mutual information with the true classes,
and the F1 of each class's best cluster, mean over superclasses of several classes. Domino is given its published 25
slices, and as many as discovery found.

THANOS_DATA=DIR python benchmarks/slices.py --out results/slices.json
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from count import CHOSEN_ON, HELD_OUT, real_draw

from thanos import DiscoverConfig, discover
from thanos.embeddings import Embeddings
from thanos.errors import DataError
from thanos.evaluate.recovery import recovery_scores
from thanos.robust.infer import SLICES, Seen, mixture
from thanos.runs.provenance import commit, hardware, versions
from thanos.storage import write_json


def halved(embeddings: Embeddings, seed: int) -> Embeddings:
    """A fifth of the images held out."""
    split = (np.random.default_rng(seed).random(len(embeddings)) < 0.2).astype(np.int8)
    return replace(embeddings, split=split)


def scored(found: np.ndarray, true: np.ndarray, superclass: np.ndarray) -> dict[str, float]:
    several = np.isin(superclass, [v for v in np.unique(superclass) if len(np.unique(true[superclass == v])) > 1])
    result = recovery_scores(found[several], true[several], superclass[several])
    assert result is not None
    return {"ami": result.adjusted_mutual_information, "f1": result.macro_f1, "clusters": len(np.unique(found))}


def row(embeddings: Embeddings, true: np.ndarray, seed: int) -> dict[str, dict[str, float]]:
    embeddings = halved(embeddings, seed)
    held_out = embeddings.in_split("validation")
    mine, fine, home = {}, true[held_out], embeddings.superclass[held_out]
    for number in ("merging", "silhouette"):
        found = discover(embeddings, DiscoverConfig(number=number))  # type: ignore[arg-type]
        mine[f"discover, {number}"] = scored(found.cluster[held_out], fine, home)
        if number == "merging":
            same = len(found.names)
    seen = Seen.of(embeddings, seed)
    mine["one cluster"] = scored(home, fine, home)
    for name, count in ((f"mixture, {SLICES} slices", SLICES), ("mixture, as many", same)):
        try:
            mine[name] = scored(mixture(seen, count).held_out, fine, home)
        except DataError:  # it finds one group in each superclass
            mine[name] = mine["one cluster"]
    shuffled = found.cluster[held_out].copy()
    rng = np.random.default_rng(seed)
    for value in np.unique(home):
        shuffled[home == value] = rng.permutation(shuffled[home == value])
    mine["discover, silhouette, shuffled"] = scored(shuffled, fine, home)
    return mine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("results/slices.json"))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--runs", type=Path, help="where draws of the real sets and runs on them lie, or go")
    given = parser.parse_args()
    sets: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.runs or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for name in CHOSEN_ON + HELD_OUT:
            for seed in range(given.seeds):
                for part, (embeddings, true) in real_draw(name, seed, folder).items():
                    rows = sets.setdefault(f"{name}, {part}", [])
                    rows.append(row(embeddings, true, seed))
                    print(name, part, seed, {way: round(each["ami"], 3) for way, each in rows[-1].items()}, flush=True)
    ways = {
        way: {
            score: float(np.mean([np.mean([each[way][score] for each in rows]) for rows in sets.values()]))
            for score in ("ami", "f1", "clusters")
        }
        for way in next(iter(sets.values()))[0]
    }
    facts = {"command": f"python benchmarks/slices.py --seeds {given.seeds}", "seeds": given.seeds, "commit": commit()}
    write_json(
        given.out, {"mean over sets": ways, "sets": sets, **facts, "versions": versions(), "hardware": hardware()}
    )


if __name__ == "__main__":
    main()
