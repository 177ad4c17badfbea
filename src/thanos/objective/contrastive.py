"""The contrastive losses as plain formulas: InfoNCE, SupCon, class-conditional InfoNCE and L_spread.

Each takes ``views``, the projections of every view of a batch, and averages over anchors. Rows are brought to unit
length here, so that a product of two rows is their cosine. All reductions run in float32 (float64 for float64 input),
also under autocast, so that low temperatures stay exact.

*Cross-view* contrast compares the anchors of one view with the points of another view, for every ordered pair of
views; an anchor's own image in the other view counts among its positives. *All-view* contrast compares each view
with all other views of the whole batch. With two views or more every anchor has a positive, so no case is left out:
a batch of one, a class of one and a batch of one class only give finite values and gradients (no negatives: the
attraction is 0; no other positive: the spreading is 0).

Large batches are computed in tiles (thanos.objective.tiled), in memory linear in the batch; the results agree.
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, softplus

from thanos.objective.tiled import SHORTEST, Parts, is_dense, tiled_parts

Contrast = Literal["cross-view", "all-view"]
Denominator = Literal["negatives", "all"]


def info_nce_loss(views: Tensor, *, temperature: float, contrast: Contrast = "cross-view") -> Tensor:
    """Ask each anchor to find the other view of its own image among all images; sees no label.

    ``-log e^{s_ia} / (e^{s_ia} + sum_j e^{s_ij})`` with ``j`` over the views of other images, averaged over the other
    views ``a`` of the anchor's image. Source: van den Oord et al. 2018; with ``contrast="all-view"`` and two views it
    is SimCLR's NT-Xent (Chen et al. 2020).

    Args:
        views: Projections, shape (views, batch, dim); row i of every view shows image i. Any length of rows.
        temperature: Divisor of the cosine similarity, > 0.
        contrast: Which points an anchor meets, see the module's text.
    Returns:
        Scalar in nats, >= 0.
    Raises:
        ValueError: if there are fewer than two views, or the temperature is not positive.
    Example:
        >>> info_nce_loss(torch.eye(2).expand(2, 2, 2), temperature=1.0)
        tensor(0.3133)
    """
    image = torch.arange(views.shape[1] if views.ndim == 3 else 0, device=views.device)
    _check(views, image, temperature, contrast)
    if _is_large(views, temperature, contrast, light=True):
        return _in_tiles(views, image, temperature, contrast).attract
    return _attract(_compare(views, image, temperature, contrast)).mean()


def supcon_loss(
    views: Tensor,
    superclass: Tensor,
    *,
    temperature: float,
    contrast: Contrast = "cross-view",
    denominator: Denominator = "negatives",
) -> Tensor:
    """Attract all images of a superclass; its minimiser maps each superclass to one point (class collapse).

    ``mean_{p in P(i)} -log e^{s_ip} / (e^{s_ip} + sum_{n in N(i)} e^{s_in})``: of the positives only the one in the
    numerator stands in the denominator (Chen et al., ICML 2022). ``denominator="all"`` puts every point there:
    Khosla et al., NeurIPS 2020, L_out.

    Args:
        views: Projections, shape (views, batch, dim); row i of every view shows image i. Any length of rows.
        superclass: Class ids, shape (batch,), any integers (-1 is a class like any other).
        temperature: Divisor of the cosine similarity, > 0.
        contrast: Which points an anchor meets, see the module's text.
        denominator: "negatives" for the paper's form, "all" for Khosla's.
    Returns:
        Scalar in nats, >= 0 for "negatives".
    Raises:
        ValueError: if shapes do not pair up, labels are not integers, or the temperature is not positive.
    Example:
        >>> supcon_loss(torch.eye(2).expand(2, 2, 2), torch.tensor([0, 1]), temperature=1.0)
        tensor(0.3133)
    """
    _check(views, superclass, temperature, contrast)
    _check_denominator(denominator)
    if _is_large(views, temperature, contrast, light=denominator == "all"):
        parts = _in_tiles(views, superclass, temperature, contrast)
        return parts.attract if denominator == "negatives" else parts.among_all
    pairs = _compare(views, superclass, temperature, contrast)
    return (_attract(pairs) if denominator == "negatives" else _attract_among_all(pairs)).mean()


def class_conditional_info_nce_loss(
    views: Tensor, superclass: Tensor, *, temperature: float, contrast: Contrast = "cross-view"
) -> Tensor:
    """Ask each anchor to find the other view of its own image within its superclass, which spreads the superclass.

    ``-log e^{s_ia} / sum_{p in P(i)} e^{s_ip}``, averaged over the other views ``a`` of the anchor's image. Source:
    Chen et al., ICML 2022, L_cNCE. A collapsed superclass of n images pays log n (cross-view).

    Args:
        views: Projections, shape (views, batch, dim); row i of every view shows image i. Any length of rows.
        superclass: Class ids, shape (batch,), any integers.
        temperature: Divisor of the cosine similarity, > 0.
        contrast: Which points an anchor meets, see the module's text.
    Returns:
        Scalar in nats, >= 0.
    Raises:
        ValueError: as :func:`supcon_loss`.
    Example:
        >>> class_conditional_info_nce_loss(torch.ones(2, 4, 3), torch.zeros(4, dtype=torch.int), temperature=1.0)
        tensor(1.3863)
    """
    _check(views, superclass, temperature, contrast)
    if _is_large(views, temperature, contrast):
        return _in_tiles(views, superclass, temperature, contrast).class_conditional
    return _class_conditional(_compare(views, superclass, temperature, contrast)).mean()


def spread_loss(
    views: Tensor, superclass: Tensor, *, alpha: float | Tensor, temperature: float, contrast: Contrast = "cross-view"
) -> Tensor:
    """Attract each superclass without collapsing it: ``(1 - alpha) * supcon + alpha * class_conditional``.

    Source: Chen et al., ICML 2022, L_spread. ``alpha = 0`` is :func:`supcon_loss`; from
    :func:`thanos.methods.alpha.collapse_threshold` on the optimum spreads.

    Args:
        views: Projections, shape (views, batch, dim); row i of every view shows image i. Any length of rows.
        superclass: Class ids, shape (batch,), any integers.
        alpha: Weight of the spreading term, in [0, 1]; a tensor is taken unchecked, so that no device is waited for.
        temperature: Divisor of the cosine similarity, > 0.
        contrast: Which points an anchor meets, see the module's text.
    Returns:
        Scalar in nats, >= 0.
    Raises:
        ValueError: as :func:`supcon_loss`, or if alpha lies outside [0, 1].
    Example:
        >>> spread_loss(torch.eye(2).expand(2, 2, 2), torch.tensor([0, 1]), alpha=0.0, temperature=1.0)
        tensor(0.3133)
    """
    _check_alpha(alpha)
    _check(views, superclass, temperature, contrast)
    if _is_large(views, temperature, contrast):
        parts = _in_tiles(views, superclass, temperature, contrast)
        return (1 - alpha) * parts.attract + alpha * parts.class_conditional
    pairs = _compare(views, superclass, temperature, contrast)
    return ((1 - alpha) * _attract(pairs) + alpha * _class_conditional(pairs)).mean()


LARGE = {"cpu": 256, "cuda": 4096}
"""From how many images on a batch is computed in tiles, by kind of device; elsewhere from LARGE_ELSEWHERE on."""
LARGE_DENSE = 128
"""The same of a pair of views that needs no tiles (thanos.objective.dense): plain formulas are slower from there on."""
LARGE_ELSEWHERE = 8192
"""Where the similarities of a batch begin to crowd a device's memory. Without the kernels a step waits for the device
once, to lay out tiles."""


def _is_large(views: Tensor, temperature: float, contrast: Contrast, *, light: bool = False) -> bool:
    """Light formulas, with one number for each pair, are the faster ones up to three times as many images."""
    count, least = views.shape[1], LARGE.get(views.device.type, LARGE_ELSEWHERE) * (3 if light else 1)
    if contrast == "cross-view" and is_dense(views.device, count, temperature):
        least = min(least, LARGE_DENSE)
    return count >= least


def _in_tiles(views: Tensor, superclass: Tensor, temperature: float, contrast: Contrast) -> Parts:
    with torch.autocast(views.device.type, enabled=False):
        return tiled_parts(_exact(views), superclass, temperature=temperature, all_view=contrast == "all-view")


def _exact(views: Tensor) -> Tensor:
    """In float32, or float64 where they are."""
    return views if views.dtype == torch.float64 else views.float()


class _Pairs:
    """Every anchor against every point it meets.

    Args:
        similarity: Cosine / temperature, shape (anchors, points), before it the ordered pairs of views where these are
            compared one by one; the lowest number where an anchor meets itself.
        superclass: Of the images, shape (batch,).
        views: Of each image among the anchors, one after the other; they are the points as well, and the diagonal is
            an anchor meeting itself. None: points are another view, and nothing meets itself.
    """

    def __init__(self, similarity: Tensor, superclass: Tensor, views: int | None = None):
        self.similarity, self._views = similarity, views
        self.same = superclass[:, None] == superclass
        """Images of one superclass: P(i); (batch, batch). Anything but it: N(i)."""

    @property
    def own(self) -> Tensor:
        """Views of one image: a(i); (batch, batch)."""
        return torch.eye(len(self.same), dtype=torch.bool, device=self.same.device)

    def everywhere(self, mask: Tensor) -> Tensor:
        """From (batch, batch) to (anchors, points); 0 or False where an anchor meets itself."""
        return mask if self._views is None else mask.repeat(self._views, self._views).fill_diagonal_(0)


def _check(views: Tensor, superclass: Tensor, temperature: float, contrast: Contrast) -> None:
    for name, given in (("views", views), ("superclass", superclass)):
        if not isinstance(given, Tensor):
            raise ValueError(f"{name} must be a tensor; got {type(given).__name__}. torch.as_tensor makes one of it.")
    if views.ndim != 3 or len(views) < 2 or views.shape[1] < 1 or superclass.shape != views.shape[1:2]:
        raise ValueError(
            f"views must have shape (views >= 2, batch >= 1, dim) and superclass (batch,); got "
            f"{tuple(views.shape)} and {tuple(superclass.shape)}."
        )
    if superclass.is_floating_point() or superclass.is_complex():
        raise ValueError(f"superclass must hold integer class ids; got {superclass.dtype}.")
    _check_settings(temperature, contrast)


def _check_settings(temperature: float, contrast: Contrast) -> None:
    if temperature is None or isinstance(temperature, str) or not (temperature > 0 and math.isfinite(temperature)):
        raise ValueError(f"temperature divides the cosine and must be a number > 0; got {temperature!r}.")
    if contrast not in ("cross-view", "all-view"):
        raise ValueError(f"contrast is {contrast!r}; choose cross-view or all-view.")


def _check_denominator(denominator: Denominator) -> None:
    if denominator not in ("negatives", "all"):
        raise ValueError(f"denominator is {denominator!r}; choose negatives or all.")


def _check_alpha(alpha: float | Tensor) -> None:
    if isinstance(alpha, str):
        raise ValueError(f"alpha is a number here; got {alpha!r}. thanos.solve_alpha finds one for your batch.")
    if not isinstance(alpha, Tensor) and not 0 <= alpha <= 1:
        raise ValueError(f"alpha weighs the spreading term and lies in [0, 1]; got {alpha}.")


def _compare(views: Tensor, superclass: Tensor, temperature: float, contrast: Contrast) -> _Pairs:
    count = len(views)
    with torch.autocast(views.device.type, enabled=False):
        rows = normalize(_exact(views), dim=-1, eps=SHORTEST)
        if contrast == "cross-view":
            one_way = [(rows[i] / temperature) @ rows[j].T for i in range(count) for j in range(i)]
            similarity = torch.stack([s for way in one_way for s in (way, way.T)])
            return _Pairs(similarity, superclass)
        flat = rows.flatten(0, 1)
        similarity = (flat / temperature) @ flat.T
        similarity.fill_diagonal_(torch.finfo(similarity.dtype).min)
        return _Pairs(similarity, superclass, count)


def _attract(pairs: _Pairs) -> Tensor:
    """Each positive against all negatives, by anchor."""
    negatives = _logsumexp(pairs, ~pairs.same)
    away = negatives[..., None] - pairs.similarity
    against = softplus(away, threshold=50)  # -log e^s / (e^s + sum of negatives); at torch's own 20, off by 2e-9
    return _mean(against, pairs, pairs.same)


def _attract_among_all(pairs: _Pairs) -> Tensor:
    """Each positive against all points, by anchor."""
    return pairs.similarity.logsumexp(dim=-1) - _mean(pairs.similarity, pairs, pairs.same)


def _class_conditional(pairs: _Pairs) -> Tensor:
    """The anchor's other views against its superclass, by anchor."""
    return _logsumexp(pairs, pairs.same) - _mean(pairs.similarity, pairs, pairs.own)


def _logsumexp(pairs: _Pairs, mask: Tensor) -> Tensor:
    """Over the points where ``mask`` (batch, batch); an empty row gives the lowest finite number and no gradient."""
    others = ~pairs.everywhere(mask)
    return pairs.similarity.masked_fill(others, torch.finfo(pairs.similarity.dtype).min).logsumexp(dim=-1)


def _mean(values: Tensor, pairs: _Pairs, mask: Tensor) -> Tensor:
    """Over the points where ``mask`` (batch, batch)."""
    weight = pairs.everywhere(mask.to(values.dtype))
    return (values * weight).sum(dim=-1) / weight.sum(dim=-1)


class _Loss(nn.Module):
    """Keeps and shows the settings that all the losses have."""

    def __init__(self, temperature: float, contrast: Contrast):
        _check_settings(temperature, contrast)
        super().__init__()
        self.temperature, self.contrast = temperature, contrast

    def extra_repr(self) -> str:
        settings = {name: value for name, value in vars(self).items() if name[0] != "_" and name != "training"}
        return ", ".join(f"{name}={value!r}" for name, value in settings.items())


class InfoNCELoss(_Loss):
    """:func:`info_nce_loss` with its settings kept, for places that expect a module."""

    def __init__(self, temperature: float = 0.5, contrast: Contrast = "cross-view"):
        super().__init__(temperature, contrast)

    def forward(self, views: Tensor) -> Tensor:
        return info_nce_loss(views, temperature=self.temperature, contrast=self.contrast)


class SupConLoss(_Loss):
    """:func:`supcon_loss` with its settings kept, for places that expect a module."""

    def __init__(
        self,
        temperature: float = 0.5,
        contrast: Contrast = "cross-view",
        denominator: Denominator = "negatives",
    ):
        _check_denominator(denominator)
        super().__init__(temperature, contrast)
        self.denominator = denominator

    def forward(self, views: Tensor, superclass: Tensor) -> Tensor:
        return supcon_loss(
            views,
            superclass,
            temperature=self.temperature,
            contrast=self.contrast,
            denominator=self.denominator,
        )


class ClassConditionalInfoNCELoss(_Loss):
    """:func:`class_conditional_info_nce_loss` with its settings kept, for places that expect a module."""

    def __init__(self, temperature: float = 0.5, contrast: Contrast = "cross-view"):
        super().__init__(temperature, contrast)

    def forward(self, views: Tensor, superclass: Tensor) -> Tensor:
        return class_conditional_info_nce_loss(views, superclass, temperature=self.temperature, contrast=self.contrast)


class SpreadLoss(_Loss):
    """:func:`spread_loss` with its settings kept, for places that expect a module."""

    def __init__(self, alpha: float, temperature: float = 0.5, contrast: Contrast = "cross-view"):
        _check_alpha(alpha)
        super().__init__(temperature, contrast)
        self.alpha = alpha

    def forward(self, views: Tensor, superclass: Tensor) -> Tensor:
        return spread_loss(views, superclass, alpha=self.alpha, temperature=self.temperature, contrast=self.contrast)
