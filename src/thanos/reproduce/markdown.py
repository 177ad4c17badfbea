"""Numbers as a page says them: tables, means with deviations, differences with intervals."""

import math
from collections.abc import Iterable, Sequence

import numpy as np

from thanos.evaluate.intervals import mean_interval

Cell = str | None
"""None: nothing is known yet."""
NOT_RUN = "not run yet"


def table(head: Sequence[Cell], rows: Iterable[Sequence[Cell]]) -> str:
    """A table in Markdown; None is an empty cell."""
    return "\n".join([_line(head), "|---" * len(head) + "|", *(_line(row) for row in rows)])


def _line(cells: Sequence[Cell]) -> str:
    return "|" + "".join(" |" if cell is None else f" {cell} |" for cell in cells)


def not_run(head: Sequence[Cell], *first: str) -> list[Cell]:
    """The line of a row without a record, as long as the head; ``first`` says which row it is."""
    return [*first, NOT_RUN, *[None] * (len(head) - len(first) - 1)]


def mean_and_deviation(values: Iterable[float]) -> str:
    """Mean ± standard deviation of one value or more.

    Example:
        >>> mean_and_deviation([1.0, 2.0, 3.0]), mean_and_deviation([4.0])
        ('2.0 ± 1.0', '4.0')
    """
    given = [*values]
    return f"{np.mean(given):.1f}" + (f" ± {np.std(given, ddof=1):.1f}" if len(given) > 1 else "")


def from_to(numbers: Iterable[int]) -> str:
    """Smallest to largest.

    Example:
        >>> from_to([3, 2, 5]), from_to([2, 2])
        ('2 to 5', '2')
    """
    given = [*numbers]
    low, high = min(given), max(given)
    return str(low) if low == high else f"{low} to {high}"


def difference_cells(differences: Iterable[float]) -> list[Cell]:
    """Mean, its 95% interval, and the differences by seed.

    Example:
        >>> difference_cells([1.0]), difference_cells([])
        (['+1.0', 'one seed', '+1.0'], ['not run yet', None, None])
    """
    values = [*differences]
    if not values:
        return [NOT_RUN, None, None]
    low, high = mean_interval(values)
    interval = f"{low:+.1f} to {high:+.1f}" if math.isfinite(low) else "one seed"
    return [f"{np.mean(values):+.1f}", interval, ", ".join(f"{v:+.1f}" for v in values)]
