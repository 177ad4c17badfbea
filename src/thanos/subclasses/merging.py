"""How many clouds a superclass is made of, and which: many small clusters, merged where that costs least.

1. Rows are turned to their principal axes and whitened by the covariance inside small k-means clusters, so that clouds
   of any shape are round.
2. k-means with many clusters; then again and again the pair whose merging costs least (Ward 1963), and k-means from
   there: a path down to one.
3. There is one cloud, unless a valley lies between two neighbours, or small clusters fit better than in clouds of one
   piece that are made from the rows: elliptical ones with their radii, and ones with their independent components.
4. Else the number with the best penalised likelihood of round clusters, equally wide but for those that are clearly
   wider or narrower. A cluster's price is BIC's of its own rows (as Figueiredo & Jain 2002 have it), or what the
   likelihood still gains by clusters that are surely too many, if that is more. And fewer, as long as more than a tenth
   of them would not be found again in two thirds of the rows.

results/count.json holds it against the silhouette on clouds, worlds and real sets.
"""

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from thanos.subclasses.fitted import Ids, Rows, Turned, squared_distances
from thanos.subclasses.stability import HELD, best_overlaps

if TYPE_CHECKING:
    from sklearn.cluster import KMeans

MOST, EACH = 60, 5
"""Small clusters at the start of the path, at most; and rows for each of them, at least."""
FEWEST = 20
"""Different rows in which clouds can be seen; of fewer, those that come EACH times or more are clusters."""
INSIDE, SHRINK = 30, 0.1
"""Small clusters whose inner covariance whitens, at most; and the share of the identity in it."""
DECIDE, TEST = 5000, 2000
"""Rows that choose the number, and rows that test for any structure, at most."""
DRAWS, FAR, SURE = 6, 2.0, 3.0
"""Clouds of each kind; where rows are no further out than FAR median distances; standard deviations that are wanted."""
DOUBT, CLEAR, WINDOW, PAIRED = 0.01, 0.25, 1 / 3, 8
"""Chance of the deepest valley in a cloud of one piece, and of every other that counts; half a valley's width, in
halves of the way between centres; and the numbers of clusters that valleys are looked for in, at most."""
STEEP, SCANTY, COARSE = 3.5, 20, 3000
"""A cluster's price, in slopes of the likelihood; the rows of one below which its price falls no more; and how many
rows double it: clouds are never quite normal, which many rows tell (Miller & Dunson 2019, "Robust Bayesian inference
via coarsening")."""
OWN, TOLD, ROUNDS = 1.4, 10, 10
"""A cluster so many times as wide as the others, or as narrow, has its own width, if it has so many rows; which are the
others is looked at so often, at most."""
HOLDS, PART, AGAIN = 0.9, 2 / 3, 10
"""Share of clusters that are found again, at least, in parts of so many of the rows, and how many parts are drawn."""


@dataclass(frozen=True)
class Evidence:
    """How surely there is more than one cloud."""

    valley: float
    """Probability that a cloud of one piece shows such a valley between two clusters."""
    excess: float
    """Standard deviations by which small clusters fit better than in clouds of one piece."""

    @property
    def p(self) -> float:
        """Probability of either in a cloud of one piece, for both tests."""
        from scipy.stats import t

        return float(min(1.0, 2 * min(self.valley, t.sf(self.excess, DRAWS - 1))))

    @property
    def one_again(self) -> float:
        """Probability that a fresh draw looks like one cloud: there either figure differs by a standard deviation."""
        from scipy.stats import norm

        surely = norm.isf(DOUBT) - norm.isf(min(max(self.valley, np.finfo(float).tiny), 1 - 1e-9))
        return float(norm.cdf(SURE - self.excess) * norm.cdf(surely))


@dataclass(frozen=True)
class Chosen:
    """A clustering and what it rests on."""

    model: Turned | None
    """None: one cloud."""
    evidence: Evidence
    scores: dict[int, float]
    """Penalised likelihood of each number tried, less that of the chosen one, in prices of a cluster."""
    again: tuple[int, ...] = ()
    """The numbers that parts of the rows, two thirds each, would have by themselves."""


def choose_by_merging(x: Rows, rng: np.random.Generator, *, least: int = 1, most: int | None = None) -> Chosen:
    """The clusters of the rows.

    Args:
        x: Rows of one superclass, (n, dim).
        rng: Of samples, starts and clouds.
        least: Clusters that are wanted at least; from 2 on, nothing is left as one cloud.
        most: Clusters that are taken at most; None: MOST.
    """
    sample = x[np.sort(rng.permutation(len(x))[:DECIDE])]
    rows, times = np.unique(sample, axis=0, return_counts=True)  # a row that comes again is one piece of evidence
    if len(rows) < FEWEST or len(rows) <= MOST < len(sample) / EACH:
        return _of_repeated(rows, times, least)
    rows = rows[rng.permutation(len(rows))]
    mean, axes = principal(rows)
    turned = (rows - mean) @ axes
    turn = axes @ whitening(turned, INSIDE, rng)
    y = (rows - mean) @ turn
    path = merge_path(y, max(least, min(MOST, len(y) // EACH)), rng)
    few = {k: valleys(y, path[k]) for k in path if 1 < k <= PAIRED}
    valley = min(1.0, len(few) * min((deepest for deepest, _ in few.values()), default=1.0))
    evidence = Evidence(valley, structure(turned[:TEST], rng))
    is_one = valley > DOUBT and evidence.excess < SURE
    if is_one and least < 2:
        return Chosen(None, evidence, {})
    clear = [k for k, (deepest, other) in few.items() if other < CLEAR and deepest * len(few) <= DOUBT]
    tried = [k for k in path if k > 1] if evidence.excess >= SURE or is_one else clear or [2]
    tried = [k for k in tried if least <= k <= (most or MOST)] or [min(k for k in path if k >= least)]
    worth, price = penalised(y, path)
    best = max(tried, key=worth.__getitem__)
    best, again = number_that_holds(y[:TEST], path, best, max(2, least), tried, rng)
    scores = {k: (worth[k] - worth[best]) * best / price[best] for k in sorted({*tried, best})}
    return Chosen(Turned(path[best], mean, turn), evidence, scores, again)


def _of_repeated(rows: Rows, times: Ids, least: int) -> Chosen:
    """Few different rows: each that comes again and again is a cluster."""
    kept = np.sort(np.argsort(-times, kind="stable")[: max(least, int((times >= EACH).sum()))])
    if len(kept) < 2:
        return Chosen(None, Evidence(1.0, 0.0), {})
    mean = rows.mean(axis=0)
    return Chosen(Turned(rows[kept] - mean, mean, np.eye(rows.shape[1])), Evidence(0.0, 0.0), {})


def penalised(y: Rows, path: dict[int, Rows]) -> tuple[dict[int, float], dict[int, float]]:
    """Of each number the likelihood less the price of its clusters, and that price."""
    fit = {k: likelihood(y, centres) for k, centres in path.items()}
    price = prices(fit, y, path)
    return {k: fit[k] - price[k] for k in path}, price


def number_that_holds(
    y: Rows, path: dict[int, Rows], best: int, least: int, tried: list[int], rng: np.random.Generator
) -> tuple[int, tuple[int, ...]]:
    """The largest number up to ``best`` whose clusters are mostly found again; and of those tried each part's own."""
    least = min(k for k in path if k >= least)
    paths: list[dict[int, Rows]] = []
    own: list[int] = []
    for _ in range(AGAIN):
        some = y[rng.permutation(len(y))[: round(PART * len(y))]]
        paths.append(merge_path(some, max(least, min(MOST, len(some) // EACH)), rng))
        worth, _ = penalised(some, paths[-1])
        own.append(max((k for k in tried if k in worth), key=worth.__getitem__, default=least))
    return _largest_found_again(y, path, paths, best, least), tuple(own)


def _largest_found_again(y: Rows, path: dict[int, Rows], paths: list[dict[int, Rows]], best: int, least: int) -> int:
    for k in sorted((k for k in path if least < k <= best), reverse=True):
        found = np.unique(nearest(y, path[k]), return_inverse=True)[1]
        parts = [nearest(y, again[min(k, max(again))]) for again in paths]
        held = [best_overlaps(found, part, int(found.max()) + 1) > HELD for part in parts]
        if np.mean(held) >= HOLDS:
            return k
    return least


def principal(x: Rows) -> tuple[Rows, Rows]:
    """The mean, and axes of falling variance that skew to the positive: they turn with the rows."""
    mean = x.mean(axis=0)
    variance, axes = np.linalg.eigh((x - mean).T @ (x - mean) / len(x))
    axes = axes[:, variance > variance.max() * 1e-9][:, ::-1]
    return mean, axes * np.where((((x - mean) @ axes) ** 3).sum(axis=0) < 0, -1, 1)


def kmeans(x: Rows, k: int, rng: np.random.Generator, starts: int = 1) -> "KMeans":
    """scikit-learn's, whatever it warns of rows that are almost equal."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return KMeans(k, n_init=starts, random_state=int(rng.integers(2**31))).fit(x)


def whitening(x: Rows, most: int, rng: np.random.Generator) -> Rows:
    """Brings the covariance inside small clusters to the identity."""
    small = kmeans(x, max(2, min(most, len(x) // 10)), rng)
    rest = x - small.cluster_centers_[small.labels_]
    inside = rest.T @ rest / len(x)
    floor = np.trace(inside) / len(inside)
    variance, axes = np.linalg.eigh((1 - SHRINK) * inside + SHRINK * floor * np.eye(len(inside)))
    return np.asarray(axes / np.sqrt(np.maximum(variance, np.finfo(float).tiny)))


def merge_path(y: Rows, most: int, rng: np.random.Generator) -> dict[int, Rows]:
    """Centres by their number, from ``most`` down to one."""
    centres = kmeans(y, most, rng).cluster_centers_
    path = {len(centres): centres}
    while len(centres) > 1:
        size = np.bincount(nearest(y, centres), minlength=len(centres))
        cost = merge_cost(centres, size)
        a, b = sorted(int(i) for i in np.unravel_index(cost.argmin(), cost.shape))
        centres = centres.copy()
        centres[a] = (size[a] * centres[a] + size[b] * centres[b]) / max(size[a] + size[b], 1)
        centres = lloyd(y, np.delete(centres, b, axis=0))
        path[len(centres)] = centres
    return path


def merge_cost(centres: Rows, size: Ids) -> Rows:
    """By how much the sum of squares grows if two clusters become one (Ward)."""
    cost = np.outer(size, size) / np.maximum(size[:, None] + size, 1) * squared_distances(centres, centres)
    np.fill_diagonal(cost, np.inf)
    return np.asarray(cost)


def nearest(y: Rows, centres: Rows) -> Ids:
    """The centre of each row, (n,)."""
    return np.asarray(squared_distances(y, centres).argmin(axis=1))


def lloyd(y: Rows, centres: Rows, steps: int = 10) -> Rows:
    """Centres after so many steps of k-means, or when nothing moves; empty clusters are gone."""
    label = None
    for _ in range(steps):
        before, label = label, nearest(y, centres)
        if before is not None and len(before) == len(label) and (before == label).all():
            break
        member = (label == np.arange(len(centres))[:, None]).astype(np.float64)
        size = member.sum(axis=1)
        centres = (member @ y)[size > 0] / size[size > 0][:, None]
    return centres


def valleys(y: Rows, centres: Rows) -> tuple[float, float]:
    """Of the pairs of clusters: the least chance of so empty a middle between two sides, and the largest.

    The least is one of as many as were looked at; the largest is of pairs with rows enough to tell.
    """
    from scipy.stats import binom

    first, second, way = margins(y, centres)
    shape = (len(centres), len(centres))
    pairs, chance = np.triu_indices(len(centres), 1), np.ones(len(centres) * (len(centres) - 1) // 2)
    inside = np.zeros(shape)
    np.add.at(inside, (first, second), way < WINDOW)
    middle, told = (inside + inside.T)[pairs], np.zeros(len(chance), dtype=bool)
    for start in (WINDOW, 1 - WINDOW):  # beside the middle, and about the centres
        beside = np.zeros(shape)
        np.add.at(beside, (first, second), (way >= start) & (way < start + 2 * WINDOW))
        side = np.minimum(beside, beside.T)[pairs]
        chance = np.minimum(chance, binom.cdf(middle, middle + side, 0.5))
        told |= middle + side >= EACH
    return float(chance.min()) * len(chance) * 2, float(chance[told].max(initial=0.0))


def margins(y: Rows, centres: Rows) -> tuple[Ids, Ids, Rows]:
    """The nearest two centres, and the way from the middle between them towards the nearer, which is at 1.

    A row's own cluster is taken without it.
    """
    apart, rows = squared_distances(y, centres), np.arange(len(y))
    own = apart.argmin(axis=1)
    size = np.bincount(own, minlength=len(centres))[own]
    apart[rows, own] = np.where(size > 1, apart[rows, own] * (size / np.maximum(size - 1, 1)) ** 2, np.inf)
    first, second = np.argsort(apart, axis=1)[:, :2].T
    between = ((centres[first] - centres[second]) ** 2).sum(axis=1)
    return first, second, (apart[rows, second] - apart[rows, first]) / np.maximum(between, np.finfo(float).tiny)


def structure(z: Rows, rng: np.random.Generator) -> float:
    """By how many standard deviations clusters fit better than in elliptical clouds and those of independent parts."""
    from sklearn.decomposition import FastICA
    from sklearn.exceptions import ConvergenceWarning

    scale = z.std(axis=0)
    white, near = z / scale, pulled_in(z)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        ica = FastICA(whiten=False, max_iter=60, tol=1e-3, random_state=int(rng.integers(2**31)))
        part = ica.fit(white).components_ if z.shape[1] > 1 else np.eye(1)
    sources, back = white @ part.T, np.linalg.pinv(part).T * scale
    _, axes = principal(near)
    spread = ((near - near.mean(axis=0)) @ axes).std(axis=0)
    radius = np.linalg.norm(white, axis=1), np.linalg.norm((near - near.mean(axis=0)) @ axes / spread, axis=1)
    nulls: list[list[Rows]] = [[], [], []]
    for _ in range(DRAWS):
        nulls[0].append(unexplained(directions(white.shape, rng) * radius[0][:, None] * scale, rng))
        nulls[1].append(unexplained(directions((len(z), len(spread)), rng) * radius[1][:, None] * spread, rng))
        nulls[2].append(unexplained(rng.permuted(sources, axis=0) @ back, rng))
    own = np.mean([unexplained(z, rng) for _ in range(3)], axis=0)
    sd = np.std(nulls, axis=1, ddof=1)
    sd = np.maximum(sd, sd.mean(axis=1, keepdims=True)) + 0.005
    return float(((np.mean(nulls, axis=1) - own) / sd).min(axis=0).max())


def directions(shape: tuple[int, ...], rng: np.random.Generator) -> Rows:
    """Rows of unit length, uniform over the sphere."""
    draw = rng.normal(size=shape)
    return np.asarray(draw / np.linalg.norm(draw, axis=1, keepdims=True))


def pulled_in(x: Rows) -> Rows:
    """Rows that are further from the median than FAR median distances, brought to there."""
    x = x - np.median(x, axis=0)
    far = np.linalg.norm(x, axis=1)
    return np.asarray(x * np.minimum(1, FAR * np.median(far) / np.maximum(far, np.finfo(float).tiny))[:, None])


def unexplained(x: Rows, rng: np.random.Generator) -> Rows:
    """Log share of the variance that 2, 4, 8 and 16 clusters leave, after whitening inside small clusters."""
    y = pulled_in(x)
    y = y @ whitening(y, 10, rng)
    whole = ((y - y.mean(axis=0)) ** 2).sum()
    return np.log([kmeans(y, k, rng).inertia_ / whole for k in (2, 4, 8, 16) if k == 2 or k <= len(y) // 10])


def likelihood(y: Rows, centres: Rows) -> float:
    """Log-likelihood, but for a constant, of round normal clusters with the rows assigned."""
    apart = squared_distances(y, centres)
    near = apart.argmin(axis=1)
    size = np.bincount(near, minlength=len(centres))
    width = widths(np.bincount(near, weights=apart.min(axis=1), minlength=len(centres)) / y.shape[1], size)
    return float((size * (np.log(np.maximum(size, 1) / len(y)) - y.shape[1] / 2 * np.log(width))).sum())


def widths(rest: Rows, size: Ids) -> Rows:
    """The variance of each cluster in a dimension: all have one, but for those that are clearly wider or narrower.

    Hard edges cut every cluster to another width, so that small differences say nothing.

    Args:
        rest: Sums of squares within clusters, in one dimension.
        size: Their rows.
    """
    tiny = np.finfo(float).tiny
    alone = np.maximum(rest / np.maximum(size, 1), tiny)
    own = np.zeros(len(size), dtype=bool)
    for _ in range(ROUNDS):
        together = max(float(rest[~own].sum() / max(size[~own].sum(), 1)), tiny)
        found = (size >= TOLD) & (np.abs(np.log(alone / together)) > 2 * np.log(OWN))
        found[size.argmax()] &= not found.all()  # one has the width that all have
        if (found == own).all():
            break
        own = found
    return np.where(own, alone, together)


def prices(fit: dict[int, float], y: Rows, path: dict[int, Rows]) -> dict[int, float]:
    """Of each number: what its clusters cost, or STEEP slopes of the likelihood beyond what BIC wants for each."""
    bic = y.shape[1] * np.log(len(y)) / 2
    wanted, most = max(fit, key=lambda k: fit[k] - bic * k), max(fit)
    beyond = [k for k in fit if k >= max(most / 2, min(1.25 * wanted, 0.8 * most))]
    slope = np.polyfit(beyond, [fit[k] for k in beyond], 1)[0] if len(beyond) > 1 else 0.0
    price = {}
    for k, centres in path.items():
        size = np.bincount(nearest(y, centres), minlength=k)
        own = y.shape[1] / 2 * float(np.log(np.maximum(size, SCANTY)).sum()) * (1 + len(y) / COARSE)
        price[k] = max(own, STEEP * float(slope) * k)
    return price
