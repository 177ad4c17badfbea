"""L_spread on explicit points of the unit sphere: the library's own loss where no encoder stands in the way.

Identical views, cross-view contrast, float64. Free points are minimised from many starts at once; structured points
(collapsed simplex, simplex of simplices, two clusters on the circle) are what the theory speaks of.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.func import vmap
from torch.nn.functional import normalize

from thanos.errors import ConfigError
from thanos.objective import info_nce_loss, spread_loss, supcon_loss
from thanos.objective.contrastive import LARGE


@dataclass(frozen=True)
class Minimum:
    """The best of several starts."""

    points: Tensor
    """(superclasses * images, dim), unit rows; image i belongs to superclass i // images."""
    loss: float
    losses: Tensor
    """Of every start, (starts,)."""
    gradient: float
    """Largest entry of the gradient at the best start."""
    within: float
    """Mean cosine between different images of a superclass."""
    within_all_pairs: float
    """The same with every image's cosine of 1 with itself."""
    between: float
    """Mean cosine between images of different superclasses."""


def label_of(superclasses: int, images: int) -> Tensor:
    """Superclass of each point."""
    return torch.arange(superclasses).repeat_interleave(images)


def loss_at(points: Tensor, superclasses: int, *, alpha: float, temperature: float) -> Tensor:
    """The library's L_spread of points (..., n, dim) that are their own views; leading dimensions are kept."""
    label = label_of(superclasses, points.shape[-2] // superclasses)

    def one(rows: Tensor) -> Tensor:
        return spread_loss(torch.stack([rows, rows]), label, alpha=alpha, temperature=temperature)

    if points.ndim == 2:
        return one(points)
    large = points.shape[1] >= LARGE["cpu"]  # computed in tiles, which vmap cannot look into
    return torch.stack([one(rows) for rows in points]) if large else vmap(one)(points)


def mixture_loss_at(points: Tensor, superclasses: int, *, alpha: float, temperature: float) -> Tensor:
    """Lee et al.'s loss of points (n, dim): SupCon over the other images of a superclass, mixed with InfoNCE.

    ``(1 - alpha) * sup + alpha * self``, both against all points. The library's SupCon with Khosla's denominator also
    counts the anchor's own image among the positives, one of n; it is taken out here.
    """
    images = len(points) // superclasses
    views = torch.stack([points, points])
    alone = info_nce_loss(views, temperature=temperature)
    everyone = supcon_loss(views, label_of(superclasses, images), temperature=temperature, denominator="all")
    return (1 - alpha) * (images * everyone - alone) / (images - 1) + alpha * alone


def minimise(
    superclasses: int,
    images: int,
    dim: int,
    *,
    alpha: float,
    temperature: float,
    starts: int = 8,
    seed: int = 0,
    begin: Tensor | None = None,
    steps: int = 2000,
    tolerance: float = 1e-6,
) -> Minimum:
    """Minimise L_spread over free unit vectors.

    Half of the starts are random on the sphere, half lie close to collapsed superclasses: the two minima between which
    the optimum jumps.

    Args:
        superclasses, images, dim: K >= 2 superclasses of n >= 2 points each in d >= 2 dimensions.
        alpha, temperature: Of the loss.
        starts: Points minimised side by side in one tensor.
        seed: Of the starts.
        begin: Start here instead, (n, dim).
        steps: At most so many steps of L-BFGS.
        tolerance: Largest gradient entry that counts as converged.
    Raises:
        ConfigError: for an impossible geometry, or if the best start has not converged.
    """
    check_geometry(superclasses, images, dim, alpha)
    first = (_starts(superclasses, images, dim, starts, seed) if begin is None else begin[None]).clone()
    points = first.requires_grad_()
    optimizer = torch.optim.LBFGS(
        [points], max_iter=steps, max_eval=2 * steps, tolerance_grad=tolerance / 10, tolerance_change=0,
        history_size=20, line_search_fn="strong_wolfe",
    )  # fmt: skip

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = loss_at(points, superclasses, alpha=alpha, temperature=temperature).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    closure()
    assert points.grad is not None
    losses = loss_at(points.detach(), superclasses, alpha=alpha, temperature=temperature)
    best = int(losses.argmin())
    gradient = float((points.grad[best] * points.detach()[best].norm(dim=1, keepdim=True)).abs().max())
    if gradient > tolerance:
        raise ConfigError(
            f"the points did not settle at alpha {alpha:g} (gradient {gradient:.1e} after {steps} steps). Raise the "
            f"steps, or stay away from a jump of the optimum."
        )
    rows = normalize(points.detach()[best], dim=1)
    within, all_pairs, between = mean_cosines(rows, superclasses)
    return Minimum(rows, float(losses[best]), losses, gradient, within, all_pairs, between)


def check_geometry(superclasses: int, images: int, dim: int, alpha: float) -> None:
    """Raise ConfigError for what no points can be."""
    if superclasses < 2:
        raise ConfigError(f"the loss contrasts two or more superclasses; got {superclasses}.")
    if images < 2:
        raise ConfigError(f"a superclass spreads only with two or more points; got {images} point a superclass.")
    if dim < 2:
        raise ConfigError(f"points move on a sphere of two or more dimensions; got {dim}. Raise the dimension.")
    if dim < superclasses - 1:
        raise ConfigError(
            f"{superclasses} superclasses form a regular simplex in {superclasses - 1} or more dimensions; got {dim}. "
            f"Raise the dimension."
        )
    if not 0 <= alpha <= 1:
        raise ConfigError(f"alpha weighs the spreading term and lies in [0, 1]; got {alpha}.")


def _starts(superclasses: int, images: int, dim: int, starts: int, seed: int) -> Tensor:
    rng = Generator().manual_seed(seed)
    shape = (starts, superclasses * images, dim)
    random = torch.randn(shape, generator=rng, dtype=torch.float64)
    centres = torch.randn((starts, superclasses, dim), generator=rng, dtype=torch.float64)
    near = normalize(centres, dim=-1).repeat_interleave(images, dim=1) + 0.1 * random / math.sqrt(dim)
    half = (torch.arange(starts) % 2 == 0)[:, None, None]
    return normalize(torch.where(half, random, near), dim=-1)


def mean_cosines(rows: Tensor, superclasses: int) -> tuple[float, float, float]:
    """(within without self, within with self, between) of unit rows (superclasses * images, dim)."""
    images = len(rows) // superclasses
    cosine = (rows @ rows.T).unflatten(0, (superclasses, images)).unflatten(2, (superclasses, images))
    same = torch.stack([cosine[k, :, k] for k in range(superclasses)])
    inside = same.sum((1, 2)).mean()
    between = (cosine.sum() - same.sum()) / (superclasses * (superclasses - 1) * images**2)
    return float((inside - images) / (images * (images - 1))), float(inside / images**2), float(between)


def simplex(count: int) -> Tensor:
    """``count`` unit vectors with pairwise cosine -1 / (count - 1), (count, count), float64."""
    centred = torch.eye(count, dtype=torch.float64) - 1 / count
    return normalize(centred, dim=1)


def simplex_of_simplices(superclasses: int, images: int, cosine: float) -> Tensor:
    """The mean-field embedding: images of a superclass at pairwise ``cosine``, centres on a regular simplex.

    Returns:
        Unit rows (superclasses * images, superclasses + superclasses * images), float64.
    """
    centre = (1 + (images - 1) * cosine) / images  # squared length
    around = simplex(images) * math.sqrt(max(0.0, 1 - centre))
    blocks = torch.block_diag(*[around] * superclasses)
    return torch.cat([simplex(superclasses).repeat_interleave(images, dim=0) * math.sqrt(centre), blocks], dim=1)


def measured_collapse_threshold(
    superclasses: int, images: int, temperature: float, step: float = 1e-5, loss_at: Callable[..., Tensor] = loss_at
) -> float:
    """The alpha up to which a small step out of collapse raises the loss, on explicit points.

    The loss is linear in alpha, so two losses at each of two embeddings give the alpha at which the step costs nothing.
    """
    change = {}
    for alpha in (0.0, 1.0):
        collapsed, spread = (
            loss_at(simplex_of_simplices(superclasses, images, c), superclasses, alpha=alpha, temperature=temperature)
            for c in (1.0, 1.0 - step)
        )
        change[alpha] = float(spread - collapsed)
    return change[0.0] / (change[0.0] - change[1.0])


def circle_points(images: int, cosine: float) -> Tensor:
    """Two superclasses on the circle, opposite each other, each in two clusters of images / 2 at this cosine."""
    half = math.acos(max(-1.0, min(1.0, cosine))) / 2
    angles = torch.tensor([half, -half, math.pi + half, math.pi - half], dtype=torch.float64)
    angles = angles.repeat_interleave(images // 2)
    return torch.stack([angles.cos(), angles.sin()], dim=1)


def circle_optimum(images: int, alpha: float, temperature: float) -> float:
    """The best cosine between the two clusters of a superclass on the circle, to 0.001."""
    from scipy.optimize import minimize_scalar

    grid = torch.linspace(-1, 1, 41, dtype=torch.float64).tolist()

    def loss(cosine: float) -> float:
        return float(loss_at(circle_points(images, cosine), 2, alpha=alpha, temperature=temperature))

    best = min(grid, key=loss)
    found = minimize_scalar(
        loss, bounds=(max(-1, best - 0.05), min(1, best + 0.05)), method="bounded", options={"xatol": 1e-4}
    )
    return float(found.x if found.fun < loss(best) else best)


def circle_limit(alpha: float, temperature: float) -> float:
    """The same for n -> infinity: ``1 - t log((3 alpha - 1) / (3 (1 - alpha)))`` above 2/3, else 1."""
    return 1.0 if alpha <= 2 / 3 else 1 - temperature * math.log((3 * alpha - 1) / (3 * (1 - alpha)))
