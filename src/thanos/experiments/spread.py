"""The paper's first claim, as an experiment: how alpha sets the degree of spread, from collapse to dissolution."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator

from thanos.errors import ConfigError
from thanos.experiments.leave import check_leave, leave
from thanos.experiments.points import (
    circle_limit,
    circle_optimum,
    measured_collapse_threshold,
    minimise,
    mixture_loss_at,
)
from thanos.methods.alpha import collapse_threshold, mixture_collapse_threshold, optimal_cosine, solve_alpha
from thanos.report.figures import COLOURS, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Say = Callable[[str], None]


def spread(out: Path, say: Say, *, full: bool = False) -> dict[str, Any]:
    """The degree of spread: collapse at alpha 0, where collapse ends, how far points spread, and where they dissolve.

    Args:
        out: Folder for spread.json and its pictures.
        say: Receives the lines of the tables.
        full: Up to 256 images a superclass in the thresholds, and finer steps of alpha; minutes more.
    """
    check_leave(out, "spread")
    numbers = {
        "collapse_at_alpha_0": _simplices(say),
        "collapse_threshold": _thresholds(say, (16, 64, 256) if full else (16, 64)),
        "collapse_threshold_of_the_mixture": _mixture_thresholds(say),
        "free_points": _free_points(say, 0.025 if full else 0.05),
        "circle": _circle(say),
        "few_dimensions": _few_dimensions(say, 0.005 if full else 0.01),
    }
    figures = {"regimes": regimes_figure(), "cosine": _cosine_figure(numbers), "circle": _circle_figure(numbers)}
    command = "thanos theory spread" + (" --full" if full else "")
    return leave(out, "spread", command, numbers, figures)


def _simplices(say: Say) -> list[dict[str, float]]:
    say("alpha 0: superclasses collapse to a regular simplex (Graf et al. 2021)")
    found = []
    for superclasses in (2, 3, 5, 10):
        minimum = minimise(superclasses, 6, max(2, superclasses - 1), alpha=0, temperature=0.5, starts=6)
        found.append({"superclasses": superclasses, "within": minimum.within, "between": minimum.between})
        say(
            f"  K {superclasses:<3} in {max(2, superclasses - 1)} dimensions: cosine within {minimum.within:.5f}, "
            f"between {minimum.between:+.5f} (simplex {-1 / (superclasses - 1):+.5f})"
        )
    return found


def _thresholds(say: Say, images: tuple[int, ...]) -> list[dict[str, float]]:
    say("the alpha at which collapse ends: the library's loss on explicit points, and formula (i)")
    found = []
    for superclasses in (2, 5, 20):
        for n in images:
            for temperature in (0.2, 0.5):
                measured = measured_collapse_threshold(superclasses, n, temperature)
                formula = collapse_threshold(superclasses, n, temperature)
                settings = {"superclasses": superclasses, "images": n, "temperature": temperature}
                found.append(settings | {"measured": measured, "formula": formula})
                say(f"  K {superclasses:<3} n {n:<4} temperature {temperature}: {measured:.5f}, formula {formula:.5f}")
    return found


def _mixture_thresholds(say: Say) -> list[dict[str, float]]:
    say("the same for SupCon mixed with InfoNCE, both against all points (Lee et al. 2025)")
    found = []
    for superclasses in (2, 5, 20):
        for n in (4, 16, 64):
            for temperature in (0.1, 0.5, 1.0):
                measured = measured_collapse_threshold(superclasses, n, temperature, loss_at=mixture_loss_at)
                formula = mixture_collapse_threshold(superclasses, n, temperature)
                settings = {"superclasses": superclasses, "images": n, "temperature": temperature}
                found.append(settings | {"measured": measured, "formula": formula})
                say(f"  K {superclasses:<3} n {n:<4} temperature {temperature}: {measured:.5f}, formula {formula:.5f}")
    return found


def _free_points(say: Say, step: float) -> list[dict[str, float]]:
    say("free points with room for all: cosine within superclasses, and the mean-field model (ii)")
    found = []
    for superclasses, n, dim in ((2, 16, 40), (5, 8, 48)):
        window = solve_alpha(superclasses, superclasses * n, 0.5)
        for alpha in np.arange(round(window.collapse - 0.05, 2), window.dissolve + 0.05, step):
            predicted = optimal_cosine(float(alpha), superclasses, n, 0.5)
            try:
                minimum = minimise(superclasses, n, dim, alpha=float(alpha), temperature=0.5, starts=4)
            except ConfigError as error:
                say(f"  {error}")
                continue
            settings = {"superclasses": superclasses, "images": n, "dim": dim, "alpha": float(alpha)}
            found.append(settings | {"measured": minimum.within, "formula": predicted})
            say(f"  K {superclasses} n {n} d {dim} alpha {alpha:.3f}: {minimum.within:+.4f}, formula {predicted:+.4f}")
    return found


def _circle(say: Say) -> list[dict[str, float]]:
    say("two clusters a superclass on the circle: cosine between them, and its limit for many images (iii)")
    found = []
    for alpha in (0.7, 0.75, 0.8, 0.85, 0.9):
        row = {"alpha": alpha, "limit": circle_limit(alpha, 0.5)}
        row |= {f"n {n}": circle_optimum(n, alpha, 0.5) for n in (16, 64, 256)}
        found.append(row)
        say("  " + ", ".join(f"{name} {value:.3f}" for name, value in row.items()))
    return found


def _few_dimensions(say: Say, step: float) -> dict[str, Any]:
    say("K 2, n 32 in 8 dimensions (iv): mean cosine over all pairs of a superclass, an image with itself included")
    settings: dict[str, Any] = {"superclasses": 2, "images": 32, "dim": 8, "temperature": 0.5}
    best = []
    for alpha in (0.5, 0.6, 0.66, 0.7, 0.75):
        minimum = minimise(alpha=alpha, **settings)
        best.append({"alpha": alpha, "mean_cosine": minimum.within_all_pairs, "loss": minimum.loss})
        say(f"  alpha {alpha}: {minimum.within_all_pairs:.3f}")
    # followed from below and from above, a first-order jump happens at different places
    up, down = np.arange(0.66, 0.80, step), np.arange(0.78, 0.64, -step)
    branches = {"up": _follow(up, settings, say), "down": _follow(down, settings, say)}
    crossing = _crossing(branches["up"], branches["down"])
    jumps = {way: _jump(points) for way, points in branches.items()}
    say(
        f"  followed upwards it jumps at {jumps['up']:.3f}, downwards at {jumps['down']:.3f}; equal losses "
        + ("not met" if crossing is None else f"at {crossing:.3f}")
    )
    return {"best_of_starts": best, "followed": branches, "jump": jumps, "equal_losses": crossing}


def _follow(alphas: NDArray[Any], settings: dict[str, Any], say: Say) -> list[dict[str, float]]:
    """Minima from one alpha to the next, each started where the last ended, a little shaken."""
    rng, begin, found = Generator().manual_seed(0), None, []
    for alpha in alphas:
        try:
            minimum = minimise(alpha=float(alpha), begin=begin, tolerance=1e-4, **settings)
        except ConfigError as error:
            say(f"  {error}")
            continue
        noise = torch.randn(minimum.points.shape, generator=rng, dtype=torch.float64)
        begin = minimum.points + 1e-3 * noise
        found.append({"alpha": float(alpha), "mean_cosine": minimum.within_all_pairs, "loss": minimum.loss})
    return found


def _jump(points: list[dict[str, float]]) -> float:
    """The middle of the step at which the mean cosine changes most."""
    cosine = np.array([p["mean_cosine"] for p in points])
    place = int(np.abs(np.diff(cosine)).argmax())
    return (points[place]["alpha"] + points[place + 1]["alpha"]) / 2


def _crossing(up: list[dict[str, float]], down: list[dict[str, float]]) -> float | None:
    """Where the two branches have equal loss, between alphas at which they are different minima; None without such."""
    below = {round(p["alpha"], 6): p for p in up}
    pairs = [(below[round(p["alpha"], 6)], p) for p in reversed(down) if round(p["alpha"], 6) in below]
    gaps = [
        (spread["alpha"], spread["loss"] - dissolved["loss"])
        for spread, dissolved in pairs
        if spread["mean_cosine"] - dissolved["mean_cosine"] > 0.05
    ]
    for (a, x), (b, y) in pairwise(gaps):
        if x <= 0 < y:
            return a + (b - a) * -x / (y - x)
    return None


def regimes_figure() -> "Figure":
    """Collapsed, spread, dissolved: alpha against batch, temperature and number of superclasses (mean-field model)."""
    figure = new_figure(1, 3, 13, 4)
    panels: list[tuple[str, str, Any, Callable[[Any], tuple[int, int, float]]]] = [
        ("batch (2 superclasses, temperature 0.5)", "log", 2 ** np.arange(4, 13), lambda b: (2, int(b), 0.5)),
        ("temperature (2 superclasses, batch 128)", "linear", np.linspace(0.1, 1.0, 19), lambda t: (2, 128, float(t))),
        (
            "superclasses (batch 128, temperature 0.5)",
            "log",
            np.unique(np.geomspace(2, 60, 14).round()),
            lambda k: (int(k), 128, 0.5),
        ),
    ]
    for axes, (title, scale, values, arguments) in zip(figure.axes, panels, strict=True):
        windows = [solve_alpha(*arguments(value)) for value in values]
        collapse, auto, dissolve = (np.array([w[i] for w in windows]) for i in range(3))
        axes.fill_between(values, 0, collapse, color="#CC6677", alpha=0.45, label="collapsed")
        axes.fill_between(values, collapse, dissolve, color="#44AA99", alpha=0.45, label="spread")
        axes.fill_between(values, dissolve, 1, color="#DDCC77", alpha=0.55, label="dissolved")
        axes.plot(values, auto, color="#332288", label="alpha auto (cosine 0.6)")
        axes.axhline(0.5, color="#777777", linestyle=":", label="the paper's 0.5")
        axes.set(xscale=scale, ylim=(0, 1), xlim=(values[0], values[-1]), xlabel=title)
        if scale == "log":
            marks = [v for v in (2, 5, 10, 20, 50, 100, 500, 2000) if values[0] <= v <= values[-1]]
            axes.set_xticks(marks, [str(mark) for mark in marks])
            axes.minorticks_off()
    figure.axes[0].set_ylabel("alpha")
    handles, names = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=5, frameon=False)
    return figure


def _cosine_figure(numbers: dict[str, Any]) -> "Figure":
    figure = new_figure(1, 2, 10, 4)
    room, few = figure.axes
    for superclasses, n, colour in ((2, 16, COLOURS[0]), (5, 8, COLOURS[6])):
        points = [p for p in numbers["free_points"] if p["superclasses"] == superclasses]
        grid = np.linspace(points[0]["alpha"], points[-1]["alpha"], 200)
        room.plot(
            grid,
            [optimal_cosine(a, superclasses, n, 0.5) for a in grid],
            color=colour,
            label=f"K {superclasses}, n {n}: model (ii)",
        )
        room.plot([p["alpha"] for p in points], [p["measured"] for p in points], "o", color=colour, label="free points")
    room.set(xlabel="alpha", ylabel="cosine between different images of a superclass", title="room for all")
    for way, style, colour in (("up", "o-", COLOURS[0]), ("down", "s--", COLOURS[6])):
        points = numbers["few_dimensions"]["followed"][way]
        few.plot(
            [p["alpha"] for p in points],
            [p["mean_cosine"] for p in points],
            style,
            markersize=4,
            color=colour,
            label=f"followed {way}wards",
        )
    if numbers["few_dimensions"]["equal_losses"] is not None:
        few.axvline(numbers["few_dimensions"]["equal_losses"], color="#777777", linestyle=":", label="equal losses")
    few.set(xlabel="alpha", ylabel="mean cosine, all pairs of a superclass", title="K 2, n 32 in 8 dimensions")
    for axes in (room, few):
        axes.legend(frameon=False, fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _circle_figure(numbers: dict[str, Any]) -> "Figure":
    figure = new_figure(1, 1, 5.2, 4)
    (axes,) = figure.axes
    grid = np.linspace(0.6, 0.95, 200)
    axes.plot(grid, [circle_limit(a, 0.5) for a in grid], color="black", label="limit (iii)")
    for n, colour in zip((16, 64, 256), COLOURS[::2], strict=False):
        axes.plot(
            [r["alpha"] for r in numbers["circle"]],
            [r[f"n {n}"] for r in numbers["circle"]],
            "o--",
            markersize=4,
            color=colour,
            label=f"{n} images",
        )
    axes.set(
        xlabel="alpha",
        ylabel="cosine between the clusters of a superclass",
        title="two clusters a superclass on the circle",
    )
    axes.legend(frameon=False, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
