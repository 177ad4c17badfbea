"""Embeddings of sets with groups for benchmarks/portfolio.py: NAME-SEED.npz with the three splits.

Dominoes, patches, CelebA and ISIC by a frozen EfficientNet-lite0 with ImageNet weights (extra photos), dominoes at
their own 64x32 pixels, patches enlarged to 64, the photographs at 96 and 128. Coloured digits by their pixels: what
ImageNet's network sees of 28 pixels is no digit. Of all of them the first 128 principal components of the training
images. The seed is that of the split; of each split of a built set so many images as below are drawn, each group
keeping its share. Photographs are all kept.

python benchmarks/portfolio_sets.py --out FOLDER
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from sklearn.decomposition import PCA

from thanos import embed
from thanos.config import DataConfig
from thanos.data.draw import draw_stratified
from thanos.data.imageset import ImageSet
from thanos.data.labels import SPLITS
from thanos.data.load import load
from thanos.embeddings import Embeddings, labelled, write_embeddings
from thanos.runs.encoder_io import timm_encoder

MODEL, COMPONENTS = "tf_efficientnet_lite0", 128
BUILT = {"dominoes-95": None, "dominoes-99": None, "patched-cifar10": 64}
"""Sets on the frozen network's features, and the side that images are brought to; None: their own."""
PHOTOGRAPHS = {"celeba": 96, "isic": 128}
PIXELS = ("coloured-digits-large", "coloured-digits-medium", "coloured-digits-small")
MOST = {"train": 4000, "validation": 1000, "test": 3000}


def capped(images: ImageSet) -> ImageSet:
    """At most so many images of each split."""
    assert images.group is not None
    rng, rows = np.random.default_rng(0), []
    for split in SPLITS:
        mine = images.rows(split)
        rows.append(draw_stratified(mine, images.group, min(MOST[split], len(mine)), rng))
    return images.take(np.sort(np.concatenate(rows)))


def features(name: str, seed: int, known: dict[str, Embeddings]) -> Embeddings:
    """Photographs are the same ones whatever the seed, which splits them: their features are made once."""
    size = (BUILT | PHOTOGRAPHS).get(name)
    images = load(DataConfig(data=name, size=size, split_seed=seed))
    if name in PIXELS:
        images = capped(images)
        pixels = images.images[np.arange(len(images))]
        return labelled(pixels.reshape(len(images), -1).astype(np.float32) / 255, images)
    if name in BUILT:
        images = capped(images)
        return embed(timm_encoder(MODEL, True, images), images)
    if name not in known:
        known[name] = embed(timm_encoder(MODEL, True, images), images)
    place = {ref: i for i, ref in enumerate(known[name].refs)}
    vectors = known[name].vectors[[place[ref] for ref in images.refs]]
    return replace(known[name], vectors=vectors, **images.labels())


def reduced(embeddings: Embeddings) -> Embeddings:
    """Their first principal components, of the training images."""
    model = PCA(COMPONENTS, random_state=0).fit(embeddings.of("train").vectors)
    return replace(embeddings, vectors=model.transform(embeddings.vectors).astype(np.float32))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--data", action="append", help="one of the sets; default: all")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    known: dict[str, Embeddings] = {}
    for name in given.data or (*BUILT, *PHOTOGRAPHS, *PIXELS):
        for seed in range(given.seeds):
            file = given.out / f"{name}-{seed}.npz"
            if not file.exists():
                write_embeddings(reduced(features(name, seed, known)), file)
                print(file.name, flush=True)


if __name__ == "__main__":
    main()
