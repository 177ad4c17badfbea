"""What a discovered subclass is: in which simple property its images differ from their siblings in the superclass.

Every property of a subclass is tested against the siblings (Mann and Whitney 1947; of words by Fisher's exact test),
corrected for all of these tests (Holm 1979). A difference is named if it is no chance and plain to see. What is named
need not be a cause: it is what a person can look for.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thanos.evaluate.intervals import holm
from thanos.subclasses.fitted import Ids
from thanos.subclasses.properties import NUMBERS, Properties

LEVEL = 0.05
"""Probability that anything at all is named where there is nothing."""
PLAIN = 0.65
"""An AUC that is plain to see, and above."""
FEWEST = 5
"""Images on either side, at least, that a test takes."""
NAMED, SHOWN = 3, 4
"""Properties of a subclass that are told, at most; and subclasses on the terminal."""


@dataclass(frozen=True)
class Difference:
    """One property in which a subclass differs from its siblings."""

    property: str
    says: str
    """In words: bright; camera X."""
    auc: float
    """Probability that an image of the subclass has more of it than one of a sibling, or less if ``says`` says less;
    of words: a half, and half of what their shares differ by."""
    interval: tuple[float, float]
    """95%, by Hanley and McNeil (1982)."""
    p: float
    """Corrected."""
    known: int
    """Images of the subclass of which the property is known."""


@dataclass(frozen=True)
class Explained:
    """What is known of each subclass that has siblings."""

    differences: dict[int, list[Difference]]
    """By subclass, the plainest first; empty where no property tells it apart."""
    tried: int
    """Properties that were looked at."""
    left_out: tuple[str, ...] = ()
    """Columns that were not, with the reason."""

    def lines(self, names: tuple[str, ...]) -> list[str]:
        """One line, for the terminal."""
        first = {names[c]: each[0] for c, each in self.differences.items() if each}
        plain = [names[c] for c, each in self.differences.items() if not each]
        shown = [f"{name} {d.says} (AUC {d.auc:.2f})" for name, d in first.items()]
        shown = [*shown[:SHOWN], *([f"{len(shown) - SHOWN} more on the page"] if len(shown) > SHOWN else [])]
        if plain:
            few = ", ".join(plain[:SHOWN]) + ", ..." * (len(plain) > SHOWN)
            shown.append(f"none of {self.tried} properties tells {few} apart")
        shown += [f"not looked at: {', '.join(self.left_out)}"] if shown and self.left_out else []
        return [f"beside their siblings: {'; '.join(shown)}"] if shown else []

    def words(self, names: tuple[str, ...]) -> dict[str, str]:
        """By the name of a subclass, what a page says of it; of one that no property tells apart, nothing."""
        said = {}
        for c, found in self.differences.items():
            each = [f"{d.says} (AUC {d.auc:.2f}, {d.interval[0]:.2f} to {d.interval[1]:.2f})" for d in found]
            if each:
                said[names[c]] = "; ".join(each)
        return said


def explain(cluster: Ids, superclass: Ids, properties: Properties) -> Explained:
    """In which properties each discovered subclass differs from its siblings.

    Args:
        cluster: Of every image, (n,).
        superclass: The same; a subclass is held against the others that its superclass has.
        properties: Of some of the images.
    """
    rows = properties.rows
    cluster, superclass = cluster[rows], superclass[rows]
    tests: list[tuple[int, Difference]] = []
    differences: dict[int, list[Difference]] = {}
    for c in np.unique(cluster).tolist():
        mine = cluster == c
        siblings = np.isin(superclass, np.unique(superclass[mine])) & ~mine
        if siblings.any():
            differences[c] = []
            tests += [(c, each) for each in _tests(mine, siblings, properties)]
    for (c, each), p in zip(tests, holm(np.array([each.p for _, each in tests])), strict=True):
        if p <= LEVEL and each.auc >= PLAIN:
            kept = Difference(each.property, each.says, each.auc, each.interval, float(p), each.known)
            differences[c].append(kept)
    for c, each_of in differences.items():
        differences[c] = sorted(each_of, key=lambda d: -d.auc)[:NAMED]
    return Explained(differences, properties.count, properties.left_out)


def _tests(mine: NDArray[np.bool_], siblings: NDArray[np.bool_], properties: Properties) -> list[Difference]:
    found = []
    for name, values in properties.numbers.items():
        known = np.isfinite(values)
        a, b = values[mine & known], values[siblings & known]
        if min(len(a), len(b)) >= FEWEST:
            found.append(_of_number(name, a, b))
    for name, words in properties.kinds.items():
        known = words != ""
        a, b = words[mine & known], words[siblings & known]
        if min(len(a), len(b)) >= FEWEST:
            found += [_of_word(name, word, a, b) for word in sorted({*a.tolist(), *b.tolist()})]
    return found


def _of_number(name: str, a: NDArray[np.float64], b: NDArray[np.float64]) -> Difference:
    from scipy.stats import mannwhitneyu

    result = mannwhitneyu(a, b, method="asymptotic")
    auc = float(result.statistic) / (len(a) * len(b))
    less, more = NUMBERS.get(name, (f"little {name}", f"much {name}"))
    says, auc = (more, auc) if auc >= 0.5 else (less, 1 - auc)
    return Difference(name, says, auc, auc_interval(auc, len(a), len(b)), float(result.pvalue), len(a))


def _of_word(name: str, word: str, a: NDArray[Any], b: NDArray[Any]) -> Difference:
    from scipy.stats import fisher_exact

    in_a, in_b = int((a == word).sum()), int((b == word).sum())
    p = float(fisher_exact([[in_a, len(a) - in_a], [in_b, len(b) - in_b]]).pvalue)
    shares = in_a / len(a), in_b / len(b)
    says = f"{name} {word} ({shares[0]:.0%}, siblings {shares[1]:.0%})"
    auc = 0.5 + (shares[0] - shares[1]) / 2  # what is rarer here is commoner under another word
    return Difference(name, says, auc, auc_interval(auc, len(a), len(b)), p, len(a))


def auc_interval(auc: float, n: int, m: int) -> tuple[float, float]:
    """95% of an AUC between n and m images (Hanley and McNeil 1982), within 0 and 1."""
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    variance = (auc * (1 - auc) + (n - 1) * (q1 - auc**2) + (m - 1) * (q2 - auc**2)) / (n * m)
    half = 1.96 * float(np.sqrt(max(variance, 0)))
    return max(0.0, auc - half), min(1.0, auc + half)
