"""How fast features are made and heads are trained, against what they cannot do without, in turn in one process.

Features: images a second of `frozen_features` and of a plain loop over timm's model (batches of 64, contiguous), same
weights, 128 pixels. Heads: seconds an epoch of `train` on vectors (L_spread, `mlp-256-64`, batches of 256) against the
matrix products alone that such an epoch is made of; with --earlier FILE also of the loop of its own that SpreadEncoder
had before it took the commands' training, on the losses of now
(`git show fbd07d9^:src/thanos/estimators/spread_encoder.py > FILE`).

python benchmarks/features.py --out results/features.json
"""

import argparse
import importlib.util
import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import timm
import torch

from thanos import RunConfig, TrainConfig, VectorSet, train
from thanos.config import FeatureViewSpec
from thanos.data.arrays import from_arrays
from thanos.encoders.features import Pass, frozen_features
from thanos.runs.encoder_io import timm_encoder
from thanos.runs.provenance import commit, hardware, versions
from thanos.storage import write_json

MODEL, SIDE, PLAIN = "tf_efficientnet_lite0", 128, 64
FEATURES, HIDDEN, DIM, BATCH, KINDS = 1280, 256, 64, 256, 10


def quiet(line: str) -> None: ...


def feature_rates(count: int, rounds: int) -> dict[str, list[float]]:
    """Images a second, by round."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)
    images = from_arrays(pixels, np.arange(count) % 2)
    encoder = timm_encoder(MODEL, True, images)
    model = timm.create_model(MODEL, num_classes=0).eval()
    model.load_state_dict(encoder.module.state_dict())
    rates: dict[str, list[float]] = {"plain": [], "ours": []}
    for _ in range(rounds):
        started = time.perf_counter()
        with torch.inference_mode():
            plain = [
                model((torch.from_numpy(part).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5)
                for part in np.split(pixels, range(PLAIN, count, PLAIN))
            ]
        rates["plain"].append(count / (time.perf_counter() - started))
        with tempfile.TemporaryDirectory() as cache:
            os.environ["THANOS_CACHE"] = cache
            started = time.perf_counter()
            found = frozen_features(Pass(encoder.module, (0.5,) * 3, (0.5,) * 3, None), images, quiet)
            rates["ours"].append(count / (time.perf_counter() - started))
        worst = float(np.abs(found[:, 0] - torch.cat(plain).numpy()).max() / torch.cat(plain).std())
        assert worst < 1e-3, worst
    return rates


def products_alone(steps: int) -> float:
    """Seconds of the matrix products of so many steps, forward and backward; nothing else."""
    rows = 2 * BATCH
    x, h, e = torch.randn(rows, FEATURES), torch.randn(rows, HIDDEN), torch.randn(rows, DIM)
    first, second, last = torch.randn(HIDDEN, FEATURES), torch.randn(DIM, HIDDEN), torch.randn(KINDS, DIM)
    logits, one, other = torch.randn(rows, KINDS), torch.randn(BATCH, DIM), torch.randn(BATCH, DIM)
    alike = torch.randn(BATCH, BATCH)
    started = time.perf_counter()
    for _ in range(steps):
        _ = x @ first.T, h @ second.T, e @ last.T  # forward
        _ = h.T @ x, e.T @ h, e @ second, logits.T @ e, logits @ last  # backward
        _ = one @ other.T, alike @ other, alike.T @ one  # the loss
    return time.perf_counter() - started


def head_seconds(vectors: VectorSet, epochs: int) -> float:
    """Seconds of training alone."""
    config = TrainConfig(method="spread", encoder=f"mlp-{HIDDEN}-{DIM}", batch=BATCH, epochs=epochs)
    with tempfile.TemporaryDirectory() as folder:
        run = train(config, Path(folder) / "run", images=vectors, run=RunConfig(quiet=True), say=quiet)
    return float(run.metrics["seconds"])


def earlier_seconds(file: Path, vectors: VectorSet, epochs: int) -> float:
    spec = importlib.util.spec_from_file_location("earlier", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def fit(count: int) -> float:
        model = module.SpreadEncoder(dim=DIM, hidden=HIDDEN, batch=BATCH, epochs=count, random_state=0)
        rows = vectors.rows("train")
        started = time.perf_counter()
        model.fit(vectors.vectors[rows], vectors.superclass[rows])
        return time.perf_counter() - started

    return fit(epochs + 1) - fit(1)  # without its start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--vectors", type=int, default=50_000)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--earlier", type=Path, help="the module with SpreadEncoder's own loop")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    rates = feature_rates(given.images, given.rounds)
    rng = np.random.default_rng(0)
    held_out = 512
    vectors = VectorSet(
        name="normal",
        vectors=rng.standard_normal((given.vectors + held_out, FEATURES), dtype=np.float32),
        superclass=rng.integers(0, KINDS, given.vectors + held_out),
        superclass_names=tuple(str(k) for k in range(KINDS)),
        split=(np.arange(given.vectors + held_out) >= given.vectors).astype(np.int8),
        views=FeatureViewSpec(),
    )
    steps = given.vectors // BATCH * given.epochs
    seconds: dict[str, list[float]] = {"products": [], "ours": []} | ({"earlier": []} if given.earlier else {})
    for _ in range(given.rounds):
        seconds["products"].append(products_alone(steps))
        seconds["ours"].append(head_seconds(vectors, given.epochs))
        if given.earlier:
            seconds["earlier"].append(earlier_seconds(given.earlier, vectors, given.epochs))
    middle = {name: median(values) for name, values in seconds.items()}
    facts: dict[str, Any] = {
        "command": "python benchmarks/features.py " + " ".join(sys.argv[1:]),
        "threads": given.threads,
        "images_per_second": rates,
        "times_plain": median(rates["ours"]) / median(rates["plain"]),
        "head_seconds": seconds,
        "epochs": given.epochs,
        "times_products": middle["ours"] / middle["products"],
    }
    if given.earlier:
        facts["times_as_fast_as_earlier"] = middle["earlier"] / middle["ours"]
    write_json(given.out, facts | {"commit": commit(), "hardware": hardware(), "versions": versions()})
    print(facts)


if __name__ == "__main__":
    main()
