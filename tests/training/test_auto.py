"""Where training starts, when its user does not say."""

import numpy as np
import pytest

from thanos.config import AutoTrainConfig, DataConfig
from thanos.data.arrays import from_arrays
from thanos.training import auto


@pytest.mark.parametrize(
    ("features", "pixels", "frozen"), [(0.9, 0.6, True), (0.808, 0.812, True), (0.79, 0.83, True), (0.7, 0.95, False)]
)
def test_pixels_are_taken_only_where_they_tell_more_than_chance_would(monkeypatch, features, pixels, frozen):
    """Of 600 images two shares near .8 differ by .046 at two standard errors."""
    rng = np.random.default_rng(0)
    images = from_arrays(
        rng.integers(0, 256, (600, 16, 16, 3), dtype=np.uint8), np.arange(600) % 2, split=["train"] * 600
    )
    monkeypatch.setattr(auto, "weights_at_hand", lambda name: True)
    monkeypatch.setattr(auto, "_brought_to", lambda found, config, chosen: found)
    monkeypatch.setattr(auto, "_features", lambda found: features)
    monkeypatch.setattr(auto, "_pixels", lambda found: pixels)
    monkeypatch.setattr(auto, "_told_by_neighbours", lambda share: share)
    choices = auto.Choices()
    auto._start_from_photographs(DataConfig(data="x.npz"), AutoTrainConfig(), images, choices)
    assert choices.settings.get("frozen", False) == frozen
    assert f"{features:.1%}" in choices.reasons[0]
