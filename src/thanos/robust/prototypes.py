"""An ensemble of diverse prototypes, fitted member by member without any group.

Source: To et al., Diverse Prototypical Ensembles Improve Robustness to Subpopulation Shift (ICML 2025), and their code.
"""

import numpy as np
from numpy.typing import NDArray

from thanos.data.draw import draw_balanced
from thanos.robust.head import Prototypes, Standardised, apart, softmax, unit_rows

Rows = NDArray[np.float64]
Ids = NDArray[np.int64]
MEMBERS = 15
EPOCHS, BATCH, RATE, SPREAD = 20, 256, 1e-3, 1e-2
"""Of a member's descent, and the deviation that prototypes begin with; as published."""
STEPS = 100
"""At least so many, where a draw is less than five batches."""
KEPT = (0.9, 0.999)
"""Of Adam's running means."""
ENTROPIC = 30.0
"""Times the distances in training, not after it (Macedo et al., IsoMax+)."""


def fit_prototypes(
    data: Standardised, diversity: float, rng: np.random.Generator, *, members: int = MEMBERS
) -> Prototypes:
    """Members one after the other, each on a class-balanced draw of the images, away from the earlier ones.

    Three things are not as in the paper's runs. Each number of an embedding is standardised, as for all heads here, not
    each embedding. Prototypes are kept apart by direction: a penalty on their products can also be had by making them
    short, which changes nothing, and needs another one on their length. And Adam descends, which the published code
    offers beside plain descent: its steps do not depend on how many numbers an embedding has.

    Args:
        data: Embeddings with their class; published: of validation images.
        diversity: Weight of :func:`likeness`; published: 1e5 / dim, 49 for the 2,048 dimensions of a ResNet-50.
        rng: Of draws, batches and first prototypes.
        members: How many.
    """
    unit = unit_rows(data.x)
    found: list[Rows] = []
    sharpness: list[float] = []
    for _ in range(members):
        rows = draw_balanced(data.y, rng, None)
        earlier = np.stack(found, axis=1) if found else np.zeros((data.classes, 0, unit.shape[1]))
        prototypes, sharp = _descend(unit[rows], data.y[rows], earlier, diversity, rng)
        found.append(prototypes)
        sharpness.append(sharp)
    return Prototypes(np.stack(found), np.array(sharpness), data.mean, data.scale)


def likeness(prototypes: Rows, earlier: Rows) -> tuple[float, Rows]:
    """How alike a member's prototypes are to earlier members' of the same class: mean over classes and members.

    Args:
        prototypes: (classes, dim), of unit length.
        earlier: (classes, members, dim), of unit length.
    Returns:
        The mean absolute cosine, and its gradient (classes, dim).
    """
    if not earlier.shape[1]:
        return 0.0, np.zeros_like(prototypes)
    cosine = np.einsum("cd,cmd->cm", prototypes, earlier)
    return float(np.abs(cosine).mean()), np.einsum("cm,cmd->cd", np.sign(cosine), earlier) / cosine.size


def member_loss(
    raw: Rows, sharp: float, unit: Rows, y: Ids, earlier: Rows, diversity: float
) -> tuple[float, Rows, float]:
    """Cross-entropy of ``-30 * |sharp| * distance`` and the weighted likeness, with gradients by ``raw`` and ``sharp``.

    Args:
        raw: A member's prototypes (classes, dim), of any length.
        sharp: Its sharpness.
        unit: Embeddings of unit length (n, dim).
        y: Their class (n,).
        earlier: Prototypes of earlier members (classes, members, dim), of unit length.
        diversity: Weight of the likeness.
    """
    length = np.linalg.norm(raw, axis=1, keepdims=True)
    prototypes, rows = raw / length, np.arange(len(y))
    far = apart(unit, prototypes)
    probability = softmax(-ENTROPIC * abs(sharp) * far)
    alike, of_alike = likeness(prototypes, earlier)
    loss = -float(np.log(np.maximum(probability[rows, y], 1e-300)).mean()) + diversity * alike
    slope = probability  # by the logits
    slope[rows, y] -= 1
    slope /= len(y)
    of_sharp = -ENTROPIC * float(np.sign(sharp) * (slope * far).sum())
    gradient = ENTROPIC * abs(sharp) * (slope / far).T @ unit + diversity * of_alike
    gradient -= (gradient * prototypes).sum(axis=1, keepdims=True) * prototypes  # the length plays no part
    return loss, gradient / length, of_sharp


def _descend(unit: Rows, y: Ids, earlier: Rows, diversity: float, rng: np.random.Generator) -> tuple[Rows, float]:
    """One member by Adam: unit prototypes (classes, dim) and sharpness."""
    classes, dim = earlier.shape[0], unit.shape[1]
    flat = np.append(SPREAD * rng.normal(size=classes * dim), 1.0)  # the sharpness comes last
    mean, square = np.zeros_like(flat), np.zeros_like(flat)
    each = max(1, len(y) // BATCH)
    steps = max(EPOCHS * each, STEPS)
    for step in range(steps):
        if step % each == 0:
            order = rng.permutation(len(y))
        rows = order[step % each * BATCH :][:BATCH]
        raw = flat[:-1].reshape(classes, dim)
        _, by_raw, by_sharp = member_loss(raw, flat[-1], unit[rows], y[rows], earlier, diversity)
        gradient = np.append(by_raw.ravel(), by_sharp)
        mean = KEPT[0] * mean + (1 - KEPT[0]) * gradient
        square = KEPT[1] * square + (1 - KEPT[1]) * gradient**2
        one, two = (1 - kept ** (step + 1) for kept in KEPT)
        flat = flat - RATE * (mean / one) / (np.sqrt(square / two) + 1e-8)
    raw = flat[:-1].reshape(classes, dim)
    return raw / np.linalg.norm(raw, axis=1, keepdims=True), float(abs(flat[-1]))
