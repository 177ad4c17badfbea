"""MaskCon: contrast with soft labels, which say how alike images of one superclass are. A rival of L_spread.

Source: Feng and Patras, CVPR 2023.
"""

import torch
from torch import Tensor
from torch.nn.functional import normalize


def maskcon_loss(
    queries: Tensor,
    keys: Tensor,
    superclass: Tensor,
    bank: Tensor,
    bank_superclass: Tensor,
    *,
    temperature: float,
    label_temperature: float,
    soft: float,
) -> Tensor:
    """Ask each query for its own key and, softly, for keys of its superclass that are like its own.

    The label of a key in the bank is ``e^{(k_i . k_j - largest) / label_temperature}`` within the superclass, 0
    outside, that of the own key 1; labels are brought to sum one, and mixed with the own key's alone: ``soft`` of the
    first.
    ``soft = 0`` is MoCo's loss; a high label temperature makes all keys of the superclass positives.

    Args:
        queries: Projections of one view, shape (batch, dim), any length of rows.
        keys: Of the other view by the momentum encoder, same shape; no gradient flows there.
        superclass: Class ids, shape (batch,), >= 0.
        bank: Earlier keys, shape (size, dim).
        bank_superclass: Their class ids, shape (size,); -1 where the bank is still empty.
        temperature: Divisor of the cosine between query and key, > 0.
        label_temperature: Divisor of the cosine between keys in the labels, > 0.
        soft: Weight of the soft labels, in [0, 1].
    Returns:
        Scalar in nats, >= 0.
    Raises:
        ValueError: if shapes do not pair up, or a number lies outside its range.
    Example:
        >>> own, kinds = torch.eye(2), torch.tensor([0, 1])
        >>> maskcon_loss(own, own, kinds, own, kinds, temperature=1.0, label_temperature=0.1, soft=0.5)
        tensor(0.8620)
    """
    if queries.shape != keys.shape or superclass.shape != queries.shape[:1] or bank.shape[1:] != queries.shape[1:]:
        raise ValueError(
            f"maskcon_loss pairs queries[i], keys[i] and superclass[i], and meets a bank as wide; got shapes "
            f"{tuple(queries.shape)}, {tuple(keys.shape)}, {tuple(superclass.shape)} and {tuple(bank.shape)}."
        )
    if not (temperature > 0 and label_temperature > 0 and 0 <= soft <= 1):
        raise ValueError(
            f"temperatures are > 0 and soft lies in [0, 1]; got {temperature}, {label_temperature} and {soft}."
        )
    with torch.autocast(queries.device.type, enabled=False):
        kind = torch.float64 if queries.dtype == torch.float64 else torch.float32
        rows = (queries, keys.detach(), bank.detach())
        query, key, bank = (normalize(each.to(kind), dim=1, eps=1e-6) for each in rows)
        lowest = torch.finfo(kind).min
        own = (query * key).sum(dim=1, keepdim=True) / temperature
        others = (query @ bank.T / temperature).masked_fill(bank_superclass < 0, lowest)
        log_p = torch.cat([own, others], dim=1).log_softmax(dim=1)  # (batch, 1 + size)
        same = superclass[:, None] == bank_superclass
        likeness = (key @ bank.T / label_temperature).masked_fill(~same, lowest)
        label = (likeness - likeness.amax(dim=1, keepdim=True)).exp() * same
        label = torch.cat([torch.ones_like(own), label], dim=1)
        label = soft * label / label.sum(dim=1, keepdim=True)
        label[:, 0] += 1 - soft
        return -(label * log_p.where(label > 0, 0)).sum(dim=1).mean()
