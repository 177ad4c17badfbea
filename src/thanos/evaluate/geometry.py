"""The shape of an embedding: how far superclasses spread, how far apart they lie, whether subclasses cluster.

All on rows of unit length. *Cosine within*: mean over superclasses of the mean cosine between different images of
one superclass; 1 is collapse. *Spread* is ``1 - within``. *Cosine between*: mean over pairs of superclasses.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor
from torch.nn.functional import normalize

from thanos.data.samples import Samples
from thanos.embeddings import Embeddings, ordinary_size
from thanos.errors import DataError
from thanos.evaluate.diagnose import COLLAPSED
from thanos.evaluate.scores import Scores
from thanos.runs.encoder_io import Encoder

EXACT = 5000
"""Up to this many rows pairwise scores are exact; above, on an evenly spaced subsample of this size."""
VIEWED = 500
"""Images whose two views are embedded: the mean of 500 is known to a few percent, and a large backbone takes long."""


def class_cosines(rows: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Mean cosine between different rows of each class, and between rows of two classes, each pair weighing alike.

    Args:
        rows: Unit rows, shape (n, dim).
        label: Class ids, shape (n,).
    Returns:
        (within, between): one number for each class in the order of ids, NaN for classes of one row; and a scalar, NaN
        for one class only.
    """
    _, compact = label.unique(return_inverse=True)
    classes = int(compact.max()) + 1
    count = torch.bincount(compact, minlength=classes).to(rows.dtype)
    sums = torch.zeros(classes, rows.shape[1], dtype=rows.dtype, device=rows.device).index_add_(0, compact, rows)
    squares = torch.zeros(classes, dtype=rows.dtype, device=rows.device).index_add_(0, compact, (rows**2).sum(1))
    pairs = count * (count - 1)
    within = ((sums**2).sum(1) - squares) / pairs
    centre = sums / count[:, None]
    cosines = centre @ centre.T
    off = ~torch.eye(classes, dtype=torch.bool, device=rows.device)
    return within, cosines[off].mean()


@dataclass(frozen=True)
class Geometry(Scores):
    """The shape of an embedding; what the labels at hand do not allow is None."""

    n: int
    """Rows behind it."""
    uniformity: float
    """Wang & Isola 2020: log mean exp(-2 d^2) of distances d, lower is more uniform."""
    effective_rank: float
    """Exponential of the spectrum's entropy."""
    within_class_cosine_by_superclass: dict[str, float]
    collapsed_superclasses: list[str]
    """Whose cosine within is above 0.98."""
    within_class_cosine: float | None = None
    """None unless a superclass has two rows."""
    spread: float | None = None
    between_class_cosine: float | None = None
    """None for one superclass."""
    alignment: float | None = None
    """Wang & Isola 2020: mean squared distance of two views of an image."""
    subclass_silhouette: float | None = None
    """Inside each superclass, unweighted mean."""
    subclass_purity: float | None = None
    """Share of images whose nearest neighbour in their superclass is of their subclass."""
    subclass_purity_chance: float | None = None
    subclass_purity_n: int | None = None


def evaluate_geometry(
    embeddings: Embeddings, two_views: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None
) -> Geometry:
    """Every score the labels at hand allow, for the test images if there are any, else for all.

    Args:
        embeddings: Superclasses are needed, subclasses used if known.
        two_views: Embeddings of two augmented views of some images, each (n, dim), for the alignment.
    Raises:
        DataError: for fewer than two rows.
    """
    part = embeddings.split_or_all("test")
    rows = normalize(torch.from_numpy(ordinary_size(part.vectors)), dim=1)
    label = torch.from_numpy(part.superclass)
    if len(rows) < 2:
        raise DataError(f"geometry compares two or more embeddings; got {len(rows)}.")
    by_class, between = class_cosines(rows, label)
    within = by_class.nanmean()
    names = [part.superclass_names[i] for i in label.unique()]
    each = {name: float(c) for name, c in zip(names, by_class, strict=True) if c.isfinite()}
    sample = rows[:: max(1, -(-len(rows) // EXACT))]
    distances = torch.cdist(sample, sample).square()
    off = ~torch.eye(len(sample), dtype=torch.bool)
    alignment, clustering = None, {}
    if two_views is not None:
        first, second = (normalize(torch.from_numpy(ordinary_size(view)), dim=1) for view in two_views)
        alignment = float((first - second).square().sum(1).mean())
    if part.subclass is not None:
        clustering = subclass_clustering(rows.numpy(), part.superclass, part.subclass)
    return Geometry(
        n=len(rows),
        within_class_cosine=float(within) if within.isfinite() else None,
        spread=1 - float(within) if within.isfinite() else None,
        between_class_cosine=float(between) if between.isfinite() else None,
        within_class_cosine_by_superclass=each,
        collapsed_superclasses=[name for name, cosine in each.items() if cosine > COLLAPSED],
        uniformity=float(distances[off].mul(-2).exp().mean().log()),
        effective_rank=effective_rank(rows),
        alignment=alignment,
        **clustering,
    )


def two_views(encoder: Encoder, images: Samples) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Embeddings of two augmented views, each (n, dim), of the test images if there are any, else of all; of many some.

    Args:
        encoder: What embeds them.
        images: Of the size that it takes.
    """
    rows = images.rows("test") if images.in_split("test").any() else np.arange(len(images))
    some = images.take(rows[:: max(1, -(-len(rows) // VIEWED))])
    rng = Generator().manual_seed(0)
    return encoder.embed_view(some, rng), encoder.embed_view(some, rng)


def effective_rank(rows: Tensor) -> float:
    """Exponential of the entropy of the covariance's spectrum (Roy & Vetterli 2007); rows (n, dim)."""
    spectrum = torch.linalg.eigvalsh(torch.cov(rows.double().T).reshape(rows.shape[1], -1)).clamp_min(0)
    share = spectrum / spectrum.sum().clamp_min(1e-300)
    return float(torch.exp(-(share * share.clamp_min(1e-300).log()).sum()))


def subclass_clustering(
    rows: NDArray[np.float32], superclass: NDArray[np.int64], subclass: NDArray[np.int64]
) -> dict[str, Any]:
    """Do the true subclasses form clusters inside their superclass? Superclasses with one subclass are left out."""
    from sklearn.metrics import silhouette_score
    from sklearn.neighbors import NearestNeighbors

    silhouettes, same, chance, count = [], 0.0, 0.0, 0
    for value in np.unique(superclass):
        members = np.flatnonzero((superclass == value) & (subclass >= 0))
        members = members[:: max(1, -(-len(members) // EXACT))]
        kinds, sizes = np.unique(subclass[members], return_counts=True)
        if len(kinds) < 2 or len(kinds) == len(members):
            continue
        inside, kind = rows[members], subclass[members]
        silhouettes.append(silhouette_score(inside, kind))
        nearest = NearestNeighbors(n_neighbors=1).fit(inside).kneighbors(return_distance=False)[:, 0]
        same += float((kind[nearest] == kind).sum())
        chance += float((sizes * (sizes - 1)).sum() / (len(members) - 1))
        count += len(members)
    if not silhouettes:
        return {}
    return {
        "subclass_silhouette": float(np.mean(silhouettes)),
        "subclass_purity": same / count,
        "subclass_purity_chance": chance / count,
        "subclass_purity_n": count,
    }
