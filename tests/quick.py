"""What takes the place of slow parts in all tests, which are not about these."""

import os
import sys
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from functools import cache

import numpy as np
import pytest
from sklearn.datasets import load_digits

from thanos.data import published
from thanos.report.figures import training_curves
from thanos.report.plane import directions, neighbour_plane

SOME = 900
all_digits = published._digits


def some_digits():
    """The first of them, the default data of trainings: half as many find faults as well."""
    return all_digits().take(np.arange(SOME))


@contextmanager
def with_all_digits():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(published, "_digits", all_digits)
        yield


@contextmanager
def in_place():
    """Pages; scikit-learn's digits, which it reads from text; and the wait for a disk.

    Most seconds of a page are t-SNE's, whose places no test looks at: principal components take its place. So do a few
    draws that of many which say how surely a subclass would be found again. tests/report/test_plane.py and
    tests/subclasses/test_stability.py look at both as they are. That a file outlasts a loss of power no test can see,
    and tests of writes that fail put their own in its place.
    """
    drawn, read = {}, cache(load_digits)
    with pytest.MonkeyPatch.context() as patch:
        for module in ("map", "figures"):
            patch.setattr(f"thanos.report.{module}.neighbour_plane", _components)
        patch.setattr("thanos.subclasses.stability.DRAWS", 2)
        patch.setattr("thanos.report.discover_page.training_curves", lambda runs: _curves(runs, drawn))
        patch.setattr("sklearn.datasets.load_digits", lambda **how: deepcopy(read(**how)))
        patch.setattr(published, "_digits", some_digits)
        patch.setattr("sklearn.utils.parallel._threadpool_controller", _OneThread)
        # every Trainer reads all packages' facts; where nothing imports Lightning, there is none
        if registry := sys.modules.get("lightning_fabric.utilities.registry"):
            patch.setattr(registry, "entry_points", cache(registry.entry_points))
        patch.setattr(os, "fsync", lambda handle: None)
        yield


class _OneThread:
    """In the place of what asks and tells the libraries, around every k-means, how many threads they have: one."""

    info = staticmethod(list)
    limit = staticmethod(lambda **wanted: nullcontext())


def _curves(runs, drawn):
    """Those of one log are drawn once."""
    key = repr(runs)
    if key not in drawn:
        drawn[key] = training_curves(runs)
    return drawn[key]


def _components(vectors):
    unit = directions(vectors)
    if len(unit) < 20 or not np.ptp(unit, axis=0).max() > 1e-6:
        return neighbour_plane(vectors)
    rows = (unit - unit.mean(axis=0)).astype(np.float64)
    axes = np.linalg.eigh(rows.T @ rows)[1][:, :-3:-1] if rows.shape[1] > 1 else np.ones((1, 2))
    return (rows @ axes).astype(np.float32)
