"""How good the head is that the portfolio's rule picks without group labels, on worlds with a shortcut.

A world is Gaussian: some directions hold the class, others an attribute that goes with it in training, or does not.
They differ in how wide the attribute is beside the class, how closely it goes with it, dimensions, images, classes,
wrong labels. The rule was made on worlds of odd number (those below 240); those of even number below 40 are reported,
with --worlds more even ones beside, and the odd ones below 40 apart. With --celeba (an .npz of
benchmarks/portfolio_sets.py) and --attributes (list_attr_celeba.txt) pairs of CelebA's attributes stand beside, one as
superclass, one that goes with it as the shortcut: of those drawn the first 40 helped to settle the rule, 40 others,
which share no pair with them, are reported. Scores are worst-group accuracies of 6,000 test
images, balanced over groups. Regret, in points: against the best single candidate (the one of highest mean over the
same worlds; where it could not be made, plain ERM stands in), against the best candidate of each world, and against
plain ERM (the strength of highest validation accuracy). The pick can be the mean of several candidates, and then better
than any. With --few the same worlds stand beside with 150, 300 or 500 training images and half as many for validation.
With --embeddings NAME=FILE (an .npz with the three splits and group; the same NAME for several seeds) sets
stand beside (benchmarks/portfolio_sets.py makes some). What the file of --out holds is not measured again.

python benchmarks/portfolio.py --worlds 120 --few --celeba celeba-0.npz --attributes list_attr_celeba.txt \\
  --out results/portfolio.json
"""

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from thanos.embeddings import Embeddings, read_embeddings
from thanos.robust.portfolio import Portfolio, Scored, fit_portfolio
from thanos.runs.provenance import commit, hardware, versions
from thanos.storage import write_json

WORLDS, TEST = 40, 6000
PAIRS, DRAW = 40, 2026
CORRELATED, FEWEST, RAREST = (0.3, 0.25), 15, 0.08
"""Two attributes make a setting if their correlation is at least so large (of settings made on, of others), each
combination has so many training images, and the superclass so large a part."""


def world(number: int) -> tuple[Embeddings, dict[str, Any]]:
    """Vectors with splits and groups, and how they were made."""
    rng = np.random.default_rng((22, number))
    classes, dim = int(rng.choice([2, 2, 2, 2, 3])), int(rng.choice([10, 30, 80, 200]))
    n, none = int(rng.choice([1000, 2000, 4000])), rng.random() < 0.2
    correlation = 1 / classes if none else float(rng.choice([0.8, 0.9, 0.95, 0.98, 0.99]))
    core, width = float(rng.uniform(1.0, 2.2)), float(rng.choice([0.5, 1.0, 1.5, 2.5]))
    noise, nuisance = float(rng.choice([0, 0, 0.05, 0.1])), float(rng.choice([1.0, 1.0, 3.0]))
    split = np.repeat([0, 1, 2], [n, n // 4, TEST]).astype(np.int8)
    size = len(split)
    true = rng.integers(0, classes, size)
    other = (true + rng.integers(1, classes, size)) % classes
    attribute = np.where(rng.random(size) < np.where(split == 2, 1 / classes, correlation), true, other)
    axes = np.linalg.qr(rng.normal(size=(dim, dim)))[0]
    spread = np.ones(dim)
    spread[2 * classes : 2 * classes + 2] = nuisance
    corner = np.sqrt(2) * (np.eye(classes) - 1 / classes)
    x = rng.normal(size=(size, dim)) * spread
    x[:, :classes] += core * corner[true]
    x[:, classes : 2 * classes] += core * width * corner[attribute]
    wrong = (split < 2) & (rng.random(size) < noise)
    label = np.where(wrong, (true + rng.integers(1, classes, size)) % classes, true)
    embeddings = Embeddings(
        vectors=(x @ axes).astype(np.float32),
        superclass=label,
        superclass_names=tuple(map(str, range(classes))),
        split=split,
        group=label * classes + attribute,
        group_names=tuple(f"{i}/{j}" for i in range(classes) for j in range(classes)),
    )
    facts = {"classes": classes, "dim": dim, "images": n, "correlation": correlation, "core": core, "width": width}
    return embeddings, facts | {"wrong_labels": noise, "nuisance": nuisance, "shortcut": not none}


def with_few_images(number: int) -> tuple[Embeddings, dict[str, Any]]:
    """The world of that number, cut to a few hundred images."""
    embeddings, facts = world(number)
    images = int(np.random.default_rng(number).choice([150, 300, 500]))
    first = [embeddings.rows(split)[:most] for split, most in (("train", images), ("validation", images // 2))]
    rows = np.concatenate([*first, embeddings.rows("test")])
    return embeddings.take(rows), facts | {"images": images}


def pairs(celeba: Embeddings, attributes: Path) -> tuple[dict[str, Embeddings], ...]:
    """The settings that the rule was made on, and those that are reported; blond against male is a set of its own."""
    _, header, *lines = attributes.read_text().splitlines()
    names, listed = header.split(), {line.split()[0]: line.split()[1:] for line in lines}
    assert celeba.refs is not None
    has = np.array([[value == "1" for value in listed[Path(ref).name]] for ref in celeba.refs])
    order = [(a, b) for a in range(40) for b in range(40) if a != b and {names[a], names[b]} != {"Blond_Hair", "Male"}]
    np.random.default_rng(DRAW).shuffle(order)
    made: dict[tuple[int, int], Embeddings] = {}
    reported: dict[tuple[int, int], Embeddings] = {}
    for found, least_correlated in zip((made, reported), CORRELATED, strict=True):
        for a, b in order:
            group = 2 * has[:, a].astype(np.int64) + has[:, b]
            least = np.bincount(group[celeba.in_split("train")], minlength=4).min()
            correlation = abs(np.corrcoef(has[:, a], has[:, b])[0, 1])
            if least < FEWEST or correlation < least_correlated or has[:, a].mean() < RAREST:
                continue
            if len(found) < PAIRS and not {(a, b), (b, a)} & (made.keys() if found is reported else set()):
                superclass, names_of_groups = has[:, a].astype(np.int64), ("00", "01", "10", "11")
                told = {"superclass_names": (f"not {names[a]}", names[a]), "group_names": names_of_groups}
                found[a, b] = replace(celeba, superclass=superclass, group=group, **told)
    named = ({f"{names[a]} by {names[b]}": each for (a, b), each in found.items()} for found in (made, reported))
    return tuple(named)


def name_of(scored: Scored) -> str:
    """The same candidate has the same name in every world; DFR chooses its penalty itself."""
    one = scored.candidate
    return f"{one.inferrer} {one.method}" if one.method == "dfr" else one.name


def row_of(embeddings: Embeddings, facts: dict[str, Any], seed: int) -> dict[str, Any]:
    """What every candidate scores on the worst test group, and which the rule picks."""
    started = time.perf_counter()
    found: Portfolio = fit_portfolio(embeddings, seed)
    seconds = time.perf_counter() - started
    test = embeddings.of("test")
    assert test.group is not None
    size = np.bincount(test.group)
    table, picked, plain = {}, 0.0, ""
    for one in found.scored:
        right = one.candidate.head.predict(test.vectors) == test.superclass
        worst = round(float((np.bincount(test.group, weights=right)[size > 0] / size[size > 0]).min()), 4)
        if one.candidate.method != "mean":
            table[name_of(one)] = worst
        if one.candidate is found.chosen:
            picked = worst
        if one.candidate is found.plain:
            plain = name_of(one)
    facts = facts | {"picked": picked, "kept_erm": found.chosen is found.plain, "plain": plain}
    facts |= {"reason": found.reason, "aside": found.aside}
    return facts | {"seconds": seconds, "candidates": table}


def regrets(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Of the rule's picks over rows, and every single candidate beside it."""
    plain = np.array([row["candidates"][row["plain"]] for row in rows])
    picked = np.array([row["picked"] for row in rows])
    oracle = np.array([max(row["candidates"].values()) for row in rows])
    names = {name for row in rows for name in row["candidates"]}

    def of(name: str, row: dict[str, Any]) -> float:
        return float(row["candidates"].get(name, row["candidates"][row["plain"]]))

    single = {name: float(np.mean([of(name, row) for row in rows])) for name in names}
    single = {name: round(mean, 4) for name, mean in sorted(single.items(), key=lambda pair: -pair[1])}
    best = next(iter(single.values()))
    return {
        "rows": len(rows),
        "worst_group": {"rule": picked.mean(), "oracle": oracle.mean(), "best_single": best, "erm": plain.mean()},
        "regret": {
            "best_single": 100 * (best - picked.mean()),
            "oracle": 100 * float((oracle - picked).mean()),
            "erm": 100 * float((plain - picked).mean()),
            "erm_largest": 100 * float((plain - picked).max()),
        },
        "kept_erm": int(sum(row["kept_erm"] for row in rows)),
        "single": single,
    }


def written(
    out: Path,
    rows: list[dict[str, Any]],
    few: list[dict[str, Any]],
    of_pairs: list[dict[str, Any]],
    sets: dict[str, list[dict[str, Any]]],
) -> dict[str, Any]:
    """What has been measured so far, with its summaries."""
    even, first = [row for row in rows if row["world"] % 2 == 0], [row for row in rows if row["world"] < WORLDS]
    parts = {
        "reported": [row for row in first if row in even],
        "reported, with a shortcut": [row for row in first if row in even and row["shortcut"]],
        "reported, without a shortcut": [row for row in first if row in even and not row["shortcut"]],
        "all even": even,
        "all even, with a shortcut": [row for row in even if row["shortcut"]],
        "all even, without a shortcut": [row for row in even if not row["shortcut"]],
        "made on": [row for row in rows if row["world"] % 2],
        "few images, even": [row for row in few if row["world"] % 2 == 0],
        "few images, even, without a shortcut": [row for row in few if row["world"] % 2 == 0 and not row["shortcut"]],
        "few images, made on": [row for row in few if row["world"] % 2],
        "pairs, reported": [row for row in of_pairs if not row["made_on"]],
        "pairs, made on": [row for row in of_pairs if row["made_on"]],
        "all sets": [row for mine in sets.values() for row in mine],
    }
    words = [word if "=" not in word else word.partition("=")[0] + "=FILE" for word in sys.argv[1:]]
    command = [Path(word).name for word in words]
    summary = {name: regrets(part) for name, part in parts.items() if part}
    facts = {
        "command": "python benchmarks/portfolio.py " + " ".join(command),
        "summary": summary,
        "sets": {name: {"summary": regrets(mine), "seeds": mine} for name, mine in sets.items()},
        "pairs": of_pairs,
        "worlds": rows,
        "few": few,
    }
    write_json(out, facts | {"commit": commit(), "hardware": hardware(), "versions": versions()})
    return summary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, default=WORLDS, help="how many; more than 40 add to what is reported")
    parser.add_argument("--even", action="store_true", help="none of odd number")
    parser.add_argument("--few", action="store_true", help="the worlds with a few hundred images, too")
    parser.add_argument("--embeddings", action="append", default=[], help="NAME=FILE")
    parser.add_argument("--celeba", type=Path, help="an .npz of benchmarks/portfolio_sets.py")
    parser.add_argument("--attributes", type=Path, help="list_attr_celeba.txt")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    kept = json.loads(given.out.read_text()) if given.out.exists() else {}
    rows: list[dict[str, Any]] = kept.get("worlds", [])
    few: list[dict[str, Any]] = kept.get("few", [])
    of_pairs: list[dict[str, Any]] = kept.get("pairs", [])
    sets: dict[str, list[dict[str, Any]]] = {name: each["seeds"] for name, each in kept.get("sets", {}).items()}
    summary: dict[str, Any] = {}
    numbers = [n for n in range(given.worlds) if n % 2 == 0 or (n < WORLDS and not given.even)]
    for make, mine in ((world, rows), (with_few_images, few if given.few else None)):
        for number in numbers if mine is not None else []:
            if number in {row["world"] for row in mine}:
                continue
            mine.append({"world": number} | row_of(*make(number), given.seed))
            print(f"{number:>3} {mine[-1]['seconds']:5.1f} s  {mine[-1]['reason']}", flush=True)
            summary = written(given.out, rows, few, of_pairs, sets)  # so that a stop loses nothing
    if given.celeba:
        made, reported = pairs(read_embeddings(given.celeba), given.attributes)
        known = {row["pair"] for row in of_pairs}
        for name, embeddings in (reported | made).items():
            if name in known:
                continue
            facts = {"pair": name, "made_on": name in made, "file": given.celeba.name}
            of_pairs.append(row_of(embeddings, facts, given.seed))
            print(f"{name} {regrets(of_pairs[-1:])['regret']}  {of_pairs[-1]['reason']}", flush=True)
            summary = written(given.out, rows, few, of_pairs, sets)
    for pair in given.embeddings:
        name, _, file = pair.partition("=")
        mine = sets.setdefault(name, [])
        if Path(file).name in {row["file"] for row in mine}:
            continue
        mine.append({"file": Path(file).name} | row_of(read_embeddings(Path(file)), {}, given.seed))
        print(f"{name} {regrets(mine[-1:])['regret']}  {mine[-1]['reason']}", flush=True)
        summary = written(given.out, rows, few, of_pairs, sets)
    for name, part in summary.items():
        print(name, part["rows"], part["worst_group"], part["regret"], "kept ERM", part["kept_erm"])


if __name__ == "__main__":
    main()
