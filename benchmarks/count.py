"""How many clusters: merging against the silhouette, on clouds of one piece, worlds of known number and real sets.

nulls    300 clouds of one piece, 50 to 5,000 points of 2 to 1,280 dimensions: how many are cut (the silhouette: on
         every third one); and 1,000 points beside 20 far ones.
worlds   1 to 30 kinds at three separations, named by what k-means started from the true means tells of them: the
         number right or off by one, and adjusted mutual information.
real     frozen features and the head of `thanos discover`, --seeds draws of each set: adjusted mutual information at
         the chosen number against that at the true one, mean over superclasses; settings were
         chosen on digits, cifar10 and gtsrb.
unequal  2 to 16 clouds, four standard deviations of each apart at least, of unlike widths (log-normal, 0.5).
rivals   gap statistic, prediction strength, BIC of normal and von Mises-Fisher mixtures, HDBSCAN (benchmarks/rivals.py)
         beside both on every ninth null cloud, the first worlds of each number at the middle separation, and one draw
         of the real sets.
speed    of `thanos split`.
holds    of subclasses with a stated probability, the share that a fresh draw has too (worlds, and halves of real sets).

THANOS_DATA=DIR python benchmarks/count.py --out results/count.json
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from discover_sets import draw
from rivals import RIVALS, clusters
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_mutual_info_score as ami

from thanos import DiscoverConfig, discover
from thanos.embeddings import Embeddings, read_embeddings
from thanos.runs.provenance import commit, hardware, versions
from thanos.storage import write_json
from thanos.subclasses.stability import HELD, best_overlaps

NUMBERS = ("merging", "silhouette")
PARTS = ("nulls", "worlds", "unequal", "real", "rivals", "holds", "speed")
CHOSEN_ON, HELD_OUT = ("digits", "cifar10", "gtsrb"), ("cifar100", "grocery", "ham10000")
KINDS = (1, 2, 3, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 25, 26, 27, 28, 29, 30)
WORLDS = 3
"""Of each number of kinds. Settings were chosen on others, of the seeds (77, i) and (78, i)."""
SEPARATIONS = {"close": 0.7, "middle": 0.9, "far": 0.985}
FAMILIES = (
    "normal",
    "uniform",
    "elongated",
    "heavy-tailed",
    "exponential",
    "lognormal",
    "2% far outliers",
    "turned box",
)


def of(x: np.ndarray, superclass: np.ndarray | None = None) -> Embeddings:
    kinds = np.zeros(len(x), dtype=np.int64) if superclass is None else superclass
    names = tuple(f"s{value}" for value in range(int(kinds.max()) + 1))
    split = np.zeros(len(x), dtype=np.int8)
    return Embeddings(vectors=x.astype(np.float32), superclass=kinds, superclass_names=names, split=split)


def labels(x: np.ndarray, **settings: Any) -> np.ndarray:
    return discover(of(x), DiscoverConfig(length="own", **settings)).cluster


def cloud(family: str, rng: np.random.Generator) -> np.ndarray:
    n, d = (int(np.exp(rng.uniform(np.log(a), np.log(b)))) for a, b in ((50, 5000), (2, 1280)))
    normal = rng.normal(size=(n, d))
    if family == "normal":
        return normal
    if family == "uniform":
        return rng.random((n, d))
    if family == "elongated":
        return normal * np.exp(rng.normal(size=d))
    if family == "heavy-tailed":
        return rng.standard_t(3, (n, d))
    if family == "exponential":
        return rng.exponential(size=(n, d))
    if family == "lognormal":
        return rng.lognormal(sigma=0.7, size=(n, d))
    if family == "turned box":
        return rng.random((n, d)) @ rng.normal(size=(d, d))
    return normal * np.where(rng.random((n, 1)) < 0.02, 6, 1)


def nulls() -> dict[str, Any]:
    cut: dict[str, Any] = {number: {family: [0, 0] for family in FAMILIES} for number in NUMBERS}
    for i in range(300):
        family = FAMILIES[i % len(FAMILIES)]
        x = cloud(family, np.random.default_rng((11, i)))
        for number in NUMBERS if i % 3 == 0 else NUMBERS[:1]:
            cut[number][family][0] += int(labels(x, number=number).max() > 0)
            cut[number][family][1] += 1
    beside = {}
    for d in (2, 10, 32, 200):
        x = np.random.default_rng((5, d)).normal(size=(1020, d))
        x[:20] = 0.5 * x[:20] + 20 * np.eye(d)[0]
        beside[str(d)] = {number: sorted(np.bincount(labels(x, number=number)).tolist()) for number in NUMBERS}
    share = {number: [sum(each) for each in zip(*cut[number].values(), strict=True)] for number in NUMBERS}
    return {"cut_of": cut, "all": share, "1,000 beside 20 far, sizes found by dimension": beside}


def world(kinds: int, told: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Clouds of unequal size and shape, so far apart that k-means of their number, started from their means, tells them
    with an AMI of ``told``.
    """
    dim, each = int(rng.integers(10, 201)), int(np.exp(rng.uniform(np.log(30), np.log(300))))
    kind = rng.choice(kinds, kinds * each, p=rng.dirichlet(np.full(kinds, 8.0)))
    means = rng.normal(size=(kinds, dim))
    scale = np.exp(0.25 * rng.normal(size=(kinds, dim)))
    noise = rng.normal(size=(len(kind), dim)) * scale[kind]
    low, high = 0.02, 20.0
    for _ in range(14 if kinds > 1 else 1):
        far = np.sqrt(low * high)
        x = far * means[kind] + noise
        few = PCA(min(32, dim), random_state=0).fit_transform(x)  # as discovery reduces
        present, member = np.unique(kind, return_inverse=True)
        centres = np.stack([few[member == i].mean(axis=0) for i in range(len(present))])
        near = KMeans(len(present), init=centres, n_init=1).fit_predict(few)
        low, high = (far, high) if ami(kind, near) < told else (low, far)
    return x, kind


def worlds() -> dict[str, Any]:
    table: dict[str, Any] = {}
    for name, told in SEPARATIONS.items():
        rows = []
        for i, kinds in enumerate(KINDS * WORLDS):
            x, kind = world(kinds, told, np.random.default_rng((23, i)))
            row: dict[str, Any] = {"kinds": len(np.unique(kind)), "points": len(x), "dim": x.shape[1]}
            for number in NUMBERS:
                found = labels(x, number=number)
                row[number] = {"clusters": int(found.max()) + 1, "ami": ami(kind, found)}
            row["true number"] = {"ami": ami(kind, labels(x, clusters=kinds))}
            rows.append(row)
        table[name] = {"worlds": rows}
        for number in NUMBERS:
            near = [abs(row[number]["clusters"] - row["kinds"]) <= 1 for row in rows]
            many = [row[number]["ami"] for row in rows if row["kinds"] > 1]
            table[name][number] = {"within_one": float(np.mean(near)), "ami": float(np.mean(many))}
        table[name]["true number"] = {"ami": float(np.mean([r["true number"]["ami"] for r in rows if r["kinds"] > 1]))}
        print(name, {k: v for k, v in table[name].items() if k != "worlds"}, flush=True)
    return table


def unequal() -> dict[str, Any]:
    """Settings were chosen on others, of the seeds (91, i)."""
    rows = []
    for i, (kinds, dim) in enumerate([*itertools.product((2, 4, 8, 16), (3, 12, 40))] * 4):
        rng = np.random.default_rng((92, i))
        each = int(np.exp(rng.uniform(np.log(40), np.log(300))))
        kind = rng.choice(kinds, kinds * each, p=rng.dirichlet(np.full(kinds, 8.0)))
        width, means = np.exp(0.5 * rng.normal(size=kinds)), rng.normal(size=(kinds, dim))
        far = np.linalg.norm(means[:, None] - means, axis=2) / (width[:, None] + width)
        means *= 4 / far[np.triu_indices(kinds, 1)].min()
        x = means[kind] + width[kind][:, None] * rng.normal(size=(len(kind), dim))
        found = {number: labels(x, number=number) for number in NUMBERS}
        rows.append(
            {"kinds": len(np.unique(kind)), "points": len(x), "dim": dim}
            | {
                number: {"clusters": int(found[number].max()) + 1, "ami": ami(kind, found[number])}
                for number in NUMBERS
            }
        )
    table: dict[str, Any] = {"worlds": rows}
    for number in NUMBERS:
        off = np.array([abs(row[number]["clusters"] - row["kinds"]) for row in rows])
        score = float(np.mean([row[number]["ami"] for row in rows]))
        table[number] = {"right": float(np.mean(off == 0)), "within_one": float(np.mean(off <= 1)), "ami": score}
    return table


def real_draw(name: str, seed: int, folder: Path) -> dict[str, tuple[Embeddings, np.ndarray]]:
    """By part of the embedding, what is clustered and the true classes."""
    if name == "digits":
        digits = load_digits()
        rows = np.random.default_rng(seed).permutation(len(digits.data))[:1500]
        return {"pixels": (of(digits.data[rows], digits.target[rows] % 2), digits.target[rows])}
    file, run = folder / f"{name}-{seed}.npz", folder / f"{name}-{seed}"
    true, _ = draw(name, 3000, 100 + seed, file)
    if not run.is_dir():
        words = [f"{Path(sys.executable).parent}/thanos", "discover", str(file), "--seed", str(seed), "-o", str(run)]
        subprocess.run(words, env=os.environ | {"THANOS_CACHE": str(folder / "cache")}, capture_output=True, check=True)
    whole = read_embeddings(run / "embeddings.npz")
    found = {}
    for part, (first, last) in whole.columns.items():
        rows = np.flatnonzero(whole.in_split("train"))
        found[part] = (of(whole.vectors[rows, first:last], whole.superclass[rows]), true[rows])
    return found


def at_numbers(embeddings: Embeddings, true: np.ndarray) -> dict[str, Any]:
    """AMI at the number that each way chooses and at the true one, mean over superclasses of several classes."""
    found = {number: discover(embeddings, DiscoverConfig(number=number)).cluster for number in NUMBERS}  # type: ignore[arg-type]
    scores: dict[str, list[float]] = {name: [] for name in (*NUMBERS, "true number")}
    counts = []
    for value in np.unique(embeddings.superclass):
        mine = embeddings.superclass == value
        kinds = len(np.unique(true[mine]))
        if kinds < 2:
            continue
        known = discover(embeddings.take(mine), DiscoverConfig(clusters=kinds)).cluster
        for name, each in (*((number, found[number][mine]) for number in NUMBERS), ("true number", known)):
            scores[name].append(ami(true[mine], each))
        counts.append([kinds, *(len(np.unique(found[number][mine])) for number in NUMBERS)])
    means = {name: float(np.mean(each)) for name, each in scores.items()}
    shares = {number: means[number] / means["true number"] for number in NUMBERS}
    return {"ami": means, "share_of_true_number": shares, "true, merging, silhouette": counts}


def real(folder: Path, names: tuple[str, ...], seeds: int) -> dict[str, Any]:
    sets: dict[str, Any] = {}
    for name in names:
        for seed in range(seeds):
            for part, (embeddings, true) in real_draw(name, seed, folder).items():
                sets.setdefault(f"{name}, {part}", []).append(at_numbers(embeddings, true))
                print(name, part, seed, json.dumps(sets[f"{name}, {part}"][-1]["share_of_true_number"]), flush=True)
    table: dict[str, Any] = {"sets": sets}
    for title, some in (("chosen on", CHOSEN_ON), ("no part in the choice", HELD_OUT)):
        here = [each for key, each in sets.items() if key.split(",")[0] in some]
        for number in NUMBERS if here else ():
            share = [
                np.mean([e["ami"][number] for e in each]) / np.mean([e["ami"]["true number"] for e in each])
                for each in here
            ]
            table.setdefault(title, {})[number] = float(np.mean(share))
    return table


def reduced(embeddings: Embeddings, length: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """By superclass its rows, and these as discovery reduces them."""
    fitted = discover(embeddings, DiscoverConfig(clusters=1, length=length)).fitted  # type: ignore[arg-type]
    assert fitted is not None
    return [(rows, x) for _, rows, x in fitted.spaces(embeddings.vectors, embeddings.superclass)]


def by_every_way(embeddings: Embeddings, length: str) -> dict[str, np.ndarray]:
    found = {
        number: discover(embeddings, DiscoverConfig(number=number, length=length)).cluster  # type: ignore[arg-type]
        for number in NUMBERS
    }
    for way in RIVALS:
        mine = np.zeros(len(embeddings), dtype=np.int64)
        for rows, x in reduced(embeddings, length):
            mine[rows] = clusters(way, x, np.random.default_rng(0))
        found[way] = mine
    return found


def rivals(folder: Path) -> dict[str, Any]:
    ways = (*NUMBERS, *RIVALS)
    cut, near, told = dict.fromkeys(ways, 0), dict.fromkeys(ways, 0), {way: [] for way in ways}  # type: ignore[var-annotated]
    clouds = range(0, 300, 9)
    for i in clouds:
        for way, found in by_every_way(of(cloud(FAMILIES[i % 8], np.random.default_rng((11, i)))), "own").items():
            cut[way] += int(len(np.unique(found)) > 1)
    for i, kinds in enumerate(KINDS):
        x, kind = world(kinds, SEPARATIONS["middle"], np.random.default_rng((23, i)))
        for way, found in by_every_way(of(x), "own").items():
            near[way] += int(abs(len(np.unique(found)) - len(np.unique(kind))) <= 1)
            if kinds > 1:
                told[way].append(ami(kind, found))
        print(kinds, near, flush=True)
    shares: dict[str, dict[str, float]] = {}
    for name in CHOSEN_ON + HELD_OUT:
        for part, (embeddings, true) in real_draw(name, 0, folder).items():
            score: dict[str, list[float]] = {}
            found = by_every_way(embeddings, "unit")
            for value in np.unique(embeddings.superclass):
                mine = embeddings.superclass == value
                if (kinds := len(np.unique(true[mine]))) > 1:
                    known = discover(embeddings.take(mine), DiscoverConfig(clusters=kinds)).cluster
                    for way, each in (found | {"true number": found[NUMBERS[0]]}).items():
                        label = known if way == "true number" else each[mine]
                        score.setdefault(way, []).append(ami(true[mine], label))
            whole = np.mean(score.pop("true number"))
            shares[f"{name}, {part}"] = {way: float(np.mean(each) / whole) for way, each in score.items()}
            print(name, part, shares[f"{name}, {part}"], flush=True)
    return {
        way: {
            "clouds_cut": [cut[way], len(clouds)],
            "within_one": near[way] / len(KINDS),
            "ami": float(np.mean(told[way])),
            "share_of_true_number": {
                title: float(np.mean([each[way] for key, each in shares.items() if key.split(",")[0] in some]))
                for title, some in (("chosen on", CHOSEN_ON), ("no part in the choice", HELD_OUT))
            },
            "by_set": {key: each[way] for key, each in shares.items()},
        }
        for way in ways
    }


def held_again(x: np.ndarray, y: np.ndarray) -> list[tuple[float, bool]]:
    """Of each subclass found in x what is stated, and whether y, clustered by itself, has it too."""
    config = DiscoverConfig(number="merging", length="own")
    first, second = discover(of(x), config), discover(of(y), config)
    if len(first.names) < 2:
        return []
    stated = [first.superclasses["s0"]["holds"][name] for name in first.names]
    assert second.fitted is not None
    again = second.fitted.predict(x.astype(np.float32), np.zeros(len(x), dtype=np.int64))[0]
    return list(zip(stated, (best_overlaps(first.cluster, again, len(first.names)) > HELD).tolist(), strict=True))


def holds(folder: Path, names: tuple[str, ...]) -> dict[str, Any]:
    pairs: list[tuple[float, bool]] = []
    for i in range(60):
        rng = np.random.default_rng((31, i))
        x, _ = world(int(rng.integers(2, 26)), float(rng.choice([0.5, 0.7, 0.9])), rng)
        order = rng.permutation(len(x))
        pairs += held_again(x[order[: len(x) // 2]], x[order[len(x) // 2 :]])
    of_worlds = len(pairs)
    for name in names:
        for embeddings, _ in real_draw(name, 0, folder).values():
            for value in np.unique(embeddings.superclass):
                x = embeddings.vectors[embeddings.superclass == value]
                order = np.random.default_rng(int(value)).permutation(len(x))
                pairs += held_again(x[order[: len(x) // 2]], x[order[len(x) // 2 :]])
    edges = [0, 0.2, 0.4, 0.6, 0.8, 0.95, 1.01]
    stated, held = np.array([a for a, _ in pairs]), np.array([b for _, b in pairs])
    bins = []
    for low, high in itertools.pairwise(edges):
        here = (stated >= low) & (stated < high)
        if here.any():
            bins.append(
                {"stated": float(stated[here].mean()), "held": float(held[here].mean()), "subclasses": int(here.sum())}
            )
    return {"bins": bins, "subclasses": len(pairs), "of worlds": of_worlds}


def plot(bins: list[dict[str, float]], file: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.4, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="0.6", linestyle=":")
    axes.plot([b["stated"] for b in bins], [b["held"] for b in bins], marker="o", color="#0072b2")
    for b in bins:
        axes.annotate(
            f"{b['subclasses']:.0f}", (b["stated"], b["held"]), textcoords="offset points", xytext=(6, -10), fontsize=8
        )
    axes.set_xlabel("stated probability that a subclass holds")
    axes.set_ylabel("share that a fresh draw has too")
    axes.grid(alpha=0.3)
    figure.savefig(file, dpi=150)


def speed(folder: Path) -> dict[str, Any]:
    """`thanos split` on files of vectors, two superclasses of six kinds: seconds, and the peak of resident memory."""
    found = {}
    for count in (5000, 1_000_000):
        rng = np.random.default_rng(0)
        kind = rng.integers(0, 12, count)
        centres = 2 * rng.standard_normal((12, 128), dtype=np.float32)
        np.save(folder / "x.npy", centres[kind] + rng.standard_normal((count, 128), dtype=np.float32))
        np.save(folder / "y.npy", kind // 6)
        words = [f"{Path(sys.executable).parent}/thanos", "split", str(folder / "x.npy")]
        started = time.perf_counter()
        process = subprocess.Popen([*words, "--labels", str(folder / "y.npy")], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        said = process.stdout.read().splitlines()
        _, _, used = os.wait4(process.pid, 0)
        found[f"{count:,} x 128"] = {
            "seconds": time.perf_counter() - started,
            "peak_gib": used.ru_maxrss / 2**20,
            "said": [line for line in said if "subclasses of" in line],
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("results/count.json"))
    parser.add_argument("--part", action="append", choices=PARTS)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--runs", type=Path, help="where draws of the real sets and runs on them lie, or go")
    given = parser.parse_args()
    parts = given.part or PARTS
    content: dict[str, Any] = json.loads(given.out.read_text()) if given.out.is_file() else {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.runs or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for part in parts:
            started = time.perf_counter()
            if part == "real":
                content[part] = real(folder, CHOSEN_ON + HELD_OUT, given.seeds)
            elif part == "rivals":
                content[part] = rivals(folder)
            elif part == "holds":
                content[part] = holds(folder, CHOSEN_ON + HELD_OUT)
                plot(content[part]["bins"], given.out.with_suffix(".png"))
            elif part == "speed":
                content[part] = speed(Path(temporary))
            else:
                content[part] = {"nulls": nulls, "worlds": worlds, "unequal": unequal}[part]()
            content[part]["seconds_of_this_part"] = round(time.perf_counter() - started)
            content[part]["commit"] = commit()
            content[part]["command"] = f"python benchmarks/count.py --part {part} --seeds {given.seeds}"
            facts = {"hardware": hardware(), "versions": versions()}
            write_json(given.out, content | facts)
            print(part, json.dumps(content[part])[:1500], flush=True)


if __name__ == "__main__":
    main()
