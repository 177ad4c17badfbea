"""Coarse to fine: how well a frozen embedding tells the fine classes nobody labelled in training.

Three readers of the embedding: a convex linear probe (logistic regression on clean embeddings, its strength chosen
on validation), the paper's released probe (a linear layer trained 100 epochs on a fresh augmented view each epoch),
and nearest neighbours. The test split is used once, at the end.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator
from torch.nn.functional import cross_entropy

from thanos.config import TransferConfig
from thanos.data.labels import SPLITS
from thanos.data.samples import Samples
from thanos.embeddings import Embeddings, check_same_images, one_size, ordinary_size
from thanos.errors import ConfigError, DataError
from thanos.evaluate.intervals import Interval, share_interval
from thanos.evaluate.knn import neighbour_vote
from thanos.evaluate.scores import Scores
from thanos.runs.encoder_io import Encoder

STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Inverse L2 penalties (scikit-learn's C) among which validation chooses."""


@dataclass(frozen=True)
class Reading(Scores):
    """Fine accuracy on test images, by one reader of the embedding."""

    accuracy: float
    balanced_accuracy: float
    """Mean of the classes' recalls."""
    frequency_weighted_accuracy: float
    """Recalls weighted by the classes' share of the training images."""
    n: int
    interval: Interval
    """95%, of the accuracy."""
    kind: str | None = None
    """Of a probe: convex or released."""
    strength: float | None = None
    """Of the convex probe: the inverse penalty that validation chose."""
    k: int | None = None
    """Neighbours that vote."""


@dataclass(frozen=True)
class Transfer(Scores):
    """How well a frozen embedding tells the fine classes."""

    neighbours: Reading
    probe: Reading | None = None


def evaluate_transfer(
    embeddings: Embeddings,
    config: TransferConfig | None = None,
    encoder: Encoder | None = None,
    images: Samples | None = None,
) -> Transfer:
    """Fine accuracy on the test split.

    Args:
        embeddings: With subclasses and the splits train, validation and test.
        config: Which probe.
        encoder, images: Needed by the released probe, which augments.
    Raises:
        MissingLabels: without subclasses.
        DataError: if a split is empty, or a test class has no training image.
        ConfigError: for the released probe without encoder and images.
    """
    config = config or TransferConfig()
    known = embeddings.take(embeddings.known_subclass("transfer") >= 0)
    known = replace(known, vectors=one_size(known.vectors))
    train, validation, test = _parts(known)
    assert train.subclass is not None
    assert test.subclass is not None
    frequency = np.bincount(train.subclass, minlength=len(known.subclass_names)) / len(train)
    probe = None
    if config.probe == "convex":
        predicted, strength = convex_probe(train, validation, test)
        probe = score(test.subclass, predicted, frequency, kind="convex", strength=strength)
    elif config.probe == "released":
        if encoder is None or images is None:
            raise ConfigError("`probe=released` augments images; give it a run, not an .npz, or use `probe=convex`.")
        check_same_images(embeddings, images)
        predicted = released_probe(encoder, images, known, test, epochs=config.probe_epochs, seed=config.seed)
        probe = score(test.subclass, predicted, frequency, kind="released")
    k = min(config.neighbours, len(train))
    queries, keys = (torch.from_numpy(ordinary_size(part.vectors)) for part in (test, train))
    voted = neighbour_vote(queries, keys, torch.from_numpy(train.subclass), k)
    return Transfer(score(test.subclass, voted.numpy(), frequency, k=k), probe)


def _parts(known: Embeddings) -> tuple[Embeddings, Embeddings, Embeddings]:
    """Training, validation and test images with fine labels.

    Raises:
        DataError: if a split is empty, or a test class has no training image.
    """
    train, validation, test = (known.of(split) for split in SPLITS)
    for split, part in zip(SPLITS, (train, validation, test), strict=True):
        if not len(part):
            raise DataError(
                f"transfer needs images with fine labels in train, validation and test; {split} has none. Name the "
                f"splits in a column (or array) split."
            )
    kinds = np.unique(train.known_subclass("transfer"))
    if len(kinds) < 2:
        raise DataError("transfer tells subclasses apart; the training embeddings carry one only.")
    unseen = np.setdiff1d(test.known_subclass("transfer"), kinds)
    if len(unseen):
        raise DataError(
            f"every test subclass needs training images; {known.subclass_names[unseen[0]]!r} has none. Add some."
        )
    return train, validation, test


def convex_probe(train: Embeddings, validation: Embeddings, test: Embeddings) -> tuple[NDArray[np.int64], float]:
    """Multinomial logistic regression on standardised embeddings: test predictions, and the strength chosen."""
    from sklearn.linear_model import LogisticRegression

    mean, std = train.vectors.mean(0), train.vectors.std(0)
    x, v, t = ((part.vectors - mean) / np.maximum(std, 1e-6) for part in (train, validation, test))
    best: tuple[float, float, Any] | None = None
    worse = 0  # the weaker the penalty, the longer the fit: two worse ones in a row end the search
    model = LogisticRegression(max_iter=1000, tol=1e-3, warm_start=True)
    for strength in STRENGTHS:
        model.set_params(C=strength).fit(x, train.subclass)
        accuracy = float((model.predict(v) == validation.subclass).mean())
        if best is None or accuracy > best[0]:
            best, worse = (accuracy, strength, model.predict(t)), 0
        elif (worse := worse + 1) == 2:
            break
    assert best is not None
    return best[2], best[1]


def released_probe(
    encoder: Encoder, images: Samples, known: Embeddings, test: Embeddings, *, epochs: int, seed: int
) -> NDArray[np.int64]:
    """The paper's probe: a linear layer on the frozen encoder, AdamW 1e-3, batches of 128, one cosine to zero."""
    assert images.subclass is not None
    training = images.take(images.in_split("train") & (images.subclass >= 0))
    assert training.subclass is not None
    target = torch.from_numpy(training.subclass)
    rng = Generator().manual_seed(seed)
    layer = torch.nn.Linear(encoder.card.dim, len(known.subclass_names))
    with torch.no_grad():
        bound = 1 / math.sqrt(encoder.card.dim)
        layer.weight.uniform_(-bound, bound, generator=rng)
        layer.bias.uniform_(-bound, bound, generator=rng)
    batch = min(128, len(target))
    steps = epochs * (len(target) // batch)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=1e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(epochs):
        vectors = torch.from_numpy(encoder.embed_view(training, rng))
        order = torch.randperm(len(target), generator=rng)
        for rows in order[: len(order) // batch * batch].split(batch):
            optimizer.zero_grad(set_to_none=True)
            cross_entropy(layer(vectors[rows]), target[rows]).backward()
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        return np.asarray(layer(torch.from_numpy(test.vectors)).argmax(dim=1).numpy())


def score(true: NDArray[np.int64], predicted: NDArray[np.int64], frequency: NDArray[np.float64], **how: Any) -> Reading:
    """Accuracies from predictions.

    Args:
        true, predicted: Ids, shape (n,).
        frequency: Each class's share of the training images.
        how: What else :class:`Reading` says of the reader.
    """
    right = true == predicted
    size = np.bincount(true, minlength=len(frequency))
    recall = np.bincount(true, weights=right, minlength=len(frequency)) / np.maximum(size, 1)
    seen = size > 0
    accuracy = float(right.mean())
    return Reading(
        accuracy=accuracy,
        balanced_accuracy=float(recall[seen].mean()),
        frequency_weighted_accuracy=float((recall * frequency)[seen].sum() / frequency[seen].sum()),
        n=len(true),
        interval=share_interval(accuracy, len(true)),
        **how,
    )
