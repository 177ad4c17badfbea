"""For all tests. What takes seconds to import is imported where it is used: the process that hands tests out, which
loads this file too, needs none of it."""

import gc
import os

import pytest

collect_ignore = ["plugin.py"]  # another package, which registers as it is imported

gc.disable()  # what is imported stays; to look through it again and again takes seconds

os.environ.setdefault("OMP_NUM_THREADS", "1")


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
    "methods/test_methods",
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
"""Modules of more than three seconds, which train, start processes or open a browser: not in `make test-fast`.
By name; with their folder, where two have one."""


def pytest_collection_finish():
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    gc.enable()


def pytest_sessionfinish():
    gc.unfreeze()  # else libraries say, as the process ends, that they leak what is still there


def pytest_collection_modifyitems(items):
    for item in items:
        name = item.path.stem
        if name in SLOW or f"{item.path.parent.name}/{name}" in SLOW:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True, scope="session")
def _quick():
    from quick import in_place

    with in_place():
        yield


@pytest.fixture
def all_digits():
    """Where something is said of scikit-learn's 1,797."""
    from quick import with_all_digits

    with with_all_digits():
        yield


@pytest.fixture(scope="module")
def all_digits_in_module():
    from quick import with_all_digits

    with with_all_digits():
        yield


@pytest.fixture(autouse=True)
def _one_thread():
    """What a test sets stays in its process; threads that share a core with another worker wait for each other."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    """Tests never touch the user's cache."""
    monkeypatch.setenv("THANOS_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
