"""The mean-field model of L_spread against the library's own loss and against loops."""

import numpy as np
import pytest
import torch

import oracle
from thanos import solve_alpha, spread_loss
from thanos.methods.alpha import collapse_threshold, optimal_cosine


@pytest.mark.parametrize(
    ("superclasses", "images", "temperature", "expected"),
    [(2, 32, 0.5, 0.42497), (2, 64, 0.5, 0.5191), (2, 256, 0.5, 0.6224), (20, 6, 0.5, 0.4954), (2, 64, 0.2, 0.0058)],
)
def test_collapse_threshold_by_bisection_on_the_loss(superclasses, images, temperature, expected):
    """Below it a small step away from collapse raises the loss, above it lowers it."""

    def gains_by_spreading(alpha):
        loss = [oracle.mean_field_loss(alpha, c, superclasses, images, temperature) for c in (1.0, 1 - 1e-5)]
        return loss[1] < loss[0]

    low, high = 0.0, 1.0
    while high - low > 1e-4:
        middle = (low + high) / 2
        low, high = (low, middle) if gains_by_spreading(middle) else (middle, high)
    assert collapse_threshold(superclasses, images, temperature) == pytest.approx(low, abs=3e-4)
    assert low == pytest.approx(expected, abs=3e-4)


@pytest.mark.parametrize(("superclasses", "batch"), [(2, 128), (20, 128), (52, 128), (5, 60)])
@pytest.mark.parametrize("cosine", [0.5, 0.6, 0.8])
def test_the_solved_alpha_has_the_wanted_cosine_as_its_optimum(superclasses, batch, cosine):
    window = solve_alpha(superclasses, batch, 0.5, cosine)
    assert window.collapse < window.alpha < window.dissolve
    images = batch / superclasses
    assert optimal_cosine(window.alpha, superclasses, images, 0.5) == pytest.approx(cosine, abs=0.02)
    grid = np.linspace(0, 1, 201)
    if float(images).is_integer():
        losses = [oracle.mean_field_loss(window.alpha, c, superclasses, int(images), 0.5) for c in grid]
        assert grid[int(np.argmin(losses))] == pytest.approx(cosine, abs=0.02)


def test_free_points_find_the_predicted_cosine():
    """L_spread itself, minimised over free unit vectors (K = 2, n = 16), with room for all centres and deviations."""
    window = solve_alpha(2, 32, 0.5)
    points = torch.randn(32, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    label = torch.arange(32) % 2
    optimizer = torch.optim.LBFGS([points], max_iter=500, tolerance_grad=1e-10, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = spread_loss(torch.stack([points, points]), label, alpha=window.alpha, temperature=0.5)
        loss.backward()
        return loss

    optimizer.step(closure)
    within, _ = oracle.class_cosines(points.detach().numpy(), label.tolist())
    assert within == pytest.approx(0.6, abs=0.01)


def test_large_batches_narrow_the_window():
    widths = [solve_alpha(2, b, 0.5).dissolve - solve_alpha(2, b, 0.5).collapse for b in (64, 256, 1024)]
    assert widths == sorted(widths, reverse=True)


@pytest.mark.parametrize(("superclasses", "batch"), [(1, 128), (128, 128), (200, 128)])
def test_impossible_geometries_are_named(superclasses, batch):
    with pytest.raises(ValueError, match="Raise the batch"):
        solve_alpha(superclasses, batch, 0.5)
