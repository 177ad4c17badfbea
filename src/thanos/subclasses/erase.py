"""Take out of vectors what properties explain linearly, so that clusters show what else there is.

No linear function of what is left has any covariance with the properties inside a superclass, and the vectors are moved
as little as that takes (least-squares concept erasure, Belrose et al. 2023). What is taken out are directions: new
vectors need no property to be known.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thanos.errors import ConfigError, DataError
from thanos.names import nearest
from thanos.subclasses.fitted import Erased, Ids, Rows
from thanos.subclasses.properties import Properties

RIDGE = 0.01
"""Of the mean variance, added to every direction: many directions are estimated from few vectors."""
FEWEST = 20
"""Training vectors of which all properties are known, at least."""


@dataclass(frozen=True)
class Trace:
    """What is to be taken out, of some rows."""

    rows: Ids
    design: Rows
    """(rows, columns): numbers standardised, words as columns of 0 and 1."""


def trace_of(without: str, properties: Properties) -> Trace:
    """The properties that the setting names, of the rows that were measured and have them all.

    Args:
        without: Names split by commas.
        properties: What was measured.
    Raises:
        ConfigError: for a property that there is none of.
        DataError: if too few rows have them all.
    """
    there = [*properties.numbers, *properties.kinds]
    names = [name.strip() for name in without.split(",") if name.strip()]
    known, columns = np.ones(len(properties.rows), dtype=bool), list[NDArray[np.float64]]()
    for name in names:
        if name not in there:
            raise ConfigError(
                f"`without` names properties that differ between these images, or columns of their table: "
                f"{', '.join(there) or 'there are none'}; got {name!r}{nearest(name, there)}."
            )
        if name in properties.numbers:
            values = properties.numbers[name]
            known &= np.isfinite(values)
            columns.append(np.nan_to_num(values)[:, None])
        else:
            words = properties.kinds[name]
            known &= words != ""
            columns.append((words[:, None] == np.unique(words)).astype(np.float64))
    if known.sum() < FEWEST:
        raise DataError(
            f"`without={without}` needs {FEWEST} or more rows of which all of it is known; there are {known.sum()}. "
            f"Name fewer."
        )
    return Trace(properties.rows[known], np.concatenate(columns, axis=1)[known])


def fit_erased(x: Rows, superclass: Ids, train: NDArray[np.bool_], trace: Trace) -> Erased:
    """Directions to take out, from training rows of which the properties are known.

    Args:
        x: Vectors, (n, dim).
        superclass: Of each, (n,); covariances are those inside superclasses.
        train: Whether a row may be fitted on, (n,).
        trace: What is to be taken out.
    """
    mine = train[trace.rows]
    rows, design = trace.rows[mine], trace.design[mine]
    vectors, design = _inside(x[rows], superclass[rows]), _inside(design, superclass[rows])
    scale = design.std(axis=0)
    design = design[:, scale > 1e-9] / scale[scale > 1e-9]
    covariance = vectors.T @ vectors / len(rows)
    values, axes = np.linalg.eigh(covariance)
    spread = np.sqrt(np.maximum(values, 0) + RIDGE * max(float(values.mean()), 1e-12))
    towards = (axes / spread).T @ (vectors.T @ design) / len(rows)
    basis, strength, _ = np.linalg.svd(towards, full_matrices=False)
    basis = basis[:, strength > 1e-9 * max(float(strength.max(initial=0)), 1e-12)]
    return Erased((axes * spread) @ basis, (axes / spread) @ basis)


def _inside(values: Rows, superclass: Ids) -> Rows:
    """Less the mean of each superclass."""
    kinds, member = np.unique(superclass, return_inverse=True)
    total = np.zeros((len(kinds), values.shape[1]))
    np.add.at(total, member, values)
    return np.asarray(values - (total / np.bincount(member)[:, None])[member])
