"""Embeddings of sets with groups for benchmarks/portfolio.py: NAME-SEED.npz with the three splits.

Dominoes, patches, CelebA and ISIC by a frozen EfficientNet-lite0 with ImageNet weights (extra photos), dominoes at
their own 64x32 pixels, patches enlarged to 64, the photographs at 96 and 128. Coloured digits by a small network of
their own, trained on the pairs by cross-entropy: what ImageNet's network sees of 28 pixels is no digit. The seed is
that of the split (and of the small network); of each split so many images as below are drawn, each group keeping its
share. Photographs are all kept.

python benchmarks/portfolio_sets.py --out FOLDER
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from thanos import RunConfig, TrainConfig, embed, train
from thanos.config import DataConfig
from thanos.data.draw import draw_stratified
from thanos.data.imageset import ImageSet
from thanos.data.labels import SPLITS
from thanos.data.load import load
from thanos.embeddings import Embeddings, write_embeddings
from thanos.runs.encoder_io import timm_encoder

MODEL = "tf_efficientnet_lite0"
FROZEN = {"dominoes-95": None, "dominoes-99": None, "patched-cifar10": 64, "celeba": 96, "isic": 128}
"""Sets on the frozen network's features, and the side that images are brought to; None: their own."""
TRAINED = ("coloured-digits-large", "coloured-digits-medium", "coloured-digits-small")
MOST = {"train": 4000, "validation": 1000, "test": 3000}
EPOCHS, BATCH, RATE = 4, 128, 3e-3


def capped(images: ImageSet) -> ImageSet:
    """At most so many images of each split."""
    assert images.group is not None
    rng, rows = np.random.default_rng(0), []
    for split in SPLITS:
        mine = images.rows(split)
        rows.append(draw_stratified(mine, images.group, min(MOST[split], len(mine)), rng))
    return images.take(np.sort(np.concatenate(rows)))


def frozen(name: str, seed: int, known: dict[str, Embeddings]) -> Embeddings:
    """Photographs are the same ones whatever the seed, which splits them: their features are made once."""
    images = load(DataConfig(data=name, size=FROZEN[name], split_seed=seed))
    if name in known:
        place = {ref: i for i, ref in enumerate(known[name].refs)}
        vectors = known[name].vectors[[place[ref] for ref in images.refs]]
        return replace(known[name], vectors=vectors, **images.labels())
    if len(images) > sum(MOST.values()) and name not in ("celeba", "isic"):
        images = capped(images)
    found = embed(timm_encoder(MODEL, True, images), images)
    if name in ("celeba", "isic"):
        known[name] = found
    return found


def trained(name: str, seed: int) -> Embeddings:
    """On all training images of the set; those that are kept are drawn afterwards."""
    config = TrainConfig(data=name, method="cross-entropy", encoder="tiny", epochs=EPOCHS, batch=BATCH,
                         learning_rate=RATE, split_seed=seed, seed=seed)  # fmt: skip
    images = load(config)
    with tempfile.TemporaryDirectory() as folder:
        run = train(config, Path(folder) / "run", images=images, run=RunConfig(quiet=True), say=lambda line: None)
        return embed(run.encoder, capped(images))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--data", action="append", help="one of the sets; default: all")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    known: dict[str, Embeddings] = {}
    for name in given.data or (*FROZEN, *TRAINED):
        for seed in range(given.seeds):
            file = given.out / f"{name}-{seed}.npz"
            if not file.exists():
                write_embeddings(trained(name, seed) if name in TRAINED else frozen(name, seed, known), file)
                print(file.name, flush=True)


if __name__ == "__main__":
    main()
