import os

import pytest
import torch

collect_ignore = ["plugin.py"]  # another package, which registers as it is imported

os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(1)


SLOW = {
    "test_axe",
    "test_bench",
    "test_cli",
    "test_count",
    "test_demo",
    "test_discover_images",
    "test_disk",
    "test_docs",
    "test_edit_kept",
    "test_edit_page",
    "test_estimator",
    "test_export",
    "test_fine_tuning",
    "test_fit",
    "test_fused",
    "test_gathered",
    "test_groups",
    "test_hostile",
    "test_lost_workers",
    "test_manifest",
    "test_methods",
    "test_mutations",
    "test_new_images",
    "test_nothing_to_draw",
    "test_other_images",
    "test_plan",
    "test_published",
    "test_registry",
    "test_resume",
    "test_robust_estimator",
    "test_source",
    "test_split",
    "test_spurious",
    "test_table3",
    "test_table4",
    "test_thumbnails",
    "test_tiled",
    "test_vector_commands",
    "test_vectors",
    "test_verb",
}
"""Modules that train, start processes or open a browser; `make test-fast` leaves them out."""


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.stem in SLOW:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    """Tests never touch the user's cache."""
    monkeypatch.setenv("THANOS_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
