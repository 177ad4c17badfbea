"""What breaks the permutation invariance: the paper's third claim, on networks that could ignore it.

The same small network is trained on L_spread at one measured degree of spread, alone or with one of the mechanisms of
the paper, each at several strengths. Its first layer starts so rough that neighbours in input space have nothing to do
with each other, so what the contrastive loss alone prefers can be seen; a smooth start, as usual networks have it, is
shown beside as a mechanism of its own.
"""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import linear, normalize, one_hot
from torch.nn.utils.parametrizations import spectral_norm

from thanos.config import DataConfig, ViewSpec
from thanos.data.imageset import ImageSet
from thanos.data.load import load
from thanos.errors import ThanosError
from thanos.evaluate.geometry import class_cosines, subclass_clustering
from thanos.evaluate.intervals import mean_interval
from thanos.experiments.leave import check_leave, leave
from thanos.methods.alpha import solve_alpha
from thanos.objective import reconstruction_loss, spread_loss
from thanos.report.figures import COLOURS, new_figure
from thanos.views import clean_view, random_views
from thanos.workers import Died, Workers

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Say = Callable[[str], None]

WIDTH, DIM, STEPS, RATE = 512, 16, 500, 3e-3
"""Hidden units, dimensions of the embedding, steps of Adam and their largest rate."""
TEMPERATURE, SPREAD = 0.5, 0.6
"""Of L_spread; and the within-class cosine at which all runs are held."""
ROUGH = 2.0
"""Deviation of the first layer's weights at the start; inputs have a length of about 1 to 2."""
MATCHED = 0.05
"""Runs whose within-class cosine misses SPREAD by more are not compared."""
SEEDS = 5


@dataclass(frozen=True)
class Points:
    """Inputs (n, d) with the superclasses that training is told and the subclasses that it is not."""

    x: Tensor
    superclass: Tensor
    subclass: Tensor


@dataclass(frozen=True)
class Problem:
    """Training and test points, and how a view of the training points is drawn at a strength."""

    train: Points
    test: Points
    view: Callable[[float, Generator], Tensor]


@dataclass(frozen=True)
class Condition:
    """One mechanism at one strength; what it does not name stays switched off."""

    mechanism: str
    strength: float
    roughness: float = ROUGH
    lipschitz: float | None = None
    """Largest factor by which the encoder may stretch distances."""
    decode: float = 0.0
    """Weight of the class-conditional autoencoder's error."""
    augment: float = 0.0
    """Strength of the views, as the problem defines it."""


NONE = Condition("none", 0.0)
SMOOTH = Condition("smooth start", 4.0, roughness=0.25)
CONDITIONS = (
    NONE,
    *(Condition("smooth start", 1 / roughness, roughness=roughness) for roughness in (1.0, 0.5)),
    SMOOTH,
    *(Condition("Lipschitz constraint", 1 / bound, lipschitz=bound) for bound in (64.0, 16.0, 4.0)),
    *(Condition("autoencoder", weight, decode=weight) for weight in (0.01, 0.1, 1.0)),
    *(Condition("augmentation", strength, augment=strength) for strength in (0.2, 0.4, 0.8)),
    *(Condition("autoencoder + augmentation", s, decode=0.1, augment=s) for s in (0.2, 0.4, 0.8)),
    *(Condition("smooth start + autoencoder", w, roughness=0.25, decode=w) for w in (0.01, 0.1, 1.0)),
)
MECHANISMS = {
    "smooth start": "1 / roughness of the first layer at the start",
    "Lipschitz constraint": "1 / Lipschitz constant of the encoder",
    "autoencoder": "weight of its error",
    "augmentation": "strength of the views",
    "autoencoder + augmentation": "strength of the views (weight 0.1)",
    "smooth start + autoencoder": "weight of its error",
}
"""With what their strength is."""
WITHOUT = dict.fromkeys(MECHANISMS, NONE) | {"smooth start + autoencoder": SMOOTH}
"""What each is compared with: L_spread alone, on the rough encoder or on the smooth one."""
SCORES = {
    "purity": "nearest neighbour in the superclass\nis of the same subclass (training)",
    "silhouette": "silhouette of subclasses\nin their superclass (training)",
    "probe": "linear probe on subclasses\n(test)",
}


def generated(separation: float, seed: int, images: int = 16) -> Problem:
    """Two superclasses of four subclasses in 16 dimensions: normal clouds of radius 1 around random centres.

    Args:
        separation: Length of the centres: how far subclasses lie apart.
        seed: Of centres and points.
        images: Points of each subclass, in training and in test.
    """
    rng = Generator().manual_seed(seed)
    centres = normalize(torch.randn(8, 16, generator=rng), dim=1) * separation

    def draw() -> Points:
        subclass = torch.arange(8).repeat_interleave(images)
        return Points(centres[subclass] + torch.randn(len(subclass), 16, generator=rng) / 4, subclass % 2, subclass)

    train, test = draw(), draw()

    def view(strength: float, rng: Generator) -> Tensor:
        return train.x + strength * torch.randn(train.x.shape, generator=rng) / 4

    return Problem(train, test, view)


def digits(seed: int, images: int = 16) -> Problem:
    """160 digits, '< 5' or '>= 5': 64 pixels, about 2 long together; views are crops, down to 1 - strength / 4."""
    data = _digits()
    rng = np.random.default_rng(seed)
    assert data.subclass is not None
    train, test = data.rows("train"), data.rows("test")
    chosen = np.concatenate([rng.permutation(train[data.subclass[train] == kind])[:images] for kind in range(10)])
    mean, std = data.mean_std

    def flat(pixels: Tensor) -> Tensor:
        return pixels.flatten(1) / 4  # of 64 pixels of deviation 1: a length of about 2

    def points(rows: np.ndarray) -> Points:
        x = flat(clean_view(torch.from_numpy(data.images[rows]), mean=mean, std=std))
        assert data.subclass is not None
        return Points(x, torch.from_numpy(data.superclass[rows]), torch.from_numpy(data.subclass[rows]))

    shown = torch.from_numpy(data.images[chosen])

    def view(strength: float, rng: Generator) -> Tensor:
        spec = ViewSpec(crop_scale=1 - strength / 4)
        return flat(random_views(shown, spec, rng, count=1, mean=mean, std=std)[0])

    return Problem(points(chosen), points(test), view)


@lru_cache(maxsize=1)
def _digits() -> ImageSet:
    return load(DataConfig(data="digits"))


PROBLEMS: dict[str, Callable[[int], Problem]] = {
    "generated, subclasses 1 apart": lambda seed: generated(1.0, seed),
    "generated, subclasses 2 apart": lambda seed: generated(2.0, seed),
    "digits": digits,
}


class SphereEncoder(nn.Module):
    """One layer of sines and a stereographic projection onto the unit sphere.

    The projection stretches distances at most twofold and sines not at all, so with both matrices at spectral norm 1
    the gains alone bound the whole map: a Lipschitz constraint that normalising the output would undo.
    """

    def __init__(self, inputs: int, roughness: float, lipschitz: float | None):
        super().__init__()
        self.first, self.second = nn.Linear(inputs, WIDTH), nn.Linear(WIDTH, DIM - 1)
        nn.init.normal_(self.first.weight, std=roughness)
        nn.init.uniform_(self.first.bias, -math.pi, math.pi)
        self.gain = 1.0
        if lipschitz is not None:
            self.gain = math.sqrt(lipschitz / 2)
            for layer in (self.first, self.second):
                spectral_norm(layer, n_power_iterations=3)

    def forward(self, x: Tensor) -> Tensor:
        """Unit rows (n, DIM) of inputs (n, d)."""
        hidden = torch.sin(self.gain * linear(x, self.first.weight) + self.first.bias)
        plane = self.gain * linear(hidden, self.second.weight) + self.second.bias
        square = plane.square().sum(dim=1, keepdim=True)
        return torch.cat([2 * plane, 1 - square], dim=1) / (1 + square)


def measure(problem: Problem, condition: Condition, seed: int) -> dict[str, float]:
    """Train once and measure how far the true subclasses form clusters.

    Alpha follows the measured spread, so that all conditions end at the same one if they can.
    """
    train, test = problem.train, problem.test
    torch.manual_seed(seed)
    encoder = SphereEncoder(train.x.shape[1], condition.roughness, condition.lipschitz)
    decoder = nn.Sequential(nn.Linear(DIM + 2, 128), nn.ReLU(), nn.Linear(128, train.x.shape[1]))
    parameters = [*encoder.parameters(), *decoder.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=STEPS)
    alpha = solve_alpha(2, len(train.x), TEMPERATURE, SPREAD).alpha
    rng, variance = Generator().manual_seed(seed), float(train.x.var())
    told = one_hot(train.superclass, 2).float()
    for step in range(STEPS):
        views = [problem.view(condition.augment, rng) for _ in range(2)] if condition.augment else [train.x]
        embedded = [encoder(view) for view in views]
        both = torch.stack([embedded[0], embedded[-1]])
        loss = spread_loss(both, train.superclass, alpha=alpha, temperature=TEMPERATURE)
        if condition.decode:
            decoded = decoder(torch.cat([embedded[0], told], dim=1))
            loss = loss + condition.decode * reconstruction_loss(decoded, views[0]) / variance
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        within = float(class_cosines(embedded[0].detach(), train.superclass)[0].mean())
        if step > STEPS / 20:
            alpha = min(0.99, max(0.0, alpha + 0.02 * (within - SPREAD)))
    encoder.eval()
    with torch.no_grad():
        rows, tested = encoder(train.x), encoder(test.x)
        both = torch.stack([rows, rows])
        clean_loss = float(spread_loss(both, train.superclass, alpha=0.6, temperature=TEMPERATURE))
    clusters = subclass_clustering(rows.numpy(), train.superclass.numpy(), train.subclass.numpy())
    return {
        "within": float(class_cosines(rows, train.superclass)[0].mean()),
        "alpha": alpha,
        "loss": clean_loss,
        "purity": clusters["subclass_purity"],
        "purity_chance": clusters["subclass_purity_chance"],
        "silhouette": clusters["subclass_silhouette"],
        "probe": _probe(rows, train.subclass, tested, test.subclass),
    }


def _probe(rows: Tensor, subclass: Tensor, tested: Tensor, expected: Tensor) -> float:
    from sklearn.linear_model import LogisticRegression

    return float(LogisticRegression(max_iter=500).fit(rows, subclass).score(tested, expected))


@dataclass(frozen=True)
class Cell:
    """One condition on one problem, over seeds."""

    problem: str
    condition: Condition
    seeds: int = SEEDS
    runs: list[dict[str, float]] = field(default_factory=list)


def _carry_out(cell: Cell) -> Cell:
    torch.set_num_threads(1)
    runs = [measure(PROBLEMS[cell.problem](seed), cell.condition, seed) for seed in range(cell.seeds)]
    return replace(cell, runs=runs)


def mechanisms(out: Path, say: Say, *, seeds: int = SEEDS, jobs: int | None = None) -> dict[str, Any]:
    """Train every mechanism at every strength on every problem; state what the measurements support.

    Args:
        out: Folder for mechanisms.json and its picture.
        say: Receives a line for each condition, then the verdicts.
        seeds: Runs of each; data, start and views follow the seed, so conditions are paired.
        jobs: Conditions side by side, one thread each; default: the cores, four at most.
    """
    check_leave(out, "mechanisms")
    waiting = [Cell(problem, condition, seeds) for problem in PROBLEMS for condition in CONDITIONS]
    order = [(cell.problem, cell.condition) for cell in waiting]
    cells: list[Cell] = []
    with Workers[Cell, Cell](_carry_out, jobs or min(4, os.cpu_count() or 1)) as workers:
        while waiting or workers.tasks:
            while waiting and workers.free:
                workers.start(waiting.pop(0))
            for task, cell in workers.finished():
                if isinstance(cell, Died):
                    raise ThanosError(f"{task.problem}, {task.condition.mechanism}: {cell}.")
                cells.append(cell)
                say(f"  {len(cells)}/{len(order)} {_told(cell)}")
    cells.sort(key=lambda cell: order.index((cell.problem, cell.condition)))
    verdicts = [_verdict(cells, problem, mechanism) for problem in PROBLEMS for mechanism in MECHANISMS]
    say("against L_spread alone at the same spread, paired by seed (95% interval):")
    for verdict in verdicts:
        say(f"  {verdict['says']}")
    numbers = {
        "conditions": [
            {"problem": c.problem, "mechanism": c.condition.mechanism, "strength": c.condition.strength, "runs": c.runs}
            for c in cells
        ],
        "verdicts": verdicts,
        "settings": {
            "seeds": seeds, "width": WIDTH, "dim": DIM, "steps": STEPS, "learning_rate": RATE, "roughness": ROUGH,
            "temperature": TEMPERATURE, "within_class_cosine": SPREAD,
        },
    }  # fmt: skip
    return leave(out, "mechanisms", "thanos theory mechanisms", numbers, {"mechanisms": _figure(cells)})


def _told(cell: Cell) -> str:
    def mean(name: str) -> float:
        return float(np.mean([run[name] for run in cell.runs]))

    return (
        f"{cell.problem:<30} {cell.condition.mechanism:<27} {cell.condition.strength:<7.3g} "
        f"cosine {mean('within'):.2f}, purity {mean('purity'):.2f} (chance {mean('purity_chance'):.2f}), "
        f"silhouette {mean('silhouette'):+.2f}, probe {mean('probe'):.2f}"
    )


def _matched(cell: Cell) -> bool:
    return abs(float(np.mean([run["within"] for run in cell.runs])) - SPREAD) <= MATCHED


def _verdict(cells: list[Cell], problem: str, mechanism: str) -> dict[str, Any]:
    """What a mechanism gives over L_spread alone, at each strength that reaches the same spread."""
    (alone,) = (cell for cell in cells if cell.problem == problem and cell.condition == WITHOUT[mechanism])
    gains = {}
    for cell in cells:
        if cell.problem == problem and cell.condition.mechanism == mechanism and _matched(cell):
            gains[cell.condition.strength] = {
                name: _gain([run[name] - base[name] for run, base in zip(cell.runs, alone.runs, strict=True)])
                for name in SCORES
            }
    if not gains:
        says = "no strength reaches the same spread"
    else:
        strength, best = max(gains.items(), key=lambda pair: pair[1]["purity"]["mean"])
        says = f"at {strength:.3g} " + ", ".join(
            f"{name} {gain['mean']:+.2f} ({gain['low']:+.2f} to {gain['high']:+.2f})" for name, gain in best.items()
        )
    return {"problem": problem, "mechanism": mechanism, "gains": gains, "says": f"{problem}, {mechanism}: {says}"}


def _gain(differences: list[float]) -> dict[str, float]:
    low, high = mean_interval(differences)
    return {"mean": float(np.mean(differences)), "low": low, "high": high}


def _figure(cells: list[Cell]) -> "Figure":
    figure = new_figure(len(SCORES), len(MECHANISMS), 3.3 * len(MECHANISMS), 2.7 * len(SCORES))
    colours = dict(zip(PROBLEMS, (COLOURS[0], COLOURS[2], COLOURS[6]), strict=False))
    axes_of = np.array(figure.axes).reshape(len(SCORES), len(MECHANISMS))
    for row, (score, label) in enumerate(SCORES.items()):
        for column, (mechanism, strength) in enumerate(MECHANISMS.items()):
            axes = axes_of[row, column]
            for problem, colour in colours.items():
                (alone,) = (c for c in cells if c.problem == problem and c.condition == WITHOUT[mechanism])
                axes.axhline(np.mean([run[score] for run in alone.runs]), color=colour, linestyle=":", linewidth=1.2)
                shown = [c for c in cells if c.problem == problem and c.condition.mechanism == mechanism]
                x = [c.condition.strength for c in shown]
                mean = np.array([np.mean([run[score] for run in c.runs]) for c in shown])
                error = np.abs(np.array([mean_interval([run[score] for run in c.runs]) for c in shown]).T - mean)
                axes.errorbar(x, mean, error, color=colour, linewidth=1.2, capsize=2, label=problem)
                for matched, face in ((True, colour), (False, "white")):
                    rows = [i for i, c in enumerate(shown) if _matched(c) == matched]
                    axes.plot([x[i] for i in rows], mean[rows], "o", color=colour, markerfacecolor=face, markersize=6)
            axes.set_xscale("log")
            axes.set_ylim((-0.15, 0.5) if score == "silhouette" else (0, 1.05))
            axes.minorticks_off()
            axes.set_xticks(x, [f"{value:.3g}" for value in x])
            axes.spines[["top", "right"]].set_visible(False)
            if row == 0:
                axes.set_title(mechanism, fontsize=11)
            if column == 0:
                axes.set_ylabel(label)
            if row == len(SCORES) - 1:
                axes.set_xlabel(strength)
    handles, names = axes_of[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=3, frameon=False, fontsize=11)
    figure.suptitle(
        "dotted: L_spread alone (last column: with a smooth start); filled: at the same measured spread, hollow: not; "
        "bars: 95% intervals over seeds",
        fontsize=10,
    )
    return figure
