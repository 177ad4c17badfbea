import os

import pytest
import torch

collect_ignore = ["plugin.py"]  # another package, which registers as it is imported

os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    """Tests never touch the user's cache."""
    monkeypatch.setenv("THANOS_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
