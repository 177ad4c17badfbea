"""CelebA and ISIC 2017 as they lie: images of each group by split, and whether the numbered test table is in order.

The challenge's test table, as it is had, numbers its rows. That they are of the images in the order of their names is
checked by a linear head on embeddings of the training images, whose table names them: its AUROC on the test images, by
the labels in that order and in 1,000 random ones, beside that on the validation images, which are named.

    thanos embed tf_efficientnet_lite0 --data isic --size 224 --out isic.npz
    python benchmarks/real_groups.py --embedded isic.npz --out results/real_groups.json
"""

import argparse
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from thanos.config import DataConfig
from thanos.data.groups import patched_isic_2017
from thanos.data.imageset import ImageSet
from thanos.data.labels import SPLITS
from thanos.data.load import load
from thanos.data.twins import exact_twins
from thanos.runs.provenance import commit, hardware, versions
from thanos.storage import write_json

ORDERS = 1000
PENALTY = 1e-3
"""C of the logistic regression on standardised embeddings; not tuned."""


def counted(images: ImageSet) -> dict[str, Any]:
    """Images of each group: train, validation, test."""
    assert images.group is not None
    kept = [note for note in images.notes if "brought to" not in note]
    rows = {
        name: [int(((images.group == i) & images.in_split(part)).sum()) for part in SPLITS]
        for i, name in enumerate(images.group_names)
    }
    return {"images": len(images), "train, validation, test": rows, "notes": kept}


def challenge(size: int) -> tuple[ImageSet, dict[str, Any]]:
    """The set in its own splits, its diagnoses and patches there, and pictures that are in two of its splits."""
    images = load(DataConfig(data="isic-2017", size=size))
    assert images.subclass is not None
    kind = np.array(images.subclass_names)[images.subclass]
    stem = [Path(ref).stem for ref in images.refs]
    patched = np.array([name in patched_isic_2017() for name in stem])
    by_split = {}
    for part in SPLITS:
        mine = images.in_split(part)
        by_split[part] = dict(Counter(kind[mine].tolist())) | {"patched": dict(Counter(kind[mine & patched].tolist()))}
    twins = [sorted((stem[i], stem[j])) for i, j in exact_twins(images)]
    return images, {"diagnoses": by_split, "one picture in two splits": twins}


def order_of_test(images: ImageSet, vectors: NDArray, refs: list[str]) -> dict[str, Any]:
    """AUROC of a head of the training images by the test labels in the order of names, and in random ones."""
    place = {ref: i for i, ref in enumerate(refs)}
    x = vectors[[place[ref] for ref in images.refs]]
    assert images.subclass is not None
    train, validation, test = (images.rows(part) for part in SPLITS)
    found, rng = {}, np.random.default_rng(0)
    for name in ("melanoma", "seborrheic keratosis"):
        is_it = images.subclass == images.subclass_names.index(name)
        head = make_pipeline(StandardScaler(), LogisticRegression(C=PENALTY, max_iter=500)).fit(x[train], is_it[train])
        score = head.decision_function(x)
        random = [roc_auc_score(rng.permutation(is_it[test]), score[test]) for _ in range(ORDERS)]
        found[name] = {
            "validation, named": round(roc_auc_score(is_it[validation], score[validation]), 3),
            "test, in the order of names": round(roc_auc_score(is_it[test], score[test]), 3),
            f"test, the highest of {ORDERS} random orders": round(max(random), 3),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--embedded", type=Path, required=True, help="isic.npz of thanos embed")
    parser.add_argument("--size", type=int, default=224, help="at which it was embedded")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    with np.load(given.embedded, allow_pickle=False) as kept:
        vectors, refs = kept["vectors"], kept["refs"].tolist()
    images, facts = challenge(given.size)
    found = {name: counted(load(DataConfig(data=name))) for name in ("celeba", "isic")}
    found["isic"] |= facts | {"AUROC": order_of_test(images, vectors, refs)}
    for name, what in found.items():
        print(name, what)
    write_json(given.out, {
        "command": "thanos embed tf_efficientnet_lite0 --data isic --size 224 --out isic.npz; "
                   "python benchmarks/real_groups.py --embedded isic.npz --out results/real_groups.json",
        **found, "commit": commit(), "hardware": hardware(), "versions": versions(),
    })  # fmt: skip


if __name__ == "__main__":
    main()
