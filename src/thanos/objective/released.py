"""The loss as the paper's released code computes it, quirks included, for comparison only."""

import torch
from torch import Tensor
from torch.nn.functional import normalize


def released_spread_loss(
    views: Tensor, superclass: Tensor, *, alpha: float | Tensor, temperature: float, clip: float | None = 1.0
) -> Tensor:
    """L_spread with the two quirks of the released code that change what it learns.

    One direction: view i is only ever the anchor of earlier views j < i. And a clip: positives in the numerator of
    the supervised term stop counting beyond ``clip`` (in units of cosine / temperature, so at cosine 0.5 for
    temperature 0.5) while the same positive goes on growing in the denominator, which *repels* images of one class
    beyond that cosine. ``alpha = 0`` is therefore a SupCon that does not collapse. The released configurations leave
    the clip at 1. Its third quirk, a normalisation that is a cosine only for rows of equal length, is not reproduced.

    Args:
        views: Projections, shape (views, batch, dim).
        superclass: Class ids, shape (batch,); here too -1 is a class like any other.
        alpha: ``a_spread / (a_lc + a_spread)`` in the released code's settings.
        temperature: Divisor of the cosine similarity, > 0.
        clip: Largest similarity a positive's numerator counts; None for no clip.
    Returns:
        Scalar in nats.
    """
    with torch.autocast(views.device.type, enabled=False):
        rows = normalize(views if views.dtype == torch.float64 else views.float(), dim=-1, eps=1e-6)
        similarity = torch.stack([rows[i] @ rows[j].T for i in range(len(rows)) for j in range(i)]) / temperature
    positive = superclass[:, None] == superclass[None, :]
    lowest = torch.finfo(similarity.dtype).min
    negatives = similarity.masked_fill(positive, lowest).logsumexp(dim=-1, keepdim=True)
    numerator = similarity if clip is None else similarity.clamp(max=clip)
    against = torch.logaddexp(similarity, negatives) - numerator
    attract = against.where(positive, 0).sum(dim=-1) / positive.sum(dim=-1)
    within = similarity.masked_fill(~positive, lowest).logsumexp(dim=-1)
    class_conditional = within - similarity.diagonal(dim1=-2, dim2=-1)
    return ((1 - alpha) * attract + alpha * class_conditional).mean()
