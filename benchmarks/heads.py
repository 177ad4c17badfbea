"""How long heads on real features' width take: the portfolio, every method, single heads by the earlier solver, ours.

Vectors are correlated and not negative, as a backbone's features are, with a shortcut. Of every head that both solvers
fit, seconds, the objective, and how far ours is above the earlier one's (relative; below 0: nearer to the optimum). The
earlier solver is L-BFGS over both classes' logits (git show d891215:src/thanos/robust/head.py > FILE).

python benchmarks/heads.py --earlier FILE --out results/heads.json
"""

import argparse
import importlib.util
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from thanos.embeddings import Embeddings
from thanos.errors import DataError
from thanos.robust import head as ours
from thanos.robust.infer import INFERRERS, Inferred, Seen
from thanos.robust.methods import METHODS, fit_robust
from thanos.robust.portfolio import WATCHED, candidates, choose
from thanos.robust.select import watch
from thanos.runs.provenance import commit, hardware, versions
from thanos.storage import write_json

STRENGTHS = (1e-1, 1e-2, 1e-3)
ODD = 0.05


def features(train: int, held_out: int, dim: int) -> Embeddings:
    """Two classes; an attribute goes with the class but in 5% of the images."""
    rng = np.random.default_rng(0)
    n = train + held_out
    superclass = rng.integers(0, 2, n)
    attribute = np.where(rng.random(n) < ODD, 1 - superclass, superclass)
    spread = np.arange(1, dim + 1) ** -0.7
    x = rng.normal(size=(n, dim)) * spread
    x[:, 0] += 1.5 * spread[0] * (2 * attribute - 1)
    x[:, 3] += 1.2 * spread[3] * (2 * superclass - 1)
    x = np.maximum(x @ np.linalg.qr(rng.normal(size=(dim, dim)))[0] + 0.02, 0)
    return Embeddings(
        vectors=x.astype(np.float32),
        superclass=superclass,
        superclass_names=("a", "b"),
        split=(np.arange(n) >= train).astype(np.int8),
        group=2 * superclass + attribute,
        group_names=("a/a", "a/b", "b/a", "b/b"),
    )


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    found = call()
    return time.perf_counter() - started, found


def whole(embeddings: Embeddings) -> dict[str, Any]:
    """Seconds of the portfolio by its parts."""
    start, seen = timed(lambda: Seen.of(embeddings))
    inferrers: dict[str, float] = {}
    found: dict[str, Inferred] = {}
    aside: dict[str, str] = {}
    for name, infer in INFERRERS.items():
        started = time.perf_counter()
        try:
            found[name] = infer(seen)
        except DataError as error:
            aside[name] = str(error)
        inferrers[name] = time.perf_counter() - started
        print(f"{name:<10} {inferrers[name]:6.1f} s", flush=True)
    heads: dict[str, float] = {}
    every, last = [], time.perf_counter()
    for one in candidates(seen, found, aside):
        now = time.perf_counter()
        key = f"{one.inferrer} {one.method}".strip()
        if key not in heads:
            print(f"{key:<20} {sum(heads.values()):6.1f} s until here", flush=True)
        heads[key] = heads.get(key, 0.0) + now - last
        every.append(one)
        last = now
    watched = {name: found[name] for name in WATCHED if name in found}
    rule, choice = timed(lambda: choose(tuple(every), seen, watched))
    total = start + sum(inferrers.values()) + sum(heads.values()) + rule
    print(f"whole      {total:6.1f} s for {len(every)} heads; {heads}", flush=True)
    return {
        "seconds": total,
        "inferrers": inferrers,
        "heads": heads,
        "candidates": len(every),
        "chosen": choice.chosen.name,
        "reason": choice.reason,
        "aside": aside,
    }


def objective(head: ours.Head, data: ours.Standardised, weigh: Callable[[Any], float], strength: float) -> float:
    logits = head.of_standardised(data.x)
    top = logits.max(axis=1, keepdims=True)
    losses = (np.log(np.exp(logits - top).sum(axis=1)) + top[:, 0]) - logits[np.arange(len(data.y)), data.y]
    return weigh(losses) + strength / 2 * float((head.weight**2).sum())


def beside(earlier: Any, embeddings: Embeddings) -> dict[str, Any]:
    """Single heads by both solvers, each from nothing."""
    rows = embeddings.rows("train")
    assert embeddings.group is not None
    group, y = embeddings.group[rows], embeddings.superclass[rows]
    data = ours.standardise(embeddings.vectors[rows], y, 2)
    theirs = earlier.Standardised(data.x, data.y, 2, data.mean, data.scale)
    odd = (group == 1) | (group == 2)
    weights = {"plain": np.ones(len(y)), "errors 100 times": np.where(odd, 100.0, 1.0)}
    sharpest = ours._worst(np.eye(4)[group] / np.bincount(group), np.zeros(4), ours.SHARPNESS[-1])
    table: dict[str, Any] = {}
    for strength in STRENGTHS:
        for name in (*weights, "groupdro"):

            def fit(room: Any, of: Any, name: str = name, strength: float = strength) -> Any:
                if name == "groupdro":
                    return room.fit_groupdro(of, group, strength)
                return room.fit_weighted(of, weights[name], strength)

            def weigh(losses: Any, name: str = name) -> float:
                return float(sharpest(losses)[0] if name == "groupdro" else np.average(losses, weights=weights[name]))

            now, mine = timed(lambda: fit(ours, data))
            then, other = timed(lambda: fit(earlier, theirs))
            other = ours.Head(other.weight, other.bias, other.mean, other.scale)
            value, before = (objective(head, data, weigh, strength) for head in (mine, other))
            row = {"seconds": now, "earlier_seconds": then, "objective": value, "above_earlier": value / before - 1}
            table[f"{name}, strength {strength:g}"] = row
            print(
                f"{name:<16} {strength:<6g} {now:6.2f} s, earlier {then:6.1f} s, {row['above_earlier']:+.1e}",
                flush=True,
            )
    return table


def methods(embeddings: Embeddings) -> dict[str, Any]:
    """Single methods with all their settings, as `thanos robust --method` fits them, given true groups."""
    table, looked_at = {}, watch("worst-group", embeddings)
    for name in METHODS:
        seconds, found = timed(lambda name=name: fit_robust(name, embeddings, embeddings.group, looked_at))
        table[name] = {"seconds": seconds, "settings": found.selection["candidates"]}
        print(f"{name:<16} {seconds:6.1f} s for {table[name]['settings']} settings", flush=True)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--dim", type=int, default=1280)
    parser.add_argument("--earlier", type=Path, help="the earlier head.py")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    embeddings = features(given.images, given.images // 4, given.dim)
    facts: dict[str, Any] = {
        "command": "python benchmarks/heads.py --earlier FILE " + f"--out {given.out}",
        "threads": int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)),
        "images": given.images,
        "dim": given.dim,
        "portfolio": whole(embeddings),
        "methods": methods(embeddings),
    }
    if given.earlier:
        spec = importlib.util.spec_from_file_location("earlier", given.earlier)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["earlier"] = module
        spec.loader.exec_module(module)
        facts["single"] = beside(module, embeddings)
    write_json(given.out, facts | {"commit": commit(), "hardware": hardware(), "versions": versions()})


if __name__ == "__main__":
    main()
