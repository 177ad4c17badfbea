"""Places in the plane by t-SNE, as it is."""

import numpy as np
import pytest

from thanos.report.plane import neighbour_plane

ODD = {
    "equal": np.ones((200, 16)),
    "zero": np.zeros((50, 8)),
    "zero and one": np.repeat([[0.0] * 8, [1.0] * 8], 100, axis=0),
    "two directions": np.repeat(np.eye(2, 16), 100, axis=0),
    "one apart": np.vstack([np.ones((199, 16)), -np.ones((1, 16))]),
    "a line": np.outer(np.linspace(-1, 1, 200), np.ones(16)),
    "one dimension": np.linspace(-1, 1, 200)[:, None],
    "almost equal": 1 + 1e-7 * np.random.default_rng(0).normal(size=(200, 16)),
    "wide, few different": np.repeat(np.random.default_rng(0).normal(size=(3, 2000)), 40, axis=0),
    "one row": np.ones((1, 4)),
    "two rows": np.eye(2),
    "below float32's range": np.full((80, 4), 1e-45),
}


@pytest.mark.parametrize("name", ODD)
def test_the_plane_of_odd_vectors(name):
    place = neighbour_plane(ODD[name].astype(np.float32))
    nothing = name in ("equal", "zero", "almost equal", "one row", "below float32's range")
    assert (place is None) == nothing
    if place is not None:
        assert place.shape == (len(ODD[name]), 2)
        assert np.isfinite(place).all()


def test_clouds_stay_together_and_every_time_the_same():
    rng = np.random.default_rng(0)
    cloud = np.repeat(np.arange(4), 30)
    x = (5 * np.eye(4, 60)[cloud] + rng.normal(size=(120, 60)) / 4).astype(np.float32)
    place = neighbour_plane(x)
    apart = np.linalg.norm(place[:, None] - place[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    assert (cloud[apart.argmin(axis=1)] == cloud).all()
    np.testing.assert_array_equal(neighbour_plane(x), place)
