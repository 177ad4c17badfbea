"""Whether arrays that were read back can place a vector: their numbers finite, shapes that fit, ids in range."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from thanos.subclasses.fitted import Centres, Clusters, Components, Fitted, FittedSuperclass, Harder, Mixture, Turned
from thanos.subclasses.reach import NEAREST, Reach

if TYPE_CHECKING:
    from thanos.subclasses.keep import Places


def check_places(places: "Places", arrays: Iterable[NDArray[Any]]) -> None:
    """Raise ValueError for what cannot be meant.

    Args:
        places: As it was read.
        arrays: All that it was made of.
    """
    fitted = places.fitted
    for each in arrays:
        if each.dtype.kind not in "fiuU" or (each.dtype.kind == "f" and not np.isfinite(each).all()):
            raise ValueError("not all its numbers are finite")
    for names in (places.names, places.superclass_names):
        _hold(len(set(names)) == len(names), "a name stands there twice")
    _hold(fitted.length in ("unit", "own") and fitted.size > 0, "length or size is none")
    (dim,) = fitted.mean.shape
    _check_columns(fitted.columns, dim)
    if (erased := fitted.erased) is not None:
        _hold(erased.left.shape == erased.right.shape and len(erased.left) == dim, "what is taken out does not fit")
    for value, one in fitted.superclasses.items():
        _hold(0 <= value < len(places.superclass_names), f"there is no superclass {value}")
        check_superclass(one, dim)
    _hold(_ids(fitted) == list(range(len(places.names))), "names and clusters differ")
    if places.reach is not None:
        _check_reach(places.reach)


def check_superclass(one: FittedSuperclass, dim: int) -> None:
    """Raise ValueError unless vectors of ``dim`` numbers can be placed in it."""
    wide = _width(one.reduction, dim)
    found, reduced = one.centres.shape
    _hold(reduced == wide and found > 0, "centres do not fit")
    clusters = one.clusters
    for model in (clusters.model, *clusters.parts.values()):
        _check_model(model, wide)
    _check_order(clusters, found)


def _check_order(clusters: Clusters, found: int) -> None:
    """Every cluster that can come out is one that there is."""
    _hold(set(clusters.parts) <= set(range(clusters.count)), "a cluster is split that there is not")
    _hold(all(model.count <= clusters.each for model in clusters.parts.values()), "clusters have too many parts")
    come = {*range(clusters.count), *clusters.kept.values()}
    order = np.arange(max(come) + 1) if clusters.order is None else clusters.order
    _hold(order.ndim == 1 and order.dtype.kind in "iu" and min(come) >= 0, "the order is none")
    _hold(max(come) < len(order), "the order is not that of its clusters")
    _hold({int(order[one]) for one in come} == set(range(found)), "the order is not that of its clusters")


def _check_model(model: Any, wide: int) -> None:
    if model is None:
        return
    if isinstance(model, Turned):
        _hold(model.mean.shape == (wide,) and model.turn.ndim == 2 and len(model.turn) == wide, "a turn does not fit")
        wide = model.turn.shape[1]
    if isinstance(model, Centres):
        _hold(model.centres.ndim == 2 and model.centres.shape[1] == wide and model.count > 0, "centres do not fit")
        return
    _hold(isinstance(model, Mixture), "a model is none")
    count = model.count
    full, diagonal = (count, wide, wide), (count, wide)
    fits = model.weights.shape == (count,) and count > 0 and model.means.shape == diagonal
    _hold(fits and model.precisions.shape in (full, diagonal) and (model.weights >= 0).all(), "a mixture does not fit")


def _width(reduction: Any, dim: int) -> int:
    """Of rows after a reduction."""
    if isinstance(reduction, Components):
        _hold(reduction.mean.shape == (dim,) and reduction.directions.ndim == 2, "components do not fit")
        _hold(reduction.directions.shape[1] == dim, "components do not fit")
        return len(reduction.directions)
    if isinstance(reduction, Harder):
        _hold(reduction.direction.shape == (dim,), "a direction does not fit")
        return 1 + (0 if reduction.rest is None else _width(reduction.rest, dim))
    return dim


def _ids(fitted: Fitted) -> list[int]:
    return sorted(one.first + k for one in fitted.superclasses.values() for k in range(len(one.centres)))


def _check_reach(reach: Reach) -> None:
    _hold(reach.known.ndim == 2 and len(reach.known) >= NEAREST and reach.limit >= 0, "what is known does not fit")
    _check_columns(reach.columns, reach.known.shape[1])


def _check_columns(columns: tuple[int, int] | None, dim: int) -> None:
    if columns is not None:
        _hold(0 <= columns[0] < columns[1] and columns[1] - columns[0] == dim, "columns do not fit")


def _hold(fits: Any, fault: str) -> None:
    if not fits:
        raise ValueError(fault)
