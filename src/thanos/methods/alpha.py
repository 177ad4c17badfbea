"""How far L_spread spreads a superclass: the window of alpha, and the alpha for a wanted spread. Needs no torch.

The mean-field model: K superclasses of n images each meet in a batch, every image's views coincide, images of one
superclass have pairwise cosine c, and the superclasses' centres, of squared length ``m = (1 + (n-1) c) / n``, form a
regular simplex. With ``N = n (K - 1)`` negatives, all at cosine ``x = -m / (K - 1)``, the loss is

    L(c) = (1 - a) [ (1/n) log(1 + N e^{(x-1)/t}) + ((n-1)/n) log(1 + N e^{(x-c)/t}) ]
           + a log(1 + (n-1) e^{(c-1)/t})

which is linear in alpha (a): the alpha that makes a given c stationary has a closed form. With the cosine falling
from 1 (collapsed) to -1 / (n-1) (the centres vanish: the superclasses themselves dissolve) its minimiser moves from one
to the other as alpha grows. Larger batches narrow that window.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class AlphaWindow(NamedTuple):
    """Where L_spread does what it is for: below ``collapse`` superclasses collapse, above ``dissolve`` they mix."""

    collapse: float
    alpha: float
    dissolve: float


def solve_alpha(superclasses: int, batch: int, temperature: float, within_class_cosine: float = 0.6) -> AlphaWindow:
    """The alpha whose optimum has the wanted cosine between different images of one superclass, with its window.

    Args:
        superclasses: Number of superclasses, K >= 1.
        batch: Images in the batch that the loss sees (over all devices if it gathers them).
        temperature: Divisor of the cosine similarity, > 0.
        within_class_cosine: The wanted cosine, in (0, 1): 1 is collapse, 0 lets superclasses dissolve.
    Returns:
        The window. Where the optimum jumps over the wanted cosine, ``alpha`` is the middle of the window.
    Raises:
        ValueError: with one superclass, where a batch holds one image of a superclass or less on average, or for a
            temperature or cosine out of range.
    Example:
        >>> solve_alpha(2, 128, 0.5).alpha.__round__(3)
        0.634
    """
    if not temperature > 0:
        raise ValueError(f"temperature divides the cosine and must be > 0; got {temperature}.")
    if not 0 < within_class_cosine < 1:
        raise ValueError(f"within_class_cosine lies between 0 and 1; got {within_class_cosine}.")
    images = batch / max(1, superclasses)
    if superclasses < 2 or images <= 1:
        raise ValueError(
            f"alpha = auto needs two or more superclasses and more than one image of each in a batch; got "
            f"{superclasses} superclasses in batches of {batch}. Raise the batch, or give alpha as a number."
        )
    return _window(superclasses, images, temperature, within_class_cosine)


@lru_cache(maxsize=64)
def _window(superclasses: int, images: float, temperature: float, within_class_cosine: float) -> AlphaWindow:
    collapse = collapse_threshold(superclasses, images, temperature)
    dissolve = _dissolve_threshold(superclasses, images, temperature, collapse)
    alpha = float(_stationary_alpha(np.array(within_class_cosine), superclasses, images, temperature))
    reached = optimal_cosine(alpha, superclasses, images, temperature) if collapse < alpha < dissolve else np.nan
    if not abs(reached - within_class_cosine) < 0.02:  # that cosine is no global minimum: the optimum jumps over it
        alpha = (collapse + dissolve) / 2
    return AlphaWindow(collapse, alpha, dissolve)


def collapse_threshold(superclasses: int, images: float, temperature: float) -> float:
    """Largest alpha at which collapse minimises L_spread: ``rK / (K - 1 + rK)``.

    Args:
        superclasses: K >= 2.
        images: Images of each superclass in the batch, n >= 1.
        temperature: Divisor of the cosine similarity, > 0.
    """
    k, negatives = superclasses, (superclasses - 1) * images
    r = 1 / (1 + np.exp(k / ((k - 1) * temperature)) / negatives)
    return float(r * k / (k - 1 + r * k))


def mixture_collapse_threshold(superclasses: int, images: float, temperature: float) -> float:
    """Largest alpha at which collapse minimises ``(1 - alpha) * SupCon + alpha * InfoNCE``, both against all points.

    This is the loss of Lee et al., AISTATS 2025. It is convex in the within-class cosine, so collapse ends where its
    slope there changes sign, at ``1 - (n-1)/n (1 - q) / (1 + (K-1) q)`` with ``q = e^{-K/((K-1) t)}``, and the optimum
    never jumps.

    Args:
        superclasses: K >= 2.
        images: Images of each superclass in the batch, n > 1.
        temperature: Divisor of the cosine similarity, > 0.
    """
    q = np.exp(-superclasses / ((superclasses - 1) * temperature))
    return float(1 - (images - 1) / images * (1 - q) / (1 + (superclasses - 1) * q))


def optimal_cosine(alpha: float, superclasses: int, images: float, temperature: float) -> float:
    """The within-class cosine that minimises the mean-field loss at this alpha.

    From 1 (collapsed) to -1 / (n - 1), where the centres vanish: n images cannot be further apart.
    """
    low = -1 / (images - 1)
    cosine = np.concatenate([np.linspace(low, 0, 1000), np.linspace(0, 1, 4001), 1 - np.logspace(-12, -4, 100)])
    attract, conditional = _terms(cosine, superclasses, images, temperature)
    return float(cosine[np.argmin((1 - alpha) * attract + alpha * conditional)])


def _terms(c: NDArray[Any], k: int, n: float, t: float) -> tuple[NDArray[Any], NDArray[Any]]:
    x = -(1 + (n - 1) * c) / (n * (k - 1))
    negatives = n * (k - 1)
    attract = np.logaddexp(0, np.log(negatives) + (x - 1) / t) / n
    attract = attract + (n - 1) / n * np.logaddexp(0, np.log(negatives) + (x - c) / t)
    return attract, np.logaddexp(0, np.log(n - 1) + (c - 1) / t)


def _stationary_alpha(c: NDArray[Any], k: int, n: float, t: float) -> NDArray[Any]:
    """The alpha at which dL/dc = 0: the attraction's pull over the sum of both pulls."""
    x, slope = -(1 + (n - 1) * c) / (n * (k - 1)), -(n - 1) / (n * (k - 1))
    log_negatives = np.log(n * (k - 1))
    own = _sigmoid(log_negatives + (x - 1) / t) * slope / t / n
    others = (n - 1) / n * _sigmoid(log_negatives + (x - c) / t) * (slope - 1) / t
    pull = -(own + others)
    push = _sigmoid(np.log(n - 1) + (c - 1) / t) / t
    return pull / (pull + push)


def _dissolve_threshold(k: int, n: float, t: float, collapse: float) -> float:
    """Smallest alpha at which the best cosine lies at 0 or below, by bisection."""
    low, high = collapse, 1.0
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (middle, high) if optimal_cosine(middle, k, n, t) > 1e-3 else (low, middle)
    return high


def _sigmoid(value: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(np.exp(-np.logaddexp(0, -value)))
