"""Nearest neighbours by cosine, and how they vote: the one place where neighbours are asked."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import normalize, one_hot

from thanos.embeddings import Embeddings

SIMILARITIES = 2**25
"""Between queries and keys, held at a time: 128 MB."""


def neighbour_vote(queries: Tensor, keys: Tensor, label: Tensor, k: int) -> Tensor:
    """The label with the most weight (cosine + 1) among each query's k most similar keys; in blocks.

    Args:
        queries, keys: Embeddings, shapes (q, dim) and (n, dim), of any length.
        label: Of the keys, shape (n,), ids >= 0.
        k: At most n.
    """
    keys, classes = normalize(keys, dim=1), int(label.max()) + 1
    blocks = _nearest(normalize(queries, dim=1), keys, k)
    return torch.cat([_vote(label[nearest], classes, similarity + 1) for similarity, nearest in blocks])


def vote_of_others(rows: Tensor, label: Tensor, k: int = 20) -> Tensor:
    """The most frequent label among each row's k most similar other rows.

    Fewer than k vote where a label has few rows: half of the smallest label's, so that it can win.

    Args:
        rows: Of unit length, shape (n, dim).
        label: Ids >= 0, shape (n,).
        k: At most n - 1.
    """
    k = max(1, min(k, int(label.bincount()[label.unique()].min()) // 2))
    similarity = (rows @ rows.T).fill_diagonal_(-torch.inf)
    return _vote(label[similarity.topk(k, dim=1)[1]], int(label.max()) + 1)


def neighbour_accuracy(rows: Tensor, label: Tensor, k: int = 20) -> Tensor:
    """Share of rows whose neighbours vote for their own label (:func:`vote_of_others`)."""
    return (vote_of_others(rows, label, k) == label).float().mean()


def nearest_to_examples(embeddings: Embeddings, k: int) -> list[tuple[int, list[int]]]:
    """The first row of each subclass, and the k other rows most similar to it, the nearest first."""
    subclass = torch.from_numpy(embeddings.known_subclass("the nearest of each subclass"))
    rows = normalize(torch.from_numpy(embeddings.vectors), dim=1)
    found = []
    for kind in range(len(embeddings.subclass_names)):
        query = int((subclass == kind).nonzero()[0, 0])
        similarity = rows @ rows[query]
        similarity[query] = -torch.inf
        found.append((query, similarity.topk(k)[1].tolist()))
    return found


def _nearest(queries: Tensor, keys: Tensor, k: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Cosine and position of the k most similar keys, block by block of unit queries."""
    for block in queries.split(max(1, SIMILARITIES // len(keys))):
        similarity, nearest = (block @ keys.T).topk(k, dim=1)
        yield similarity, nearest


def _vote(label: Tensor, classes: int, weight: Tensor | None = None) -> Tensor:
    """The label (of ``classes``) with the most votes in each row (q, k); ``weight`` of each vote, default 1."""
    votes = one_hot(label, classes)
    return (votes if weight is None else votes.to(weight.dtype) * weight[..., None]).sum(dim=1).argmax(dim=1)
