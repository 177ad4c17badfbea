"""The library's loss on explicit points against the formulas, and what exchanging embeddings changes."""

import json
import math

import numpy as np
import pytest
import torch

import oracle
from thanos.config import SuggestConfig, TrainConfig
from thanos.errors import ConfigError
from thanos.experiments import invariance
from thanos.experiments.invariance import LOSSES, linear_reconstruction, loss_changes, permutation_within
from thanos.experiments.points import (
    circle_limit,
    circle_optimum,
    loss_at,
    mean_cosines,
    measured_collapse_threshold,
    minimise,
    mixture_loss_at,
    simplex_of_simplices,
)
from thanos.methods.alpha import collapse_threshold, mixture_collapse_threshold, optimal_cosine, solve_alpha
from thanos.methods.suggest import suggestion


@pytest.mark.parametrize("temperature", [0.2, 0.5])
@pytest.mark.parametrize(
    ("superclasses", "images"), [(2, 16), (2, 64), (2, 256), (5, 16), (5, 64), (5, 256), (20, 16), (20, 64)]
)
def test_collapse_ends_where_the_formula_says(superclasses, images, temperature):
    measured = measured_collapse_threshold(superclasses, images, temperature)
    assert measured == pytest.approx(collapse_threshold(superclasses, images, temperature), abs=1e-3)


@pytest.mark.parametrize(("superclasses", "images", "temperature"), [(2, 4, 0.1), (5, 16, 0.5), (20, 8, 1.0)])
def test_the_mixture_with_infonce_stops_collapsing_where_its_formula_says(superclasses, images, temperature):
    measured = measured_collapse_threshold(superclasses, images, temperature, loss_at=mixture_loss_at)
    assert measured == pytest.approx(mixture_collapse_threshold(superclasses, images, temperature), abs=1e-3)


def test_the_mixture_with_infonce_is_lee_et_als_loss_and_convex_in_the_cosine():
    superclasses, images, alpha, temperature = 3, 4, 0.3, 0.5
    losses = []
    for cosine in np.linspace(-0.3, 1, 27):
        points = simplex_of_simplices(superclasses, images, float(cosine))
        similarity = (points @ points.T / temperature).numpy()
        by_hand = []
        for i in range(len(points)):
            everyone = math.log(sum(math.exp(s) for s in similarity[i]))
            others = [j for j in range(len(points)) if j // images == i // images and j != i]
            sup = sum(everyone - similarity[i, j] for j in others) / len(others)
            by_hand.append((1 - alpha) * sup + alpha * (everyone - similarity[i, i]))
        loss = float(mixture_loss_at(points, superclasses, alpha=alpha, temperature=temperature))
        assert loss == pytest.approx(np.mean(by_hand), abs=1e-10)
        losses.append(loss)
    assert (np.diff(losses, 2) > 0).all()


@pytest.mark.parametrize("cosine", [0.0, 0.3, 0.9])
def test_the_simplex_of_simplices_has_the_cosines_it_is_named_for(cosine):
    points = simplex_of_simplices(3, 4, cosine)
    within, _, between = mean_cosines(points, 3)
    label = np.repeat(np.arange(3), 4)
    assert (within, between) == pytest.approx(oracle.class_cosines(points.numpy(), label.tolist()))
    assert within == pytest.approx(cosine)
    assert between == pytest.approx(-(1 + 3 * cosine) / 4 / 2)
    expected = oracle.mean_field_loss(0.6, cosine, 3, 4, 0.5)
    assert float(loss_at(points, 3, alpha=0.6, temperature=0.5)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("superclasses", [2, 3, 5])
def test_at_alpha_0_superclasses_collapse_to_a_regular_simplex(superclasses):
    minimum = minimise(superclasses, 4, max(2, superclasses - 1), alpha=0, temperature=0.5, starts=4)
    assert minimum.within > 0.999
    assert minimum.between == pytest.approx(-1 / (superclasses - 1), abs=1e-3)


@pytest.mark.parametrize("place", [-0.3, 0.3, 0.6])
def test_free_points_follow_the_mean_field_model(place):
    """Below the window, and at two places inside it."""
    window = solve_alpha(2, 16, 0.5)
    alpha = window.collapse + place * (window.dissolve - window.collapse)
    minimum = minimise(2, 8, 18, alpha=alpha, temperature=0.5, starts=4)
    assert minimum.within == pytest.approx(optimal_cosine(alpha, 2, 8, 0.5), abs=0.03)


@pytest.mark.parametrize(("alpha", "expected"), [(0.7, 0.82), (0.75, 0.69), (0.8, 0.54), (0.85, 0.36), (0.9, 0.12)])
def test_two_clusters_on_the_circle_approach_their_limit(alpha, expected):
    few, many = (circle_optimum(n, alpha, 0.5) for n in (64, 256))
    assert many == pytest.approx(expected, abs=0.006)
    assert abs(many - circle_limit(alpha, 0.5)) < abs(few - circle_limit(alpha, 0.5))
    assert circle_limit(alpha, 0.5) == pytest.approx(1 - 0.5 * math.log((3 * alpha - 1) / (3 - 3 * alpha)))


@pytest.mark.parametrize(("alpha", "expected"), [(0.6, 0.71), (0.75, 0.0)])
def test_many_points_in_few_dimensions(alpha, expected):
    minimum = minimise(2, 32, 8, alpha=alpha, temperature=0.5, starts=1, tolerance=1e-4)  # moves it by less than 0.001
    assert minimum.within_all_pairs == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize(
    ("setting", "wanted"),
    [
        ({"dim": 3}, "4 or more dimensions; got 3"),
        ({"superclasses": 2, "dim": 1}, "two or more dimensions; got 1"),
        ({"images": 1}, "two or more points"),
        ({"superclasses": 1}, "two or more superclasses"),
        ({"alpha": 1.5}, r"lies in \[0, 1\]; got 1.5"),
        ({"steps": 2}, "did not settle at alpha 0.4"),
    ],
)
def test_what_cannot_be_is_said(setting, wanted):
    with pytest.raises(ConfigError, match=wanted):
        minimise(**({"superclasses": 5, "images": 4, "dim": 6, "alpha": 0.4, "temperature": 0.5} | setting))


def test_no_contrastive_loss_notices_an_exchange_and_a_decoder_does():
    rng = torch.Generator().manual_seed(0)
    views = torch.randn(2, 24, 8, generator=rng, dtype=torch.float64)
    label = torch.arange(24) % 3
    assert max(loss_changes(views, label).values()) < 1e-12
    pixels = views[0].numpy() @ np.random.default_rng(0).normal(size=(8, 20))
    order = permutation_within(label, rng).numpy()
    straight, moved = ((views[0].numpy()[rows], label.numpy(), pixels) for rows in (np.arange(24), order))
    assert linear_reconstruction(straight, straight) < 1e-20
    assert linear_reconstruction(moved, moved) > 0.1
    assert (label[order] == label).all()
    assert (order != np.arange(24)).any()


def test_an_exchange_across_superclasses_is_noticed():
    """The invariance is to exchanges within superclasses, and only to these, for all losses that see labels."""
    rng = torch.Generator().manual_seed(0)
    views, label = torch.randn(2, 24, 8, generator=rng, dtype=torch.float64), torch.arange(24) % 3
    order = torch.randperm(24, generator=rng)
    for name, loss in LOSSES.items():
        change = abs(float(loss(views[:, order], label) - loss(views, label)))
        assert (change < 1e-12) == name.startswith("InfoNCE"), name


def test_the_invariance_experiment_leaves_numbers_and_a_picture(tmp_path, monkeypatch):
    said, small = [], {"batch": 32, "train_limit": 320, "epochs": 12}
    monkeypatch.setattr(invariance, "TrainConfig", lambda **given: TrainConfig(**given | small))
    invariance.invariance(tmp_path, said.append)
    numbers = json.loads((tmp_path / "invariance.json").read_text())
    learned, shuffled = numbers["embeddings"].values()
    assert learned["spread_loss"] == pytest.approx(shuffled["spread_loss"], abs=1e-12)
    assert learned["fine_accuracy_of_neighbours"] > shuffled["fine_accuracy_of_neighbours"] + 0.3
    assert learned["best_affine_decoder_error"] < shuffled["best_affine_decoder_error"] - 0.2
    assert (tmp_path / "invariance.png").stat().st_size > 10_000
    assert {"command", "versions", "hardware", "commit", "settings"} <= set(numbers)


def test_a_suggestion_says_the_window_and_what_narrows_it():
    lines = suggestion(SuggestConfig(superclasses=2, batch=1024))
    window = solve_alpha(2, 1024, 0.5)
    assert lines[0].startswith(f"alpha {window.alpha:.3f} for a cosine of 0.60")
    assert f"{window.collapse:.3f} to {window.dissolve:.3f}" in lines[1]
    assert any("`batch=256`" in line for line in lines)
    assert "collapses" in lines[2]
    with pytest.raises(ConfigError, match="Raise the batch"):
        suggestion(SuggestConfig(superclasses=200, batch=128))
