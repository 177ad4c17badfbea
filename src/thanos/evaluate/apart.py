"""What a split that tears things apart would seem to show: images of one patient in training and test.

Both ways of splitting are tried on the images that the encoder was not trained on, in halves of one size: a plain
classifier is fitted on one half and tested on the other. The difference is what the split alone pretends.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thanos.data.draw import draw_stratified, draw_units
from thanos.embeddings import Embeddings, one_size
from thanos.evaluate.scores import Scores

DRAWS, MOST = 10, 4000
"""Halves that are drawn; and the most images that they are drawn from."""
FEWEST = 20
"""Images that are not alone in showing their thing, at least: else there is nothing to tear apart."""


@dataclass(frozen=True)
class Apart(Scores):
    """Accuracy on the superclass of a logistic regression on the embedding, mean over draws."""

    whole: float
    """Where every thing is on one side."""
    torn: float
    """Where images are drawn one by one."""
    differences: list[float]
    """torn - whole of each draw."""
    n: int
    """Images that were drawn from, half of them tested in each draw."""
    things: int


def split_apart(embeddings: Embeddings, together: Sequence[str], seed: int = 0) -> Apart | None:
    """How much better a classifier seems where things are torn apart; None where no two held-out images show one.

    Args:
        embeddings: Of which those outside the training split are taken, all where there are no others.
        together: What each is of, (n,); empty where not known.
        seed: Of the draws.
    """
    rng = np.random.default_rng(seed)
    rows, unit = _drawn_from(embeddings, together, rng)
    superclass = embeddings.superclass[rows]
    shared = (np.bincount(unit)[unit] > 1).sum() if len(unit) else 0
    if shared < FEWEST or len(np.unique(superclass)) < 2:
        return None
    of_unit = superclass[np.unique(unit, return_index=True)[1]][unit]  # where a thing has several, that of its first
    vectors = one_size(embeddings.vectors[rows])
    whole, torn = list[float](), list[float]()
    for _ in range(DRAWS):
        side = draw_units(unit, of_unit, 0.5, rng)
        other = np.zeros(len(rows), dtype=bool)
        other[draw_stratified(np.arange(len(rows)), superclass, int(side.sum()), rng)] = True
        whole.append(_accuracy(vectors, superclass, side))
        torn.append(_accuracy(vectors, superclass, other))
    differences = [b - a for a, b in zip(whole, torn, strict=True)]
    return Apart(float(np.mean(whole)), float(np.mean(torn)), differences, len(rows), len(np.unique(unit)))


def _drawn_from(
    embeddings: Embeddings, together: Sequence[str], rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows that may be drawn, of things that are known and kept whole, and the number of each one's thing."""
    train = embeddings.in_split("train")
    known = np.array([bool(each) for each in together], dtype=bool) if together else np.zeros(len(train), dtype=bool)
    rows = np.flatnonzero(known & ~train if (~train).any() else known)
    unit = np.unique([together[i] for i in rows.tolist()], return_inverse=True)[1].astype(np.int64)
    if len(rows) > MOST:
        count = int(unit.max()) + 1
        kept = np.isin(unit, rng.permutation(count)[: max(1, count * MOST // len(rows))])
        rows, unit = rows[kept], np.unique(unit[kept], return_inverse=True)[1]
    return rows, unit


def _accuracy(vectors: NDArray[np.float32], label: NDArray[np.int64], fitted: NDArray[np.bool_]) -> float:
    """Of the rows that it is not fitted on."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if len(np.unique(label[fitted])) < 2:
        return float((label[~fitted] == label[fitted][0]).mean())
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300)).fit(vectors[fitted], label[fitted])
    return float(model.score(vectors[~fitted], label[~fitted]))
