"""Whether the stated gain of more labels comes true: what a page says before they are there against what they bring.

Of each set 3,000 training images are drawn and as many test images (HAM10000: 2,000), all on frozen features in the
256 principal components of the training images; the classes are never used. Five subclasses are discovered in each
superclass. For ten of them, among them the one that is served worst, half of the subclass's training images lose their
labels; what `thanos.robust.next_labels` then states of k more is held against the change of a plain classifier's
accuracy on the subclass's test images, which nobody saw before, when k of those labels come back: the mean over draws
of them. The curve's form (log-odds straight by the log of the number) was chosen among four on CIFAR-10, of which a
first run was seen; the other sets had no part in it.

THANOS_DATA=DIR python benchmarks/gain.py --out results/gain.json
"""

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from discover_images import FROZEN
from discover_sets import SIDE
from sklearn.decomposition import PCA

from thanos import DataConfig, DiscoverConfig, discover, embed, load
from thanos.data.imageset import ImageSet
from thanos.embeddings import Embeddings, read_embeddings, write_embeddings
from thanos.robust.head import fit_weighted, standardise
from thanos.robust.next_labels import (
    DIMENSIONS,
    FEWEST,
    FEWEST_HELD_OUT,
    MORE,
    STRENGTHS,
    WORTH,
    extrapolated,
    left_out,
)
from thanos.robust.plain import plain_errors
from thanos.runs.encoder_io import timm_encoder
from thanos.runs.provenance import commit, hardware, versions
from thanos.storage import write_json

SETS = ("cifar10", "gtsrb", "ham10000")
IMAGES = 3000
HELD_OUT = 1 / 3
"""Share of the images that the estimate may look at, which the classifier isn't fitted on."""
BACK = 4
"""Draws of the labels that come back."""
CHOSEN_ON = ("cifar10",)
CLUSTERS, TRIED = 5, 10
"""Subclasses of a superclass; and how many subclasses are tried in each draw."""


def features(name: str, folder: Path) -> Embeddings:
    """Of the set's drawn images, in few dimensions; test images bear that split."""
    file = folder / f"{name}.npz"
    if not file.is_file():
        whole = load(DataConfig(data=name, size=SIDE.get(name, 128)))
        rng, test = np.random.default_rng(0), whole.in_split("test")
        parts = [rng.permutation(np.flatnonzero(side))[:IMAGES] for side in (~test, test)]
        write_embeddings(embedded(whole.take(np.sort(np.concatenate(parts))), folder), file)
    whole = read_embeddings(file)
    seen = whole.vectors[~whole.in_split("test")]
    axes = PCA(DIMENSIONS, random_state=0).fit(seen)
    return replace(whole, vectors=axes.transform(whole.vectors).astype(np.float32))


def embedded(images: ImageSet, folder: Path) -> Embeddings:
    """By the frozen network, as `thanos discover` brings images to it: 128 pixels."""
    np.savez(folder / "drawn.npz", images=images.images[np.arange(len(images))], superclass=images.superclass)
    larger = load(DataConfig(data=str(folder / "drawn.npz"), size=128))
    vectors = embed(timm_encoder(FROZEN, True, larger), larger).vectors
    return Embeddings(vectors=vectors, **images.labels())


def settings(name: str, whole: Embeddings, seed: int) -> list[dict[str, Any]]:
    """What is stated and what comes true, for each subclass in turn that has enough images."""
    rng = np.random.default_rng((seed, 5))
    pool = np.flatnonzero(~whole.in_split("test"))
    split = np.full(len(whole), 2, dtype=np.int8)
    split[pool] = np.where(rng.random(len(pool)) < HELD_OUT, 1, 0)  # the test images of the set are seen by nobody
    mine = replace(whole.without_hidden(), split=split)
    seen = mine.take(pool)
    fitted = discover(seen, DiscoverConfig(seed=seed, clusters=CLUSTERS))
    assert fitted.fitted is not None
    cluster = fitted.fitted.predict(mine.vectors, mine.superclass)[0]
    errors = plain_errors(seen)
    assert errors is not None
    sizes = {k: [int(((cluster == k) & (split == part)).sum()) for part in range(3)] for k in range(len(fitted.names))}
    enough = [k for k, (train, *other) in sizes.items() if train >= 2 * FEWEST and min(other) >= FEWEST_HELD_OUT]
    wrong = {k: share[0] for k in enough if (share := errors.share(np.flatnonzero(fitted.cluster == k)))}
    worst = max(wrong, key=lambda k: wrong[k])
    tried = [worst, *rng.permutation([k for k in enough if k != worst])[: TRIED - 1].tolist()]
    strength, rows = chosen_strength(seen), []
    for number in tried:
        row = one(mine, cluster == number, strength, rng)
        known = {"set": name, "seed": seed, "subclass": fitted.names[number], "worst": number == worst}
        rows.append(known | {"train, held out, test": sizes[number]} | row)
        print(rows[-1], flush=True)
    return rows


def one(mine: Embeddings, meant: np.ndarray, strength: float, rng: np.random.Generator) -> dict[str, Any]:
    """Half of a subclass's training images lose their labels; then some come back."""
    train = np.flatnonzero(meant & mine.in_split("train"))
    hidden = rng.permutation(train)[len(train) // 2 :]
    left = np.setdiff1d(np.flatnonzero(~mine.in_split("test")), hidden)
    more = min(MORE, len(hidden), len(train) - len(hidden))
    started = time.perf_counter()
    right_without = left_out(mine.take(left), meant[left])
    seconds = time.perf_counter() - started
    stated = extrapolated(right_without, len(train) - len(hidden), more)
    labelled = np.setdiff1d(np.flatnonzero(mine.in_split("train")), hidden)
    test = np.flatnonzero(meant & mine.in_split("test"))
    data = standardise(mine.vectors[labelled], mine.superclass[labelled], len(mine.superclass_names))
    before = fit_weighted(data, None, strength)
    right = before.predict(mine.vectors[test]) == mine.superclass[test]
    rises = []
    for _ in range(BACK):
        rows = np.concatenate([labelled, rng.permutation(hidden)[:more]])
        again = standardise(mine.vectors[rows], mine.superclass[rows], len(mine.superclass_names))
        now = fit_weighted(again, None, strength, start=before)
        rises.append((now.predict(mine.vectors[test]) == mine.superclass[test]).astype(float) - right)
    rise = np.mean(rises, axis=0)  # of each test image
    error = float(np.sqrt(((rise - rise.mean()) ** 2).sum() + 1) / len(test))
    return {
        "labelled": len(train) - len(hidden),
        "more": more,
        "accuracy_by_share_kept": right_without.mean(axis=(0, 2)).round(4).tolist(),
        "stated": stated.gain,
        "interval": list(stated.interval),
        "came_true": float(rise.mean()),
        "its_standard_error": error,
        "accuracy_before": float(right.mean()),
        "seconds_of_the_estimate": round(seconds, 2),
    }


def chosen_strength(seen: Embeddings) -> float:
    """The penalty of the plain classifier, by the held-out images."""
    train, held = seen.of("train"), seen.of("validation")
    data = standardise(train.vectors, train.superclass, len(seen.superclass_names))
    score, head = {}, None
    for strength in sorted(STRENGTHS, reverse=True):
        head = fit_weighted(data, None, strength, start=head)
        score[strength] = float((head.predict(held.vectors) == held.superclass).mean())
    return max(score, key=lambda strength: score[strength])


def judged(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Coverage of the intervals, and how far what is stated is off."""
    if not rows:
        return {}
    stated, true = (np.array([row[key] for row in rows]) for key in ("stated", "came_true"))
    low, high = np.array([row["interval"] for row in rows]).T
    error = np.array([row["its_standard_error"] for row in rows])
    half = (high - low) / 2
    with_its_own = np.sqrt((half / 1.96) ** 2 + error**2) * 1.96  # a measured truth is off by itself
    large = stated >= WORTH
    return {
        "settings": len(rows),
        "stated, mean": float(stated.mean()),
        "came true, mean": float(true.mean()),
        "of stated gains of half a point and more: settings": int(large.sum()),
        "their mean": float(stated[large].mean()) if large.any() else None,
        "their truth, mean": float(true[large].mean()) if large.any() else None,
        "slope of the truth by what is stated": float((stated @ true) / (stated @ stated)),
        "correlation": float(np.corrcoef(stated, true)[0, 1]),
        "interval, mean half width": float(half.mean()),
        "covered by 95% intervals": float(((true >= low) & (true <= high)).mean()),
        "covered, the truth's own error allowed for": float((np.abs(true - stated) <= with_its_own).mean()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("results/gain.json"))
    parser.add_argument("--folder", type=Path, help="keeps features between runs")
    parser.add_argument("--set", action="append", choices=SETS)
    parser.add_argument("--seeds", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(1)
    kept = json.loads(given.out.read_text())["settings"] if given.out.is_file() else []
    rows: list[dict[str, Any]] = [row for row in kept if row["set"] not in (given.set or SETS)]
    with tempfile.TemporaryDirectory() as temporary:
        for name in given.set or SETS:
            whole = features(name, given.folder or Path(temporary))
            for seed in range(given.seeds):
                rows += settings(name, whole, seed)
                write(rows, given.out)


def write(rows: list[dict[str, Any]], out: Path) -> None:
    """The record: what was measured so far, and how well calibrated it is."""
    table = {name: judged([row for row in rows if row["set"] == name]) for name in SETS}
    others = [row for row in rows if row["set"] not in CHOSEN_ON]
    table |= {"sets without part in the choice": judged(others)}
    table |= {"the worst of each draw": judged([row for row in rows if row["worst"]])}
    facts = {"command": "python benchmarks/gain.py", "seeds": sorted({row["seed"] for row in rows})}
    facts |= {"commit": commit(), "hardware": hardware(), "versions": versions()}
    write_json(out, {"calibration": table, "settings": rows} | facts)
    print(table, flush=True)


if __name__ == "__main__":
    main()
