"""How often what tells a subclass from its siblings is named first when planted, and named at all when nothing was.

On 1,000 CIFAR-10 images of one superclass. Planted: a tenth of them darkened, blurred, framed or reddened, or from
another folder, camera or hospital. Nothing planted: the images cut at random into two to six groups. Two built sets,
cut by their true groups: what is named first with the attribute (digit, colour) as a column, and without it.

THANOS_DATA=DIR python benchmarks/explain.py --out results/explain.json
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from thanos.config import DataConfig
from thanos.data.arrays import from_arrays
from thanos.data.load import load
from thanos.evaluate.intervals import share_interval
from thanos.runs.provenance import commit, hardware, versions
from thanos.storage import write_json
from thanos.subclasses.explain import Explained, explain
from thanos.subclasses.properties import Properties, measure

COUNT, SHARE = 1000, 0.1
Pixels = NDArray[np.uint8]


def darkened(images: Pixels) -> Pixels:
    return (images * 0.5).astype(np.uint8)


def blurred(images: Pixels) -> Pixels:
    small = [Image.fromarray(image).resize((12, 12), Image.Resampling.BILINEAR) for image in images]
    return np.stack([np.asarray(each.resize((32, 32), Image.Resampling.BILINEAR)) for each in small])


def framed(images: Pixels) -> Pixels:
    images = images.copy()
    images[:, :2] = images[:, -2:] = images[:, :, :2] = images[:, :, -2:] = 0
    return images


def reddened(images: Pixels) -> Pixels:
    return (images * np.array([1, 0.7, 0.7])).astype(np.uint8)


OF_PIXELS: dict[str, tuple[Callable[[Pixels], Pixels], set[str]]] = {
    "darkened": (darkened, {"brightness"}),
    "blurred": (blurred, {"sharpness"}),
    "framed": (framed, {"edge evenness", "edge brightness"}),
    "reddened": (reddened, {"red", "edge red"}),
}
"""By cause: what it does, and the properties that are right to name."""
OF_WORDS = ("folder", "camera", "hospital")


def explained(properties: Properties, cluster: NDArray[np.int64]) -> Explained:
    return explain(cluster, np.zeros(len(cluster), dtype=np.int64), properties)


def built(name: str) -> dict[str, dict[str, list[str]]]:
    """By group of a built set, what tells it from the others of its superclass, with and without the column."""
    images = load(DataConfig(data=name))
    images = images.take(np.sort(np.random.default_rng(0).permutation(len(images))[:1500]))
    assert images.group is not None
    attribute = tuple(images.group_names[group].rsplit(" ", 1)[-1] for group in images.group)
    found: dict[str, dict[str, list[str]]] = {}
    for way, further in (("with the column", {"attribute": attribute}), ("without it", {})):
        told = explain(images.group, images.superclass, measure(replace(images, further=further)))
        for group, differences in told.differences.items():
            said = [f"{each.says} (AUC {each.auc:.2f})" for each in differences]
            found.setdefault(images.group_names[group], {})[way] = said
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--planted", type=int, default=20, help="draws of each cause")
    parser.add_argument("--random", type=int, default=1000, help="draws of groups at random")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    whole = load(DataConfig(data="cifar10"))
    rows = np.flatnonzero(whole.superclass == 0)
    named: dict[str, int] = dict.fromkeys((*OF_PIXELS, *OF_WORDS), 0)
    for seed in range(given.planted):
        rng = np.random.default_rng(seed)
        images = whole.images[rng.permutation(rows)[:COUNT]]
        mine = rng.permutation(COUNT) < SHARE * COUNT
        for cause, (change, right) in OF_PIXELS.items():
            changed = images.copy()
            changed[mine] = change(images[mine])
            found = explained(measure(from_arrays(changed, np.zeros(COUNT, dtype=int))), mine.astype(np.int64))
            named[cause] += bool(found.differences[1]) and found.differences[1][0].property in right
        plain = measure(from_arrays(images, np.zeros(COUNT, dtype=int)))
        for cause in OF_WORDS:
            words = np.where(mine, "second", np.where(rng.random(COUNT) < 0.5, "first", "third")).astype(object)
            found = explained(replace(plain, kinds={cause: words}), mine.astype(np.int64))
            named[cause] += bool(found.differences[1]) and found.differences[1][0].property == cause
    any_named = 0
    properties = measure(from_arrays(whole.images[rows[:COUNT]], np.zeros(COUNT, dtype=int)))
    for seed in range(given.random):
        rng = np.random.default_rng((seed, 1))
        cut = rng.integers(2, 7)
        groups = rng.choice(cut, COUNT, p=rng.dirichlet(np.full(cut, 2.0)))
        any_named += any(explained(properties, groups).differences.values())
    facts = {
        "command": f"python benchmarks/explain.py --planted {given.planted} --random {given.random} --out {given.out}",
        "planted": {cause: f"{count} of {given.planted} named first" for cause, count in named.items()},
        "random": {
            "named anything": any_named,
            "draws": given.random,
            "interval": list(share_interval(any_named / given.random, given.random)),
        },
        "built": {name: built(name) for name in ("dominoes-95", "coloured-digits-large")},
        "commit": commit(),
        "hardware": hardware(),
        "versions": versions(),
    }
    print(facts["planted"], facts["random"])
    write_json(given.out, facts)


if __name__ == "__main__":
    main()
