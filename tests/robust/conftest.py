"""Vectors with a shortcut, for the tests of what infers groups and of what chooses."""

import numpy as np
import pytest

from thanos.embeddings import Embeddings


@pytest.fixture(scope="session")
def make_shortcut():
    return with_shortcut


def with_shortcut(n=900, seed=0, odd_share=0.1):
    """A wide shortcut in dimension 0 that fails for the odd ones, a weaker true signal in dimension 1."""
    rng = np.random.default_rng(seed)
    superclass = rng.integers(0, 2, n)
    split = np.repeat([0, 1], [2 * n // 3, n - 2 * n // 3]).astype(np.int8)
    odd = rng.random(n) < odd_share
    x = rng.normal(size=(n, 6)) * 0.5
    x[:, 0] += 2 * (2 * np.where(odd, 1 - superclass, superclass) - 1)
    x[:, 1] += 0.6 * (2 * superclass - 1)
    group = 2 * superclass + odd
    names = ("a", "a, odd", "b", "b, odd")
    return Embeddings(
        vectors=x.astype(np.float32), superclass=superclass, superclass_names=("a", "b"), split=split, group=group,
        group_names=names, subclass=group, subclass_names=names,
    )  # fmt: skip
