import gc
import os
from copy import deepcopy
from functools import cache

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from thanos.report.figures import training_curves
from thanos.report.plane import directions, neighbour_plane

collect_ignore = ["plugin.py"]  # another package, which registers as it is imported

gc.disable()  # what is imported stays; to look through it again and again takes seconds

os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(1)


SLOW = {
    "test_auto",
    "test_axe",
    "test_bench",
    "test_cli",
    "test_coarse_to_fine",
    "test_compare",
    "test_count",
    "test_cuts",
    "test_demo",
    "test_discover_images",
    "test_discovery",
    "test_disk",
    "test_docs",
    "test_edit_kept",
    "test_edit_page",
    "test_edits",
    "test_edits_used",
    "test_spread_encoder",
    "test_explain",
    "test_programs",
    "test_faults",
    "test_fine_tuning",
    "test_fit",
    "test_foreign_folders",
    "test_frozen",
    "test_fused",
    "test_gathered",
    "test_groups",
    "test_hostile",
    "test_infer",
    "test_intervals",
    "test_kept_records",
    "test_layouts",
    "test_levels",
    "test_long_names",
    "test_lost_workers",
    "test_manifest",
    "test_mechanisms",
    "test_methods",
    "test_mutated",
    "test_mutations",
    "test_new_images",
    "test_nothing_to_draw",
    "test_other_images",
    "test_plan",
    "test_points",
    "test_portfolio",
    "test_pretrained",
    "test_prototypes",
    "test_published",
    "test_registry",
    "test_resume",
    "test_group_robust_classifier",
    "test_scarce",
    "test_schemas",
    "test_snippet",
    "test_inputs",
    "test_split",
    "test_spurious",
    "test_subclass_discovery",
    "test_table3",
    "test_table4",
    "test_thumbnails",
    "test_tiled",
    "test_training_groups",
    "test_unseen",
    "test_vector_commands",
    "test_vectors",
    "test_stage",
    "test_walk",
}
"""Modules of more than three seconds, which train, start processes or open a browser: not in `make test-fast`."""


def pytest_collection_finish():
    gc.collect()
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.stem in SLOW:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True, scope="session")
def _quick_pages():
    """Most seconds of a page are t-SNE's, whose places no test looks at: principal components take its place.

    So do a few draws that of many which say how surely a subclass would be found again. tests/report/test_plane.py and
    tests/subclasses/test_stability.py look at both as they are.
    """
    with pytest.MonkeyPatch.context() as patch:
        for module in ("map", "figures"):
            patch.setattr(f"thanos.report.{module}.neighbour_plane", _components)
        patch.setattr("thanos.subclasses.stability.DRAWS", 5)
        drawn = {}
        patch.setattr("thanos.report.discover_page.training_curves", lambda runs: _curves(runs, drawn))
        yield


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


@pytest.fixture(autouse=True, scope="session")
def _read_once():
    """scikit-learn's digits, which it reads from text; and no wait for a disk: that a file outlasts a loss of power no
    test can see, and tests of writes that fail put their own in its place.
    """
    read = cache(load_digits)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sklearn.datasets.load_digits", lambda **how: deepcopy(read(**how)))
        patch.setattr(os, "fsync", lambda handle: None)
        yield


@pytest.fixture(autouse=True)
def _one_thread():
    """What a test sets stays in its process; threads that share a core with another worker wait for each other."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    """Tests never touch the user's cache."""
    monkeypatch.setenv("THANOS_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
